"""EfficientNet: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946), tables 1 and 2, and EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite,
Apache-2.0).

Width, depth and resolution grow together ("compound scaling"). Lite leaves squeeze-excite out, uses ReLU6, and
scales neither the stem nor the last convolution nor the depth of the first and last stage. The norms' eps is
1e-5 as in torchvision and timm, 1e-3 in Lite as in the original (timm's own Lite weights: 1e-5).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    InvertedResidual,
    SqueezeExcite,
    StagedBackbone,
    make_divisible,
    stages_exist,
)
from falconet.models.layers import Activation, ConvNormAct


class BlockSpec(NamedTuple):
    """One stage of EfficientNet-B0."""

    kernel_size: int
    expansion: int
    channels: int
    blocks: int
    stride: int


ROWS = (
    BlockSpec(3, 1, 16, 1, 1),
    BlockSpec(3, 6, 24, 2, 2),
    BlockSpec(5, 6, 40, 2, 2),
    BlockSpec(3, 6, 80, 3, 2),
    BlockSpec(5, 6, 112, 3, 1),
    BlockSpec(5, 6, 192, 4, 2),
    BlockSpec(3, 6, 320, 1, 1),
)
STRIDES = (2, 4, 8, 16, 16, 32, 32)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
LITE_NORM_EPS = 1e-3
Stage = Literal[0, 1, 2, 3, 4, 5, 6]


class Scale(NamedTuple):
    """One member of the family."""

    width: float
    depth: float
    resolution: int
    dropout: float


SCALES = {
    "b0": Scale(1.0, 1.0, 224, 0.2),
    "b1": Scale(1.0, 1.1, 240, 0.2),
    "b2": Scale(1.1, 1.2, 260, 0.3),
    "b3": Scale(1.2, 1.4, 300, 0.3),
    "b4": Scale(1.4, 1.8, 380, 0.4),
}
LITE_SCALES = {
    "lite0": Scale(1.0, 1.0, 224, 0.2),
    "lite1": Scale(1.0, 1.1, 240, 0.2),
    "lite2": Scale(1.1, 1.2, 260, 0.3),
    "lite3": Scale(1.2, 1.4, 280, 0.3),
    "lite4": Scale(1.4, 1.8, 300, 0.3),
}


class EfficientNetConfig(Config):
    """EfficientNet as a backbone."""

    name: Literal["efficientnet"] = "efficientnet"
    variant: Literal["b0", "b1", "b2", "b3", "b4"] = "b0"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the channels; null: the variant's")
    depth: float | None = Field(default=None, gt=0, le=8, description="multiple of the blocks; null: the variant's")
    out_stages: tuple[Stage, ...] = Field(
        default=(2, 4, 6), min_length=1, description="stages that are returned; 2, 4, 6 end strides 8, 16, 32"
    )
    activation: Activation = "silu"
    drop_connect: float = Field(
        default=0.2, ge=0, lt=1, description="share of samples that skip a block in training; grows from 0 to this"
    )
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 4 times the channels after stage 6")

    _stages_exist = model_validator(mode="after")(stages_exist(len(ROWS)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        scale = SCALES[self.variant]
        return efficientnet(
            width=scale.width if self.width is None else self.width,
            depth=scale.depth if self.depth is None else self.depth,
            out_stages=self.out_stages,
            activation=self.activation,
            drop_connect=self.drop_connect,
            with_last_conv=self.with_last_conv,
        )


class EfficientNetLiteConfig(Config):
    """EfficientNet-Lite as a backbone."""

    name: Literal["efficientnet-lite"] = "efficientnet-lite"
    variant: Literal["lite0", "lite1", "lite2", "lite3", "lite4"] = "lite0"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the channels; null: the variant's")
    depth: float | None = Field(default=None, gt=0, le=8, description="multiple of the blocks; null: the variant's")
    out_stages: tuple[Stage, ...] = Field(
        default=(2, 4, 6), min_length=1, description="stages that are returned; 2, 4, 6 end strides 8, 16, 32"
    )
    activation: Activation = "relu6"
    drop_connect: float = Field(
        default=0.2, ge=0, lt=1, description="share of samples that skip a block in training; grows from 0 to this"
    )
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 1280 channels after stage 6")
    norm_eps: float = Field(default=LITE_NORM_EPS, gt=0, le=0.1, description="of the norms; timm's weights need 1e-5")

    _stages_exist = model_validator(mode="after")(stages_exist(len(ROWS)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        scale = LITE_SCALES[self.variant]
        return efficientnet_lite(
            width=scale.width if self.width is None else self.width,
            depth=scale.depth if self.depth is None else self.depth,
            out_stages=self.out_stages,
            activation=self.activation,
            drop_connect=self.drop_connect,
            with_last_conv=self.with_last_conv,
            norm_eps=self.norm_eps,
        )


def efficientnet(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    out_stages: Sequence[int] = (2, 4, 6),
    activation: Activation = "silu",
    drop_connect: float = 0.2,
    with_last_conv: bool = False,
) -> StagedBackbone:
    """EfficientNet without its classifier; the arguments are described at `EfficientNetConfig`."""
    rows = [
        row._replace(channels=make_divisible(row.channels * width), blocks=math.ceil(row.blocks * depth))
        for row in ROWS
    ]
    return _assemble(
        rows,
        stem_channels=make_divisible(STEM_CHANNELS * width),
        last_channels=make_divisible(LAST_CHANNELS * width) if with_last_conv else None,
        out_stages=out_stages,
        activation=activation,
        drop_connect=drop_connect,
        squeeze_excite=True,
        eps=1e-5,
    )


def efficientnet_lite(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    out_stages: Sequence[int] = (2, 4, 6),
    activation: Activation = "relu6",
    drop_connect: float = 0.2,
    with_last_conv: bool = False,
    norm_eps: float = LITE_NORM_EPS,
) -> StagedBackbone:
    """EfficientNet-Lite without its classifier; the arguments are described at `EfficientNetLiteConfig`."""
    rows = [
        row._replace(
            channels=make_divisible(row.channels * width),
            blocks=row.blocks if index in (0, len(ROWS) - 1) else math.ceil(row.blocks * depth),
        )
        for index, row in enumerate(ROWS)
    ]
    return _assemble(
        rows,
        stem_channels=STEM_CHANNELS,
        last_channels=LAST_CHANNELS if with_last_conv else None,
        out_stages=out_stages,
        activation=activation,
        drop_connect=drop_connect,
        squeeze_excite=False,
        eps=norm_eps,
    )


def _assemble(
    rows: Sequence[BlockSpec],
    *,
    stem_channels: int,
    last_channels: int | None,
    out_stages: Sequence[int],
    activation: Activation,
    drop_connect: float,
    squeeze_excite: bool,
    eps: float,
) -> StagedBackbone:
    """The backbone of `rows` whose channels and blocks are already scaled."""
    total, done = sum(row.blocks for row in rows), 0
    in_channels = stem_channels
    stages = []
    for row in rows:
        stage = nn.Sequential()
        for index in range(row.blocks):
            hidden = in_channels * row.expansion
            squeeze = SqueezeExcite(hidden, max(1, in_channels // 4), activation=activation) if squeeze_excite else None
            stage.append(
                InvertedResidual(
                    in_channels,
                    row.channels,
                    hidden_channels=hidden,
                    kernel_size=row.kernel_size,
                    stride=row.stride if index == 0 else 1,
                    activation=activation,
                    squeeze_excite=squeeze,
                    drop_path=drop_connect * done / total,
                    eps=eps,
                )
            )
            in_channels = row.channels
            done += 1
        stages.append(stage)
    last_conv = None
    if last_channels is not None:
        last_conv = ConvNormAct(in_channels, last_channels, activation=activation, eps=eps)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation, eps=eps),
        stages,
        channels=[row.channels for row in rows],
        strides=STRIDES,
        out_stages=out_stages,
        last_conv=last_conv,
    )
