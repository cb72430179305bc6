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
from falconet.models import ModelConfig
from falconet.models.backbones import Darknet53Config, MobileNetV2Config
from falconet.models.weights import Card
from falconet.models.yolov3 import YOLOv3Config
from falconet.zoo.backbone_keys import check_fit
from falconet.zoo.class_lists import CLASS_LISTS
from falconet.zoo.imported import Imported
from falconet.zoo.yolov3_keys import convert

Arrays = Mapping[str, NDArray[Any]]

ANCHORS_PER_LEVEL = 3
OUTPUT = "last_layer0.6.weight"


def is_yolov3(state: Arrays) -> bool:
    """Whether these are the weights of a YOLOv3 of that repository."""
    return OUTPUT in state or f"module.{OUTPUT}" in state


def import_yolov3(
    state: Arrays,
    path: Path,
    *,
    preprocess: Preprocess | None = None,
    config: ModelConfig | None = None,
    classes: Sequence[str] | None = None,
    source: str = "",
    licence: str = "",
) -> Imported:
    """The detector of a state dict.

    Args:
        state: weights by the original's names.
        path: of the file, for messages.
        preprocess: only its size counts (None: 416 x 416). Pixels are red, green, blue from 0 to 1.
        config: of the model where it is known; None takes the anchors of COCO and the backbone that the names tell.
        classes: names in the order of training; None is right for the 80 of COCO and the 20 of VOC.
        source, licence: of the weights, for the card.

    Raises:
        ModelError: of another architecture, or of another number of classes than names were given.
    """
    output = np.asarray(state.get(OUTPUT, state.get(f"module.{OUTPUT}")))
    per_anchor, rest = divmod(output.shape[0] if output.ndim else 0, ANCHORS_PER_LEVEL)
    if rest or per_anchor < 6:
        raise ModelError(
            f"{path}: {OUTPUT} has shape {list(output.shape)}; expected 3 x (5 + classes) outputs, one set per anchor"
        )
    names = _names(per_anchor - 5, classes, str(path))
    notes: tuple[str, ...] = ()
    if config is None:
        config, notes = YOLOv3Config(backbone=_backbone(state)), ("the anchors of COCO were taken",)
    if not isinstance(config, YOLOv3Config):
        raise ModelError(f"{path}: holds a YOLOv3, but the configuration is that of {config.name}")
    side = (416, 416) if preprocess is None else (preprocess.height, preprocess.width)
    config = config.model_copy(update={"input": replace(config.input, height=side[0], width=side[1])})
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
        Card(model=config, classes=names, source=source or path.name, licence=licence),
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
