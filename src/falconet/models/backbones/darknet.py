"""Darknet-53: Redmon, Farhadi, "YOLOv3: An Incremental Improvement" (arXiv:1804.02767), table 1; and the small
backbone of YOLOv3-tiny.

The slope of the leaky rectifier is 0.1 as in YOLOv3; timm's weights were trained with 0.01, which is the
activation "leaky-relu-0.01" here. Own addition: `width`.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, stages_exist
from falconet.models.layers import Activation, ConvNormAct

STEM_CHANNELS = 32
CHANNELS = (64, 128, 256, 512, 1024)
BLOCKS = (1, 2, 8, 8, 4)
STRIDES = (2, 4, 8, 16, 32)


class Darknet53Config(Config):
    """Darknet-53 as a backbone."""

    name: Literal["darknet53"] = "darknet53"
    width: float = Field(default=1.0, ge=0.0625, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 2, 4, 8, 16, 32"
    )
    activation: Activation = "leaky-relu"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return darknet53(width=self.width, out_stages=self.out_stages, activation=self.activation)


class Residual(nn.Module):
    """A pointwise convolution to half of the channels and a 3x3 back, plus the input."""

    def __init__(self, channels: int, *, activation: Activation) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2, activation=activation)
        self.conv = ConvNormAct(channels // 2, channels, 3, activation=activation)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return features + self.conv(self.reduce(features))


def darknet53(
    *, width: float = 1.0, out_stages: Sequence[int] = (2, 3, 4), activation: Activation = "leaky-relu"
) -> StagedBackbone:
    """Darknet-53 without its classifier; the arguments are described at `Darknet53Config`."""
    in_channels = stem_channels = max(2, round(STEM_CHANNELS * width))
    channels = [2 * max(1, round(count * width / 2)) for count in CHANNELS]
    stages = []
    for out_channels, blocks in zip(channels, BLOCKS, strict=True):
        stages.append(
            nn.Sequential(
                ConvNormAct(in_channels, out_channels, 3, stride=2, activation=activation),
                *(Residual(out_channels, activation=activation) for _ in range(blocks)),
            )
        )
        in_channels = out_channels
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, activation=activation),
        stages,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
    )


class DarknetTinyConfig(Config):
    """The backbone of YOLOv3-tiny."""

    name: Literal["darknet-tiny"] = "darknet-tiny"
    width: float = Field(default=1.0, ge=0.0625, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 2, 4, 8, 16, 32"
    )
    activation: Activation = "leaky-relu"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return darknet_tiny(width=self.width, out_stages=self.out_stages, activation=self.activation)


class SameMaxPool(nn.Module):
    """The largest value of each 2 x 2 window that begins at a place; beyond the right and lower border is nothing.

    Height and width stay.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.pool(features)[..., 1:, 1:]


def darknet_tiny(
    *, width: float = 1.0, out_stages: Sequence[int] = (2, 3, 4), activation: Activation = "leaky-relu"
) -> StagedBackbone:
    """The backbone of YOLOv3-tiny (pjreddie/darknet, cfg/yolov3-tiny.cfg): 3x3 convolutions and max pooling."""
    stem_channels, *channels = (max(1, round(count * width)) for count in (16, 32, 64, 128, 256, 512, 1024))
    in_channels = stem_channels
    stages = []
    for out_channels in channels[:5]:
        stages.append(
            nn.Sequential(
                # As many cells as a convolution of stride 2 leaves, also for an odd side.
                nn.MaxPool2d(2, ceil_mode=True),
                ConvNormAct(in_channels, out_channels, 3, activation=activation),
            )
        )
        in_channels = out_channels
    stages[-1].extend((SameMaxPool(), ConvNormAct(in_channels, channels[5], 3, activation=activation)))
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, activation=activation),
        stages,
        channels=(*channels[:4], channels[5]),
        strides=STRIDES,
        out_stages=out_stages,
    )
