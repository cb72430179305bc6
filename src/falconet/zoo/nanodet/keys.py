"""Names of weights: those of RangiLyu/nanodet (and of torchvision's ShuffleNetV2) to ours. Needs no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

AUXILIARY = ("auxiliary_neck.", "auxiliary_head.")
"""Prefixes of the assign-guidance branch, which belongs to the criterion."""

_CONV_NORM = {"conv": "conv", "bn": "norm", "gn": "norm"}
_PAIR = {
    "depthwise": "depthwise.conv",
    "dwnorm": "depthwise.norm",
    "pointwise": "pointwise.conv",
    "pwnorm": "pointwise.norm",
}
_SEQUENCE = ("0.conv", "0.norm", "1.conv", "1.norm")
_BOTTLENECK = {
    "0": "0.conv",
    "1": "0.norm",
    "3": "1.conv",
    "4": "1.norm",
    "5": "2.conv",
    "6": "2.norm",
}
_GHOST = {"primary_conv": "primary", "cheap_operation": "cheap"}
_LISTS = {
    "top_down_blocks": "top_down",
    "bottom_up_blocks": "bottom_up",
    "downsamples": "downsample",
    "extra_lvl_in_conv": "extra_in",
    "extra_lvl_out_conv": "extra_out",
    "cls_convs": "class_convs",
    "reg_convs": "box_convs",
    "gfl_cls": "class_output",
    "gfl_reg": "box_output",
}


@dataclass(frozen=True, slots=True)
class Converted(Generic[Value]):
    """A state dict in our names.

    Attributes:
        detector: of `falconet.models.Detector`.
        auxiliary: of the criterion's assign-guidance branch, with the prefixes in `AUXILIARY`.
        unused: upstream names that have no place in either, such as the constant `distribution_project`.
    """

    detector: dict[str, Value]
    auxiliary: dict[str, Value]
    unused: tuple[str, ...]


def convert(state: Mapping[str, Value]) -> Converted[Value]:
    """`state` with the names of NanoDet-Plus models of RangiLyu/nanodet in our names; values are passed on."""
    detector: dict[str, Value] = {}
    auxiliary: dict[str, Value] = {}
    unused = []
    residual = any(".reduce_conv." in key for key in state)
    for key, value in state.items():
        name = convert_key(key, residual=residual)
        if name is None:
            unused.append(key)
        elif name.startswith(AUXILIARY):
            auxiliary[name] = value
        else:
            detector[name] = value
    return Converted(detector, auxiliary, tuple(unused))


def convert_key(key: str, *, residual: bool = False) -> str | None:
    """Our name of one weight of NanoDet-Plus, None if it has none.

    Args:
        key: the original's name.
        residual: the neck's blocks have a convolution around them (`use_res`), so that they are in a list.
    """
    part, _, rest = key.partition(".")
    if part == "backbone":
        name = backbone_key(rest)
        return None if name is None else f"backbone.{name}"
    if part in ("fpn", "aux_fpn"):
        name = _neck_key(rest, residual=residual)
        return None if name is None else f"{'neck' if part == 'fpn' else 'auxiliary_neck'}.{name}"
    if part == "head":
        name = _head_key(rest)
        return None if name is None else f"head.{name}"
    if part == "aux_head":
        name = _auxiliary_head_key(rest)
        return None if name is None else f"auxiliary_head.{name}"
    return None


def backbone_key(key: str) -> str | None:
    """Our name of one weight of ShuffleNetV2, as NanoDet or torchvision names it; None if it has none."""
    if found := re.fullmatch(r"(conv1|conv5|stage4\.conv5)\.([01])\.(\w+)", key):
        block = "stem" if found[1] == "conv1" else "last_conv"
        return f"{block}.{('conv', 'norm')[int(found[2])]}.{found[3]}"
    if found := re.fullmatch(r"stage([234])\.(\d+)\.branch([12])\.(\d)\.(\w+)", key):
        stage, unit, branch, layer, leaf = found.groups()
        place = f"stages.{int(stage) - 2}." + ("down" if unit == "0" else f"units.{int(unit) - 1}")
        if branch == "2" and layer in _BOTTLENECK:
            return f"{place}.branch.{_BOTTLENECK[layer]}.{leaf}"
        if branch == "1" and unit == "0" and int(layer) < len(_SEQUENCE):
            return f"{place}.shortcut.{_SEQUENCE[int(layer)]}.{leaf}"
    return None


def _neck_key(key: str, *, residual: bool) -> str | None:
    if found := re.fullmatch(r"reduce_layers\.(\d+)\.(conv|bn)\.(\w+)", key):
        return f"reduce.{found[1]}.{_CONV_NORM[found[2]]}.{found[3]}"
    if found := re.fullmatch(
        r"(downsamples|extra_lvl_in_conv|extra_lvl_out_conv)\.(\d+)\.(depthwise|dwnorm|pointwise|pwnorm)\.(\w+)", key
    ):
        return f"{_LISTS[found[1]]}.{found[2]}.{_PAIR[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"(downsamples|extra_lvl_in_conv|extra_lvl_out_conv)\.(\d+)\.(conv|bn)\.(\w+)", key):
        return f"{_LISTS[found[1]]}.{found[2]}.{_CONV_NORM[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"(top_down_blocks|bottom_up_blocks)\.(\d+)\.reduce_conv\.(conv|bn)\.(\w+)", key):
        return f"{_LISTS[found[1]]}.{found[2]}.residual.{_CONV_NORM[found[3]]}.{found[4]}"
    found = re.fullmatch(r"(top_down_blocks|bottom_up_blocks)\.(\d+)\.blocks\.(\d+)\.(.+)", key)
    if found is None or (found[3] != "0" and not residual):
        return None
    row = f".blocks.{found[3]}" if residual else ""
    block, rest = f"{_LISTS[found[1]]}.{found[2]}{row}", found[4]
    if found := re.fullmatch(r"ghost([12])\.(primary_conv|cheap_operation)\.([01])\.(\w+)", rest):
        layer = ("conv", "norm")[int(found[3])]
        return f"{block}.ghosts.{int(found[1]) - 1}.{_GHOST[found[2]]}.{layer}.{found[4]}"
    if found := re.fullmatch(r"shortcut\.([0-3])\.(\w+)", rest):
        return f"{block}.shortcut.{_SEQUENCE[int(found[1])]}.{found[2]}"
    return None


def _head_key(key: str) -> str | None:
    if found := re.fullmatch(r"cls_convs\.(\d+)\.(\d+)\.(depthwise|dwnorm|pointwise|pwnorm)\.(\w+)", key):
        return f"convs.{found[1]}.{found[2]}.{_PAIR[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"cls_convs\.(\d+)\.(\d+)\.(conv|bn)\.(\w+)", key):
        return f"convs.{found[1]}.{found[2]}.{_CONV_NORM[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"gfl_cls\.(\d+)\.(weight|bias)", key):
        return f"outputs.{found[1]}.{found[2]}"
    return None


def _auxiliary_head_key(key: str) -> str | None:
    if found := re.fullmatch(r"(cls_convs|reg_convs)\.(\d+)\.(conv|gn)\.(weight|bias)", key):
        return f"{_LISTS[found[1]]}.{found[2]}.{_CONV_NORM[found[3]]}.{found[4]}"
    if found := re.fullmatch(r"(gfl_cls|gfl_reg)\.(weight|bias)", key):
        return f"{_LISTS[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"scales\.(\d+)\.scale", key):
        return f"scales.{found[1]}"
    return None
