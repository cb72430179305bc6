"""Names of weights: those of PaddleDetection's PP-YOLOE to ours. Needs no torch."""

import re
from collections.abc import Collection, Mapping

from falconet.zoo.nanodet.keys import Converted, Value

CONSTANT = "yolo_head.proj_conv.weight"
"""0..reg_max: the original computes the mean of a distribution by a convolution with it."""

CONSTANTS = (CONSTANT, "yolo_head.anchor_points", "yolo_head.stride_tensor")
"""What the original may keep beside its weights, such as the places of one input size; ours makes them itself."""

_LEAVES = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}
_LAYERS = {"conv": "conv", "bn": "norm"}
_STAGE = {"conv_down": "down", "conv1": "bypass", "conv2": "entry", "conv3": "transition"}
_REPVGG = {"conv1": "wide", "conv2": "point"}
_BRANCHES = {"cls": "class", "reg": "box"}


def convert(state: Mapping[str, Value]) -> Converted[Value]:
    """`state` with the names of PP-YOLOE models of PaddleDetection in our names; values are passed on."""
    levels = count_levels(state)
    pooled_after = _pooling_place(state)
    detector: dict[str, Value] = {}
    auxiliary: dict[str, Value] = {}
    unused = []
    for key, value in state.items():
        if key.startswith("aux_neck."):
            name = _convert_key(key.removeprefix("aux_"), levels=levels, pooled_after=pooled_after)
            name = None if name is None else f"auxiliary_{name}"
        elif key.startswith("aux_head."):
            name = _auxiliary_head_key(key.removeprefix("aux_head."), levels=levels)
        else:
            name = _convert_key(key, levels=levels, pooled_after=pooled_after)
        if name is None:
            unused.append(key)
        else:
            (auxiliary if key.startswith("aux_") else detector)[name] = value
    return Converted(detector, auxiliary, tuple(unused))


def count_levels(state: Collection[str]) -> int:
    """How many levels the head has."""
    found = (re.match(r"yolo_head\.pred_cls\.(\d+)\.", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _pooling_place(state: Collection[str]) -> int | None:
    """The block of the coarsest stage after which pyramid pooling follows; None without it."""
    top = "neck.fpn_stages.0.0.convs."
    if not any(key.startswith(f"{top}spp.") for key in state):
        return None
    found = (re.match(re.escape(top) + r"(\d+)\.", key) for key in state)
    blocks = max((int(match[1]) + 1 for match in found if match), default=0)
    return (blocks - 1) // 2


def _convert_key(key: str, *, levels: int, pooled_after: int | None) -> str | None:
    """Our name of one weight, None if it has none."""
    if found := re.fullmatch(r"backbone\.stem\.conv(\d)\.(conv|bn)\.(\w+)", key):
        return _named(f"backbone.stem.{int(found[1]) - 1}", found[2], found[3])
    if found := re.fullmatch(r"backbone\.(stages\.\d+)\.(.+)", key):
        return _stage_key(f"backbone.{found[1]}", found[2], pooled_after=None, residual=True)
    if found := re.fullmatch(r"neck\.(fpn|pan)_stages\.(\d+)\.0\.(.+)", key):
        # Lists of the original start at the coarsest level.
        down, number = found[1] == "fpn", int(found[2])
        place = f"neck.top_down.{number}" if down else f"neck.bottom_up.{levels - 2 - number}"
        return _stage_key(place, found[3], pooled_after=pooled_after if down and number == 0 else None, residual=False)
    if found := re.fullmatch(r"neck\.(fpn|pan)_routes\.(\d+)\.(conv|bn)\.(\w+)", key):
        number = int(found[2])
        place = f"neck.reduce.{number}" if found[1] == "fpn" else f"neck.downsample.{levels - 2 - number}"
        return _named(place, found[3], found[4])
    return _head_key(key, levels=levels)


def _stage_key(place: str, rest: str, *, pooled_after: int | None, residual: bool) -> str | None:
    """A weight within a stage; the neck calls its blocks `convs`."""
    if found := re.fullmatch(r"(conv_down|conv[123])\.(conv|bn)\.(\w+)", rest):
        return _named(f"{place}.{_STAGE[found[1]]}", found[2], found[3])
    if found := re.fullmatch(r"attn\.fc\.(weight|bias)", rest):
        return f"{place}.attention.excite.{found[1]}"
    if found := re.fullmatch(r"convs\.spp\.conv\.(conv|bn)\.(\w+)", rest):
        return None if pooled_after is None else _named(f"{place}.blocks.{pooled_after + 1}.conv", found[1], found[2])
    found = re.fullmatch(r"(?:blocks|convs)\.(\d+)\.(conv[12])\.(.+)", rest)
    if found is None:
        return None
    number, layer, rest = int(found[1]), found[2], found[3]
    if pooled_after is not None and number > pooled_after:
        number += 1
    first, second = ("conv", "repvgg") if residual else ("0", "1")
    if layer == "conv1":
        inner = re.fullmatch(r"(conv|bn)\.(\w+)", rest)
        return None if inner is None else _named(f"{place}.blocks.{number}.{first}", inner[1], inner[2])
    if rest == "alpha":
        return f"{place}.blocks.{number}.{second}.alpha"
    inner = re.fullmatch(r"(conv[12])\.(conv|bn)\.(\w+)", rest)
    return (
        None if inner is None else _named(f"{place}.blocks.{number}.{second}.{_REPVGG[inner[1]]}", inner[2], inner[3])
    )


def _head_key(key: str, *, levels: int) -> str | None:
    if found := re.fullmatch(r"yolo_head\.stem_(cls|reg)\.(\d+)\.fc\.(weight|bias)", key):
        return f"head.{_BRANCHES[found[1]]}_branches.{levels - 1 - int(found[2])}.0.excite.{found[3]}"
    if found := re.fullmatch(r"yolo_head\.stem_(cls|reg)\.(\d+)\.conv\.(conv|bn)\.(\w+)", key):
        return _named(f"head.{_BRANCHES[found[1]]}_branches.{levels - 1 - int(found[2])}.1", found[3], found[4])
    if found := re.fullmatch(r"yolo_head\.stem_(cls|reg)\.(\d+)\.conv\.(conv[12])\.(conv|bn)\.(\w+)", key):
        place = f"head.{_BRANCHES[found[1]]}_branches.{levels - 1 - int(found[2])}.1.{_REPVGG[found[3]]}"
        return _named(place, found[4], found[5])
    if found := re.fullmatch(r"yolo_head\.pred_(cls|reg)\.(\d+)\.(weight|bias)", key):
        return f"head.{_BRANCHES[found[1]]}_predictions.{levels - 1 - int(found[2])}.{found[3]}"
    return None


def _auxiliary_head_key(key: str, *, levels: int) -> str | None:
    if found := re.fullmatch(r"(cls|reg)_convs\.(\d+)\.(conv|norm)\.(weight|bias)", key):
        return f"auxiliary_head.{_BRANCHES[found[1]]}_convs.{found[2]}.{found[3]}.{found[4]}"
    if found := re.fullmatch(r"gfl_(cls|reg)\.(weight|bias)", key):
        return f"auxiliary_head.{_BRANCHES[found[1]]}_output.{found[2]}"
    if found := re.fullmatch(r"scales\.(\d+)\.scale", key):
        return f"auxiliary_head.scales.{levels - 1 - int(found[1])}"
    return None


def _named(place: str, layer: str, leaf: str) -> str | None:
    """The name of a convolution's weight or of a norm's."""
    return f"{place}.{_LAYERS[layer]}.{_LEAVES[leaf]}" if leaf in _LEAVES else None
