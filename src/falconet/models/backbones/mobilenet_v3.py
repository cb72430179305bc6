"""MobileNetV3: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244), tables 1 and 2.

A stage is a run of blocks of the same size and number of channels. Numbers as in torchvision, also the norms' eps of
0.001; timm's weights were trained with 0.00001. Own difference: the norms' momentum is torch's usual 0.1, not 0.01.

The paper's squeeze-excite stands between depthwise convolution and projection ("middle"), a quarter of that as wide.
A variant that is often met puts it behind the projection ("last": a twenty-fifth of its parameters)
and a pointwise convolution on the shortcut where a block of stride 1 changes the number of channels, so that each such
block adds its input.
"""

from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    InvertedResidual,
    SqueezeExcite,
    StagedBackbone,
    check_stages,
    chosen_stages,
    make_divisible,
)
from falconet.models.layers import Activation, ConvNormAct

Variant = Literal["large", "small"]
Order = Literal["middle", "last", "none"]
Shortcut = Literal["identity", "convolution"]

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
    squeeze_excite: Order = Field(
        default="middle", description="middle: before the projection; last: after it; none: nowhere"
    )
    squeeze_ratio: float = Field(
        default=0.25, gt=0, le=1, description="channels in the middle of squeeze-excite per channel it acts on"
    )
    shortcut: Shortcut = Field(
        default="identity", description="convolution: a 1x1 one where only the number of channels changes"
    )
    norm_eps: float = Field(default=NORM_EPS, gt=0, le=0.1, description="of the norms; timm's weights need 1e-5")

    @model_validator(mode="after")
    def _stages_exist(self) -> "MobileNetV3Config":
        check_stages(self.stages(), len(STAGES[self.variant]), with_last_conv=self.with_last_conv)
        return self

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for the variant."""
        return chosen_stages(self.out_stages, STRIDES[self.variant])

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        in_channels = stem_channels = make_divisible(STEM_CHANNELS * self.width)
        stages, channels = [], []
        for rows in STAGES[self.variant]:
            stage = nn.Sequential()
            for row in rows:
                stage.append(self._block(in_channels, row))
                in_channels = make_divisible(row.channels * self.width)
            stages.append(stage)
            channels.append(in_channels)
        last_conv = ConvNormAct(in_channels, 6 * in_channels, activation="hard-swish", eps=self.norm_eps)
        return StagedBackbone(
            ConvNormAct(3, stem_channels, 3, stride=2, activation="hard-swish", eps=self.norm_eps),
            stages,
            channels=channels,
            strides=STRIDES[self.variant],
            out_stages=self.stages(),
            last_conv=last_conv if self.with_last_conv else None,
        )

    def _block(self, in_channels: int, row: BlockSpec) -> InvertedResidual:
        hidden, out_channels = (make_divisible(count * self.width) for count in (row.hidden_channels, row.channels))
        squeeze = None
        if row.squeeze_excite and self.squeeze_excite != "none":
            width = hidden if self.squeeze_excite == "middle" else out_channels
            squeeze = SqueezeExcite(width, make_divisible(width * self.squeeze_ratio), gate="hard-sigmoid")
        shortcut = None
        if self.shortcut == "convolution" and row.stride == 1 and in_channels != out_channels:
            shortcut = ConvNormAct(in_channels, out_channels, activation="none", eps=self.norm_eps)
        return InvertedResidual(
            in_channels,
            out_channels,
            hidden_channels=hidden,
            kernel_size=row.kernel_size,
            stride=row.stride,
            activation=row.activation,
            squeeze_excite=squeeze if self.squeeze_excite == "middle" else None,
            output_excite=squeeze if self.squeeze_excite == "last" else None,
            shortcut=shortcut,
            eps=self.norm_eps,
        )
