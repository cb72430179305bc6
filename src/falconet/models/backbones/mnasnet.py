"""MnasNet: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019
(arXiv:1807.11626). The network is MnasNet-B1, the one without squeeze-excite, with the numbers of torchvision.

Own difference: the norms' momentum is torch's usual 0.1 instead of 0.0003.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import InvertedResidual, StagedBackbone, make_divisible, stages_exist
from falconet.models.layers import Activation, ConvNormAct


class BlockSpec(NamedTuple):
    """One stage: equal blocks, of which the first may halve the resolution."""

    kernel_size: int
    expansion: int
    channels: int
    blocks: int
    stride: int


ROWS = (
    BlockSpec(3, 1, 16, 1, 1),
    BlockSpec(3, 3, 24, 3, 2),
    BlockSpec(5, 3, 40, 3, 2),
    BlockSpec(5, 6, 80, 3, 2),
    BlockSpec(3, 6, 96, 2, 1),
    BlockSpec(5, 6, 192, 4, 2),
    BlockSpec(3, 6, 320, 1, 1),
)
STRIDES = (2, 4, 8, 16, 16, 32, 32)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
"""Not scaled."""


class MnasNetConfig(Config):
    """MnasNet as a backbone."""

    name: Literal["mnasnet"] = "mnasnet"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4, 5, 6], ...] = Field(
        default=(2, 4, 6), min_length=1, description="stages that are returned; 2, 4, 6 end strides 8, 16, 32"
    )
    activation: Activation = "relu"
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 1280 channels after stage 6")

    _stages_exist = model_validator(mode="after")(stages_exist(len(ROWS)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return mnasnet(**self.settings())


def mnasnet(
    *,
    width: float = 1.0,
    out_stages: Sequence[int] = (2, 4, 6),
    activation: Activation = "relu",
    with_last_conv: bool = False,
) -> StagedBackbone:
    """MnasNet without its classifier; the arguments are described at `MnasNetConfig`."""
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width)
    stages, channels = [], []
    for row in ROWS:
        out_channels = make_divisible(row.channels * width)
        stage = nn.Sequential()
        for index in range(row.blocks):
            stage.append(
                InvertedResidual(
                    in_channels,
                    out_channels,
                    hidden_channels=in_channels * row.expansion,
                    kernel_size=row.kernel_size,
                    stride=row.stride if index == 0 else 1,
                    activation=activation,
                )
            )
            in_channels = out_channels
        stages.append(stage)
        channels.append(out_channels)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        stages,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
        last_conv=ConvNormAct(in_channels, LAST_CHANNELS, activation=activation) if with_last_conv else None,
    )
