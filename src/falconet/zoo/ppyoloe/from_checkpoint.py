"""PP-YOLOE checkpoints of PaddleDetection (`.pdparams`) as detectors of ours. Nothing in them is ever run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.core.suggest import listed
from falconet.models import build
from falconet.models.backbones import CSPResNetConfig
from falconet.models.backbones.cspresnet import DESIGNS
from falconet.models.layers import Activation
from falconet.models.ppyoloe import INPUT, PLUS_INPUT, Branch, CSPPANConfig, PPYOLOEConfig, PPYOLOEHeadConfig
from falconet.zoo.formats.paddle_files import read_paddle
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.nanodet.ncnn_to_onnx import class_names
from falconet.zoo.ppyoloe.keys import CONSTANT, CONSTANTS, convert, count_levels

Arrays = Mapping[str, NDArray[Any]]

PARTS = ("backbone.", "neck.", "yolo_head.")
"""What the detector consists of; weights of other names are left over."""

SHOWN = 6
"""Names in a message before it says "and so many more"."""


def import_paddle(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
) -> Imported:
    """The detector in a checkpoint of PaddleDetection's PP-YOLOE or PP-YOLOE+.

    Args:
        path: `.pdparams`, with the names of a whole model.
        options: of the input only the size counts (None: 640 x 640). Normalisation follows from the configuration, or
            from the kind of model: a learnt alpha in the backbone makes it PP-YOLOE+.

    Raises:
        ModelError: the file cannot be read, asks for more than arrays, is of another architecture, or incomplete.
    """
    state = read_paddle(path)
    _check_parts(state, str(path))
    count, bins = _outputs(state, str(path))
    names = class_names(count, options.classes, str(path))
    notes, config = [], options.config
    if config is None:
        config = _config(state, bins=bins, where=str(path))
        taken = "ReLU was taken, as in tiny-relu" if config.head.branch == "none" else "SiLU was taken, as published"
        notes.append(f"activations are not told by weights: {taken}")
    if not isinstance(config, PPYOLOEConfig):
        raise ModelError(f"{path}: holds a PP-YOLOE, but the configuration is that of {config.name}")
    config = options.resized(config)
    with torch.random.fork_rng(devices=[]):
        detector = build(config, count).eval()
    converted = convert(state)
    own = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    _check(state, converted.detector, own, str(path))
    weights, extra = (
        {name: torch.from_numpy(np.array(value, np.float32)) for name, value in part.items()}
        for part in (converted.detector, converted.auxiliary)
    )
    # The original keeps each factor as a vector of one.
    extra = {name: value.reshape(()) if ".scales." in name else value for name, value in extra.items()}
    detector.load_state_dict(weights, strict=False)
    return Imported(
        detector,
        options.card(config, names, path.name),
        matched=len(weights),
        left_over=tuple(key for key in converted.unused if key not in CONSTANTS),
        notes=tuple(notes),
        extra=extra,
    )


def _check_parts(state: Arrays, where: str) -> None:
    """Raise ModelError unless this is some PP-YOLOE."""
    needed = {
        "a CSPResNet backbone": "backbone.stages.0.conv_down.conv.weight",
        "a CustomCSPPAN neck": "neck.fpn_stages.0.0.conv1.conv.weight",
        "a PPYOLOEHead": "yolo_head.pred_cls.0.weight",
    }
    missing = [f"{what} ({key})" for what, key in needed.items() if key not in state]
    if missing:
        parts = sorted({".".join(key.split(".")[:2]) for key in state})
        raise ModelError(
            f"{where}: is no complete PP-YOLOE: {', '.join(missing)} missing; its weights belong to "
            f"{listed(parts, SHOWN)}"
        )
    constant = state.get(CONSTANT)
    if constant is not None and not np.array_equal(constant.ravel(), np.arange(constant.size)):
        raise ModelError(
            f"{where}: its distances run from {constant.min():g} to {constant.max():g} (reg_range); ours start at 0"
        )
    if any(key.startswith("neck.fpn_stages.0.1.") for key in state):
        raise ModelError(f"{where}: its neck has several stages per level (stage_num); ours has one")


def _outputs(state: Arrays, where: str) -> tuple[int, int]:
    """(classes, bins per side)."""
    keys = ("yolo_head.pred_cls.0.bias", "yolo_head.pred_reg.0.bias")
    sizes = [state[key].size if key in state else 0 for key in keys]
    if not all(sizes) or sizes[1] % 4 or sizes[1] < 8:
        raise ModelError(
            f"{where}: {keys[0]} and {keys[1]} tell of {sizes[0]} classes and {sizes[1]} / 4 bins per side; that is no "
            "PPYOLOEHead"
        )
    return sizes[0], sizes[1] // 4


def _config(state: Arrays, *, bins: int, where: str) -> PPYOLOEConfig:
    """The configuration that the names and shapes tell."""
    large = "backbone.stem.conv3.conv.weight" in state
    stem = state.get(f"backbone.stem.conv{3 if large else 2}.conv.weight")
    levels = count_levels(state)
    last = state.get(f"neck.fpn_stages.{levels - 1}.0.conv3.conv.weight")
    first = state.get("neck.fpn_stages.0.0.conv3.conv.weight")
    if stem is None or last is None:
        absent = "backbone.stem" if stem is None else f"neck.fpn_stages.{levels - 1}"
        raise ModelError(f"{where}: {absent} is missing or incomplete, so the network's size cannot be told")
    alpha = any(key.startswith("backbone.") and key.endswith(".alpha") for key in state)
    blocks = tuple(_count(state, rf"backbone\.stages\.{stage}\.blocks\.(\d+)\.") for stage in range(4))
    branch = _branch(state)
    activation: Activation = "relu" if branch == "none" else "silu"
    return PPYOLOEConfig(
        input=PLUS_INPUT if alpha else INPUT,
        backbone=CSPResNetConfig.model_validate(
            {
                **_size(stem.shape[0], blocks, where),
                "stem": None if large else "small",
                "alpha": alpha,
                "out_stages": tuple(range(4 - levels, 4)),
                "activation": activation if branch == "none" else None,
            }
        ),
        neck=CSPPANConfig(
            channels=last.shape[0],
            growth=1 if levels > 1 and first is not None and first.shape[0] == last.shape[0] else 2,
            blocks=_count(state, r"neck\.fpn_stages\.0\.0\.convs\.(\d+)\."),
            pooling=any(key.startswith("neck.fpn_stages.0.0.convs.spp.") for key in state),
            alpha=any(key.startswith("neck.") and key.endswith(".alpha") for key in state),
            activation=activation,
        ),
        head=PPYOLOEHeadConfig(reg_max=bins - 1, branch=branch, activation=activation),
    )


def _branch(state: Arrays) -> Branch:
    """What stands behind the head's gates."""
    gated = [key for key in state if key.startswith("yolo_head.stem_")]
    if any(".conv.conv1." in key for key in gated):
        return "repvgg"
    return "conv" if any(".conv.conv." in key for key in gated) else "none"


