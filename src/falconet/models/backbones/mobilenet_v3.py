"""MobileNetV3: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244), tables 1 and 2.

A stage is a run of blocks of the same size and number of channels. Numbers as in torchvision, also the norms' eps of
0.001; timm's weights were trained with 0.00001. Own difference: the norms' momentum is torch's usual 0.1, not 0.01.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    InvertedResidual,
    SqueezeExcite,
    StagedBackbone,
    check_stages,
    last_stages,
    make_divisible,
)
from falconet.models.layers import Activation, ConvNormAct

Variant = Literal["large", "small"]

STEM_CHANNELS = 16
NORM_EPS = 1e-3


class BlockSpec(NamedTuple):
    """One block of the paper's tables."""

    kernel_size: int
    hidden_channels: int
    channels: int
    squeeze_excite: bool
    activation: Activation
    stride: int


STAGES: dict[str, tuple[tuple[BlockSpec, ...], ...]] = {
    "large": (
        (BlockSpec(3, 16, 16, False, "relu", 1),),
        (BlockSpec(3, 64, 24, False, "relu", 2), BlockSpec(3, 72, 24, False, "relu", 1)),
        (
            BlockSpec(5, 72, 40, True, "relu", 2),
            BlockSpec(5, 120, 40, True, "relu", 1),
            BlockSpec(5, 120, 40, True, "relu", 1),
        ),
        (
            BlockSpec(3, 240, 80, False, "hard-swish", 2),
            BlockSpec(3, 200, 80, False, "hard-swish", 1),
            BlockSpec(3, 184, 80, False, "hard-swish", 1),
            BlockSpec(3, 184, 80, False, "hard-swish", 1),
        ),
        (BlockSpec(3, 480, 112, True, "hard-swish", 1), BlockSpec(3, 672, 112, True, "hard-swish", 1)),
        (
            BlockSpec(5, 672, 160, True, "hard-swish", 2),
            BlockSpec(5, 960, 160, True, "hard-swish", 1),
            BlockSpec(5, 960, 160, True, "hard-swish", 1),
        ),
    ),
    "small": (
        (BlockSpec(3, 16, 16, True, "relu", 2),),
        (BlockSpec(3, 72, 24, False, "relu", 2), BlockSpec(3, 88, 24, False, "relu", 1)),
        (
            BlockSpec(5, 96, 40, True, "hard-swish", 2),
            BlockSpec(5, 240, 40, True, "hard-swish", 1),
            BlockSpec(5, 240, 40, True, "hard-swish", 1),
        ),
        (BlockSpec(5, 120, 48, True, "hard-swish", 1), BlockSpec(5, 144, 48, True, "hard-swish", 1)),
        (
            BlockSpec(5, 288, 96, True, "hard-swish", 2),
            BlockSpec(5, 576, 96, True, "hard-swish", 1),
            BlockSpec(5, 576, 96, True, "hard-swish", 1),
        ),
    ),
}
STRIDES = {"large": (2, 4, 8, 16, 16, 32), "small": (4, 8, 16, 16, 32)}


class MobileNetV3Config(Config):
    """MobileNetV3 as a backbone."""

    name: Literal["mobilenet-v3"] = "mobilenet-v3"
    variant: Variant = "large"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="stages that are returned; null: 2, 4, 5 of large, 1, 3, 4 of small: strides 8, 16, 32",
    )
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 6 times the channels at the end")
    norm_eps: float = Field(default=NORM_EPS, gt=0, le=0.1, description="of the norms; timm's weights need 1e-5")

    @model_validator(mode="after")
    def _stages_exist(self) -> "MobileNetV3Config":
        check_stages(self.stages(), len(STAGES[self.variant]), with_last_conv=self.with_last_conv)
        return self

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for the variant."""
        return last_stages(STRIDES[self.variant]) if self.out_stages is None else self.out_stages

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return mobilenet_v3(
            variant=self.variant,
            width=self.width,
            out_stages=self.stages(),
            with_last_conv=self.with_last_conv,
            norm_eps=self.norm_eps,
        )


def mobilenet_v3(
    *,
    variant: Variant = "large",
    width: float = 1.0,
    out_stages: Sequence[int],
    with_last_conv: bool = False,
    norm_eps: float = NORM_EPS,
) -> StagedBackbone:
    """MobileNetV3 without its classifier; the arguments are described at `MobileNetV3Config`."""
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width)
    stages, channels = [], []
    for rows in STAGES[variant]:
        stage = nn.Sequential()
        for row in rows:
            stage.append(_block(in_channels, row, width, norm_eps))
            in_channels = make_divisible(row.channels * width)
        stages.append(stage)
        channels.append(in_channels)
    last_conv = ConvNormAct(in_channels, 6 * in_channels, activation="hard-swish", eps=norm_eps)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation="hard-swish", eps=norm_eps),
        stages,
        channels=channels,
        strides=STRIDES[variant],
        out_stages=out_stages,
        last_conv=last_conv if with_last_conv else None,
    )


def _block(in_channels: int, row: BlockSpec, width: float, norm_eps: float) -> InvertedResidual:
    hidden = make_divisible(row.hidden_channels * width)
    squeeze = SqueezeExcite(hidden, make_divisible(hidden / 4), gate="hard-sigmoid") if row.squeeze_excite else None
    return InvertedResidual(
        in_channels,
        make_divisible(row.channels * width),
        hidden_channels=hidden,
        kernel_size=row.kernel_size,
        stride=row.stride,
        activation=row.activation,
        squeeze_excite=squeeze,
        eps=norm_eps,
    )
