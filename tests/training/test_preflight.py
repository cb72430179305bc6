"""Warnings before the first step: anchors that do not fit."""

from pathlib import Path

import numpy as np

from falconet.core.types import Record
from falconet.models import PRESETS
from falconet.models.yolov3 import YOLOv3HeadConfig
from falconet.training.preflight import preflight_warnings
from falconet.training.run_config import RunConfig

DATA = {"train": {"annotations": "train.json", "split": "train"}}


def records(side):
    boxes = np.array([[0, 0, side, side]] * 3 + [[0, 0, 30, 60]], np.float32)
    return [Record("a", Path("a.png"), 320, 320, boxes, np.zeros(4), np.zeros(4, bool))]


def run(model):
    return RunConfig.model_validate({"model": model, "data": DATA})


def test_anchors_that_fit_need_no_words():
    assert preflight_warnings(run(PRESETS["yolov3-tiny"]), records(60)) == []
    assert preflight_warnings(run(PRESETS["yolov3-tiny"]), []) == []


def test_anchors_that_do_not_fit():
    assert preflight_warnings(run(PRESETS["yolov3-tiny"]), records(4)) == [
        "the anchors fit 25% of the boxes only (IoU above 0.5 with the best anchor, at 320 x 320); find better ones "
        "with: falconet data anchors train.json --split train --run RUN.yaml"
    ]


def test_only_anchors_in_a_mask_count():
    head = YOLOv3HeadConfig(anchors=((4, 4), (30, 60), (90, 90), (100, 100)), masks=((1,), (2,), (3,)))
    model = PRESETS["yolov3-mobilenet-v2"].model_copy(update={"head": head})
    assert len(preflight_warnings(run(model), records(4))) == 1


def test_models_without_anchors():
    assert preflight_warnings(run(PRESETS["nanodet-plus-demo"]), records(4)) == []
