"""MobileNetV1: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
2017 (arXiv:1704.04861), table 1.

Thirteen separable convolutions in a row, without shortcuts; norms and ReLU after both convolutions of each. A stage
ends where the resolution halves. Own addition: `middle_activation`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import SqueezeExcite, StagedBackbone, make_divisible, stages_exist
from falconet.models.layers import Activation, ConvNormAct, SeparableConv

STEM_CHANNELS = 32
STRIDES = (2, 4, 8, 16, 32)


class BlockSpec(NamedTuple):
    """One separable convolution."""

    kernel_size: int
    channels: int
    stride: int
    squeeze_excite: bool = False


STAGES: tuple[tuple[BlockSpec, ...], ...] = (
    (BlockSpec(3, 64, 1),),
    (BlockSpec(3, 128, 2), BlockSpec(3, 128, 1)),
    (BlockSpec(3, 256, 2), BlockSpec(3, 256, 1)),
    (BlockSpec(3, 512, 2), *(BlockSpec(3, 512, 1) for _ in range(5))),
    (BlockSpec(3, 1024, 2), BlockSpec(3, 1024, 1)),
)


class MobileNetV1Config(Config):
    """MobileNetV1 as a backbone."""

    name: Literal["mobilenet-v1"] = "mobilenet-v1"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 2, 4, 8, 16, 32"
    )
    activation: Activation = "relu"
    middle_activation: Activation | None = Field(
        default=None, description="between depthwise and pointwise convolution; null: as activation"
    )

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return separable(
            STAGES,
            stem_channels=STEM_CHANNELS,
            width=self.width,
            out_stages=self.out_stages,
            activation=self.activation,
            middle_activation=self.middle_activation,
        )


def separable(
    stages: Sequence[Sequence[BlockSpec]],
    *,
    stem_channels: int,
    width: float,
    out_stages: Sequence[int],
    activation: Activation,
    middle_activation: Activation | None = None,
) -> StagedBackbone:
    """A 3x3 convolution of stride 2, then five stages of separable convolutions, of which all but the first halve.

    Args:
        stages: blocks of each; channels not yet scaled.
        stem_channels: of the first convolution, not yet scaled.
        width: multiple of all channels.
        out_stages: stages that are returned.
        activation: of all convolutions.
        middle_activation: of the depthwise ones, in place of `activation`.
    """
    in_channels = stem_channels = make_divisible(stem_channels * width)
    modules, channels = [], []
    for rows in stages:
        stage = nn.Sequential()
        for row in rows:
            squeeze = SqueezeExcite(in_channels, in_channels // 4, gate="hard-sigmoid") if row.squeeze_excite else None
            out_channels = make_divisible(row.channels * width)
            stage.append(
                SeparableConv(
                    in_channels,
                    out_channels,
                    row.kernel_size,
                    stride=row.stride,
                    activation=activation,
                    middle_activation=middle_activation,
                    squeeze_excite=squeeze,
                )
            )
            in_channels = out_channels
        modules.append(stage)
        channels.append(in_channels)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        modules,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
    )