def _size(stem_channels: int, blocks: tuple[int, ...], where: str) -> dict[str, Any]:
    """Variant, width and depth of a backbone; the latter two only where no variant has them."""
    depths = {}
    for variant in ("s", "m", "l", "x"):
        design = DESIGNS[variant]
        if tuple(max(1, round(count * design.depth)) for count in design.blocks) != blocks:
            continue
        if round(design.stem_channels * design.width) == stem_channels:
            return {"variant": variant}
        depths[variant] = stem_channels / design.stem_channels
    if not depths:
        raise ModelError(f"{where}: its backbone has stages of {list(blocks)} blocks, which is no depth known here")
    variant, width = next(iter(depths.items()))
    return {"variant": variant, "width": width}


def _count(state: Arrays, pattern: str) -> int:
    found = (re.match(pattern, key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _check(state: Arrays, weights: Arrays, own: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise ModelError unless every weight of the model is there, in its shape, and none besides."""
    theirs = convert({key: key for key in state}).detector
    missing = [f"{name} {list(own[name])}" for name in own if name not in weights and not name.endswith("_tracked")]
    if missing:
        raise ModelError(f"{where}: {len(missing)} weights are missing; by our names: {listed(missing, SHOWN)}")
    surplus = [f"{theirs[name]} {list(value.shape)}" for name, value in weights.items() if name not in own]
    placed = {*theirs.values(), *CONSTANTS}
    surplus += [f"{key} {list(state[key].shape)}" for key in state if key.startswith(PARTS) and key not in placed]
    if surplus:
        raise ModelError(f"{where}: {len(surplus)} weights have no place in the model: {listed(surplus, SHOWN)}")
    others = [
        f"{theirs[name]} is {list(value.shape)}, expected {list(own[name])}"
        for name, value in weights.items()
        if value.shape != own[name]
    ]
    if others:
        raise ModelError(f"{where}: {len(others)} weights have another shape than the model's: {listed(others, SHOWN)}")
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelError(
                f"{where}: {theirs[name]} holds numbers that are not finite; the training of this model diverged"
            )
