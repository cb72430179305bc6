"""YOLOv3 checkpoints of bubbliiiing/yolo3-pytorch (`.pth`) as detectors of ours. Nothing in them is ever run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models.backbones import Darknet53Config, MobileNetV2Config
from falconet.models.yolov3 import YOLOv3Config
from falconet.zoo.class_lists import CLASS_LISTS
from falconet.zoo.classifiers.keys import check_fit
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.yolov3.keys import convert

Arrays = Mapping[str, NDArray[Any]]

ANCHORS_PER_LEVEL = 3
OUTPUT = "last_layer0.6.weight"


def is_yolov3(state: Arrays) -> bool:
    """Whether these are the weights of a YOLOv3 of that repository."""
    return OUTPUT in state or f"module.{OUTPUT}" in state


def import_yolov3(
    state: Arrays,
    path: Path,
    options: ImportOptions = NO_OPTIONS,
) -> Imported:
    """The detector of a state dict.

    Args:
        state: weights by the original's names.
        path: of the file, for messages.
        options: of the input only the size counts (None: 416 x 416); pixels are red, green, blue from 0 to 1. Without
            a configuration the anchors of COCO are taken, and the backbone that the names tell.

    Raises:
        ModelError: of another architecture, or of another number of classes than names were given.
    """
    output = np.asarray(state.get(OUTPUT, state.get(f"module.{OUTPUT}")))
    per_anchor, rest = divmod(output.shape[0] if output.ndim else 0, ANCHORS_PER_LEVEL)
    if rest or per_anchor < 6:
        raise ModelError(
            f"{path}: {OUTPUT} has shape {list(output.shape)}; expected 3 x (5 + classes) outputs, one set per anchor"
        )
    names = _names(per_anchor - 5, options.classes, str(path))
    notes: tuple[str, ...] = ()
    config = options.config
    if config is None:
        config, notes = YOLOv3Config(backbone=_backbone(state)), ("the anchors of COCO were taken",)
    if not isinstance(config, YOLOv3Config):
        raise ModelError(f"{path}: holds a YOLOv3, but the configuration is that of {config.name}")
    config = (replace(options, preprocess=options.preprocess or Preprocess(height=416, width=416))).resized(config)
    with torch.random.fork_rng(devices=[]):
        detector = config.build(len(names)).eval()
    own = detector.state_dict()
    converted = convert(config.backbone.name, state, own, num_anchors=ANCHORS_PER_LEVEL)
    check_fit(converted, {name: tuple(value.shape) for name, value in own.items()}, source=str(path), prefix="")
    for name, value in converted.weights.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite; the training of this model diverged")
    detector.load_state_dict(
        {name: torch.from_numpy(np.array(value)).to(own[name].dtype) for name, value in converted.weights.items()},
        strict=False,
    )
    return Imported(
        detector,
        options.card(config, names, path.name),
        matched=len(converted.weights),
        left_over=tuple(name for name in converted.unused if not name.endswith("num_batches_tracked")),
        notes=notes,
    )


def _names(count: int, classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    known = next((names for names in CLASS_LISTS.values() if len(names) == count), None)
    if classes is None and known is None:
        raise ModelError(f"{where}: has {count} classes; pass their names in the order of training (--classes)")
    names = known if classes is None else tuple(classes)
    assert names is not None, "either is given"
    if len(names) != count:
        raise ModelError(f"{where}: has {count} classes, but {len(names)} names were given: {', '.join(names[:10])}")
    return names


def _backbone(state: Arrays) -> Darknet53Config | MobileNetV2Config:
    if any(re.match(r"(module\.)?backbone\.(model\.)?features\.", name) for name in state):
        return MobileNetV2Config()
    return Darknet53Config()
