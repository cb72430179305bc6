"""PP-LCNet: Cui et al., "PP-LCNet: A Lightweight CPU Convolutional Neural Network" (arXiv:2109.15099), table 1
(PaddlePaddle/PaddleClas, Apache-2.0).

MobileNetV1's separable convolutions with hard swish; 5x5 filters and squeeze-excite only where they pay on a CPU,
which is at the end. There are no shortcuts.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import SqueezeExcite, StagedBackbone, make_divisible, stages_exist
from falconet.models.layers import Activation, ConvNormAct, SeparableConv

STEM_CHANNELS = 16
STRIDES = (2, 4, 8, 16, 32)


class BlockSpec(NamedTuple):
    """One separable convolution."""

    kernel_size: int
    channels: int
    stride: int
    squeeze_excite: bool = False


STAGES: tuple[tuple[BlockSpec, ...], ...] = (
    (BlockSpec(3, 32, 1),),
    (BlockSpec(3, 64, 2), BlockSpec(3, 64, 1)),
    (BlockSpec(3, 128, 2), BlockSpec(3, 128, 1)),
    (BlockSpec(3, 256, 2), *(BlockSpec(5, 256, 1) for _ in range(5))),
    (BlockSpec(5, 512, 2, True), BlockSpec(5, 512, 1, True)),
)


class LCNetConfig(Config):
    """PP-LCNet as a backbone."""

    name: Literal["lcnet"] = "lcnet"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 2, 4, 8, 16, 32"
    )
    activation: Activation = "hard-swish"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return lcnet(width=self.width, out_stages=self.out_stages, activation=self.activation)


def lcnet(
    *, width: float = 1.0, out_stages: Sequence[int] = (2, 3, 4), activation: Activation = "hard-swish"
) -> StagedBackbone:
    """PP-LCNet without its classifier; the arguments are described at `LCNetConfig`."""
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width)
    stages, channels = [], []
    for rows in STAGES:
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
                    squeeze_excite=squeeze,
                )
            )
            in_channels = out_channels
        stages.append(stage)
        channels.append(in_channels)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        stages,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
    )
