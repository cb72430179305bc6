"""Names and rows of YOLOv3: those of bubbliiiing/yolo3-pytorch (MIT) and of darknet to ours. Needs no torch."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.zoo.classifiers import keys as backbone_keys
from falconet.zoo.classifiers.keys import Converted

_LAYERS = {"conv": "conv", "bn": "norm"}


def our_rows(num_anchors: int, num_classes: int) -> NDArray[np.int64]:
    """Where each row of our last convolutions lies in darknet's.

    Darknet: per anchor x, y, width, height, objectness, classes. Ours: all classes, all boxes, all objectnesses.
    """
    table = np.arange(num_anchors * (5 + num_classes)).reshape(num_anchors, -1)
    return np.concatenate([table[:, 5:].ravel(), table[:, :4].ravel(), table[:, 4]])


def convert(
    backbone: str, state: Mapping[str, NDArray[Any]], target: Collection[str], *, num_anchors: int = 3
) -> Converted[NDArray[Any]]:
    """`state` of a YOLOv3 of yolo3-pytorch in the names of our detector.

    Args:
        backbone: name of the backbone's configuration.
        state: weights by the original's names, perhaps behind "module.".
        target: names in the state dict of the detector to be filled.
        num_anchors: per level.
    """
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    inner = {key: value for key, value in plain.items() if key.startswith("backbone.")}
    found = backbone_keys.convert(backbone, inner, [name for name in target if name.startswith("backbone.")])
    weights, unused = dict(found.weights), list(found.unused)
    levels = sum(bool(re.fullmatch(r"head\.outputs\.\d+\.weight", name)) for name in target)
    for key, value in plain.items():
        if key in inner:
            continue
        name = head_key(key, levels=levels)
        if name is None or name not in target:
            unused.append(key)
        elif name.startswith("head.outputs."):
            weights[name] = value[our_rows(num_anchors, len(value) // num_anchors - 5)]
        else:
            weights[name] = value
    missing = [name for name in target if name not in weights and not name.endswith("num_batches_tracked")]
    return Converted(weights, tuple(unused), tuple(missing))


def head_key(key: str, *, levels: int = 3) -> str | None:
    """Our name of one weight outside of the backbone; None if it has none. Theirs count from the coarsest level."""
    if found := re.fullmatch(r"last_layer(\d)_conv\.(conv|bn)\.(\w+)", key):
        return f"neck.laterals.{int(found[1]) - 1}.{_LAYERS[found[2]]}.{found[3]}"
    if found := re.fullmatch(r"last_layer(\d)\.([0-5])\.(conv|bn)\.(\w+)", key):
        level, index, layer, leaf = int(found[1]), int(found[2]), _LAYERS[found[3]], found[4]
        place = f"neck.sets.{level}.{index}" if index < 5 else f"head.convs.{levels - 1 - level}"
        return f"{place}.{layer}.{leaf}"
    if found := re.fullmatch(r"last_layer(\d)\.6\.(weight|bias)", key):
        return f"head.outputs.{levels - 1 - int(found[1])}.{found[2]}"
    return None
