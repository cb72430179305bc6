"""RepVGG: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021 (arXiv:2101.03697), tables 2 and 3.

Blocks of a 3x3 convolution, a 1x1 convolution and, where the shape stays, a norm of the input; after `fuse` a plain
row of 3x3 convolutions. The first block of each stage halves the resolution. Numbers as in DingXiaoH/RepVGG (MIT).

Own additions: `width`, `depth`.
"""

from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import RepVGGBlock, StagedBackbone, stages_exist
from falconet.models.layers import Activation

CHANNELS = (64, 128, 256, 512)
STRIDES = (4, 8, 16, 32)
Variant = Literal["a0", "a1", "a2", "b0", "b1", "b2", "b3"]


class Scale(NamedTuple):
    """One member of the family: multiples of the channels of each stage, blocks of each stage."""

    widths: tuple[float, float, float, float]
    blocks: tuple[int, int, int, int]


_A, _B = (2, 4, 14, 1), (4, 6, 16, 1)
SCALES: dict[Variant, Scale] = {
    "a0": Scale((0.75, 0.75, 0.75, 2.5), _A),
    "a1": Scale((1, 1, 1, 2.5), _A),
    "a2": Scale((1.5, 1.5, 1.5, 2.75), _A),
    "b0": Scale((1, 1, 1, 2.5), _B),
    "b1": Scale((2, 2, 2, 4), _B),
    "b2": Scale((2.5, 2.5, 2.5, 5), _B),
    "b3": Scale((3, 3, 3, 5), _B),
}


class RepVGGConfig(Config):
    """RepVGG as a backbone."""

    name: Literal["repvgg"] = "repvgg"
    variant: Variant = "a0"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the variant's number of channels")
    depth: float = Field(default=1.0, gt=0, le=4, description="multiple of the variant's number of blocks")
    out_stages: tuple[Literal[0, 1, 2, 3], ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned: strides 4, 8, 16, 32"
    )
    identity: bool = Field(default=True, description="the branch of each block that is only a norm of the input")
    activation: Activation = "relu"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return repvgg(**self.settings())


def repvgg(
    *,
    variant: Variant = "a0",
    width: float = 1.0,
    depth: float = 1.0,
    out_stages: tuple[int, ...] = (1, 2, 3),
    identity: bool = True,
    activation: Activation = "relu",
) -> StagedBackbone:
    """RepVGG without its classifier; the arguments are described at `RepVGGConfig`."""
    scale = SCALES[variant]
    channels = [max(1, round(count * factor * width)) for count, factor in zip(CHANNELS, scale.widths, strict=True)]
    in_channels = stem_channels = min(max(1, round(CHANNELS[0] * width)), channels[0])
    stages = []
    for out_channels, blocks in zip(channels, scale.blocks, strict=True):
        stage = nn.Sequential()
        for index in range(max(1, round(blocks * depth))):
            stride = 2 if index == 0 else 1
            stage.append(
                RepVGGBlock(in_channels, out_channels, stride=stride, activation=activation, identity=identity)
            )
            in_channels = out_channels
        stages.append(stage)
    return StagedBackbone(
        RepVGGBlock(3, stem_channels, stride=2, activation=activation, identity=identity),
        stages,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
    )
