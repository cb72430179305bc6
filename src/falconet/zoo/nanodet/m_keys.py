"""Names of weights: those of first-generation NanoDet models of RangiLyu/nanodet to ours. Needs no torch."""

import re
from collections.abc import Mapping

from falconet.zoo.nanodet.keys import Converted, Value, backbone_key

_PAIR = {
    "depthwise": "depthwise.conv",
    "dwnorm": "depthwise.norm",
    "pointwise": "pointwise.conv",
    "pwnorm": "pointwise.norm",
}


def convert(state: Mapping[str, Value]) -> Converted[Value]:
    """`state` with the names of RangiLyu/nanodet's `GFL` / `OneStageDetector` in our names."""
    detector: dict[str, Value] = {}
    unused = []
    for key, value in state.items():
        name = convert_key(key)
        if name is None:
            unused.append(key)
        else:
            detector[name] = value
    return Converted(detector, {}, tuple(unused))


def convert_key(key: str) -> str | None:
    """Our name of one weight, None if it has none (the constant projection, the unused `gfl_reg`)."""
    if key.startswith("backbone."):
        name = backbone_key(key.removeprefix("backbone."))
        return None if name is None else f"backbone.{name}"
    if found := re.fullmatch(r"fpn\.lateral_convs\.(\d+)\.conv\.(weight|bias)", key):
        return f"neck.reduce.{found[1]}.{found[2]}"
    if found := re.fullmatch(r"head\.cls_convs\.(\d+)\.(\d+)\.(depthwise|dwnorm|pointwise|pwnorm)\.(\w+)", key):
        return f"head.convs.{found[1]}.{found[2]}.{_PAIR[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"head\.gfl_cls\.(\d+)\.(weight|bias)", key):
        return f"head.outputs.{found[1]}.{found[2]}"
    return None
