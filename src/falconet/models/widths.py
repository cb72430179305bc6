"""The configuration of the same network with fewer channels, or with another activation."""

from typing import Any

from falconet.core.errors import ConfigError
from falconet.models import ModelConfig
from falconet.models.backbones import ShuffleNetV2Config
from falconet.models.backbones.blocks import make_divisible
from falconet.models.layers import ACTIVATIONS

LEAST = 8
"""Channels that a neck or a head keeps."""


def narrower(model: ModelConfig, share: float) -> ModelConfig:
    """`model` with a share of the channels of its backbone, neck and head.

    Depth, levels and input stay, so that `falconet.models.channels.narrow` can fill the result. ShuffleNetV2 keeps the
    channels between its units, which every shuffle mixes, and loses those within them.

    Args:
        model: of any kind.
        share: 0 to 1; channels are rounded, most of them to a multiple of 8.
    """
    tree = model.model_dump()
    for part in ("neck", "head"):
        if isinstance(tree.get(part), dict) and "channels" in tree[part]:
            tree[part]["channels"] = max(LEAST, make_divisible(tree[part]["channels"] * share))
    backbone = tree["backbone"]
    if isinstance(model.backbone, ShuffleNetV2Config):
        backbone["bottleneck"] = round(backbone["bottleneck"] * share, 4)
    else:
        backbone["width"] = round(_width(model) * share, 4)
    return type(model).model_validate(tree)


def _width(model: ModelConfig) -> float:
    """Multiple of the channels that the backbone has now, also where its variant says so."""
    backbone: Any = model.backbone
    if backbone.width is not None:
        return float(backbone.width)
    return float(backbone.design().width)


def with_activation(model: ModelConfig, activation: str) -> ModelConfig:
    """`model` with this activation in backbone, neck and head.

    Args:
        model: of any kind.
        activation: a key of `ACTIVATIONS`.

    Raises:
        ConfigError: there is no such activation, or those of the backbone are part of its design, as of MobileNetV3.
    """
    tree = model.model_dump()
    if activation not in ACTIVATIONS:
        raise ConfigError(f"--activation {activation}: is not known; expected one of {', '.join(ACTIVATIONS)}")
    if "activation" not in tree["backbone"]:
        raise ConfigError(f"--activation {activation}: the activations of {model.backbone.name} cannot be chosen")
    for part in ("backbone", "neck", "head"):
        if isinstance(tree.get(part), dict) and "activation" in tree[part]:
            tree[part]["activation"] = activation
    return type(model).model_validate(tree)
