"""NanoDet and NanoDet-Plus checkpoints (`.ckpt`, `.pth`) as detectors of ours. Nothing in them is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models import ModelConfig, build
from falconet.models.backbones.shufflenet_v2 import STAGE_CHANNELS
from falconet.zoo.formats.torch_files import Chosen
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.nanodet import keys as nanodet_keys
from falconet.zoo.nanodet import m_keys as nanodet_m_keys
from falconet.zoo.nanodet.architectures import nanodet_config
from falconet.zoo.nanodet.ncnn_to_onnx import class_names

Arrays = Mapping[str, NDArray[Any]]

WITHOUT_PLACE = re.compile(r"(head|aux_head)\.distribution_project\.project|.*\.num_batches_tracked")
"""Constants of the original that ours makes itself, and counters."""

UNUSED = re.compile(r"head\.gfl_reg\.\d+\.(weight|bias)|head\.reg_convs\..*")
"""Weights that first-generation checkpoints carry although a shared head never uses them."""


def import_nanodet(
    chosen: Chosen,
    path: Path,
    options: ImportOptions = NO_OPTIONS,
) -> Imported:
    """The detector in a checkpoint of RangiLyu/nanodet.

    Args:
        chosen: its weights by the original's names.
        path: of the file.
        options: a checkpoint does not say its input; None takes 416 x 416 and NanoDet's normalisation.

    Raises:
        ModelError: the file cannot be read, asks for more than tensors, or is of another architecture.
    """
    architecture = _architecture(chosen.state, str(path))
    convert = nanodet_keys.convert if architecture == "nanodet-plus" else nanodet_m_keys.convert
    converted = convert(chosen.state)
    count, bins = _numbers(chosen.state, str(path))
    names = class_names(count, options.classes, str(path))
    config = options.config
    if config is None:
        preprocess = options.preprocess or Preprocess(height=416, width=416)
        config = _config(architecture, chosen.state, preprocess, bins=bins, where=str(path))
    with torch.random.fork_rng(devices=[]):
        detector = build(config, count).eval()
    state = _checked(converted.detector, detector.state_dict(), str(path))
    missing, _ = detector.load_state_dict(state, strict=False)
    left_over = [key for key in converted.unused if not WITHOUT_PLACE.fullmatch(key)]
    notes = [chosen.note] if chosen.note else []
    if unused := [key for key in left_over if UNUSED.fullmatch(key)]:
        notes.append(f"{len(unused)} of the tensors left over are not used by the original either")
    return Imported(
        detector,
        options.card(config, names, path.name),
        matched=len(state),
        extra={key: _tensor(value) for key, value in converted.auxiliary.items()},
        left_over=tuple(left_over),
        fresh=tuple(missing),
        notes=tuple(notes),
    )


def _architecture(state: Arrays, where: str) -> str:
    backbone = any(key.startswith("backbone.stage2.0.branch2.") for key in state)
    if backbone and "fpn.reduce_layers.0.conv.weight" in state and "head.gfl_cls.0.weight" in state:
        return "nanodet-plus"
    if backbone and "fpn.lateral_convs.0.conv.weight" in state and "head.gfl_cls.0.weight" in state:
        return "nanodet"
    parts = sorted({".".join(key.split(".")[:2]) for key in state})
    raise ModelError(
        f"{where}: is neither NanoDet nor NanoDet-Plus with a ShuffleNetV2 backbone; its weights belong to "
        f"{', '.join(parts[:8])}"
    )


def _numbers(state: Arrays, where: str) -> tuple[int, int]:
    """(classes, bins per side) of the output convolutions."""
    project = state.get("head.distribution_project.project")
    bins = 8 if project is None else project.size
    shape = state["head.gfl_cls.0.weight"].shape
    if len(shape) != 4 or shape[0] <= 4 * bins or bins < 2:
        raise ModelError(
            f"{where}: its output convolution of shape {list(shape)} has no room for classes and 4 x {bins} bins; "
            "heads that do not share convolutions between classes and boxes (share_cls_reg: False) are not supported"
        )
    return shape[0] - 4 * bins, bins


def _config(architecture: str, state: Arrays, preprocess: Preprocess, *, bins: int, where: str) -> ModelConfig:
    """The configuration that the shapes of a checkpoint tell."""
    reduce = "fpn.reduce_layers" if architecture == "nanodet-plus" else "fpn.lateral_convs"
    first = f"{reduce}.0.conv.weight"
    needed = (first, "head.cls_convs.0.0.depthwise.weight", "head.cls_convs.0.0.pointwise.weight")
    shapes = {key: state[key].shape if key in state else () for key in needed}
    if any(len(shape) != 4 for shape in shapes.values()):
        raise ModelError(f"{where}: expected depthwise-separable convolutions in neck and head (conv_type: DWConv)")
    neck, kernel, channels = shapes[first][0], shapes[needed[1]][2], shapes[needed[2]][0]
    width = next((w for w, stages in STAGE_CHANNELS.items() if stages[0] == shapes[first][1]), None)
    stacked = sum(re.fullmatch(r"head\.cls_convs\.0\.\d+\.depthwise\.weight", key) is not None for key in state)
    if width is None:
        raise ModelError(f"{where}: its backbone gives {shapes[first][1]} channels, which is no width of ShuffleNetV2")
    head = {"channels": channels, "stacked_convs": stacked, "kernel_size": kernel, "reg_max": bins - 1}
    extra = sum(re.fullmatch(r"fpn\.extra_lvl_in_conv\.\d+\.depthwise\.weight", key) is not None for key in state)
    neck_kernel = next((v.shape[2] for k, v in state.items() if k == "fpn.downsamples.0.depthwise.weight"), kernel)
    sizes = {"channels": neck, "kernel_size": neck_kernel, "extra_levels": extra}
    return nanodet_config(architecture, preprocess, width=width, neck=sizes, head=head)


def _checked(state: Arrays, own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """`state` as tensors of the detector, or a ModelError that says what does not fit."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"{where}: {len(missing)} weights of the model are missing, the first is {missing[0]}")
    surplus = [key for key in state if key not in own]
    if surplus:
        raise ModelError(f"{where}: {len(surplus)} weights have no place in the model, the first is {surplus[0]}")
    result = {}
    for key, value in state.items():
        if value.shape != tuple(own[key].shape):
            raise ModelError(f"{where}: {key} has shape {list(value.shape)}, expected {list(own[key].shape)}")
        if not np.isfinite(value).all():
            raise ModelError(f"{where}: {key} holds numbers that are not finite; the training of this model diverged")
        result[key] = _tensor(value).to(own[key].dtype)
    return result


def _tensor(value: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(value))
