"""Warnings before the first step: anchors that do not fit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.models import PRESETS
from falconet.models.yolov3 import YOLOv3HeadConfig
from falconet.training import fit
from falconet.training.preflight import check_space, preflight_warnings
from falconet.training.run_config import RunConfig
from tests.training.tiny import draw, tiny_run

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


def test_a_disk_without_room_for_the_run(tmp_path, monkeypatch):
    network = nn.Linear(1024, 1024)  # 4 MB, so 10 files of that and a bit
    usage = shutil._ntuple_diskusage(1 << 40, 0, 20 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    check_space(tmp_path, network, resumed=True)
    with pytest.raises(DataError, match=r"20 MB are free, but .* of this run take about 41 MB"):
        check_space(tmp_path, network, resumed=False)


def test_a_run_without_room_leaves_no_folder(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(1 << 40, 0, 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="0 MB are free"):
        fit(tiny_run(draw(tmp_path / "data"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
