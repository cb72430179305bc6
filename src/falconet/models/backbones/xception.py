"""Xception: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017 (arXiv:1610.02357),
figure 5, with the numbers of keras-team/keras-applications (MIT).

Residual blocks of separable convolutions with one norm after the pointwise part; the activation comes before each.
The paper's section 4.7 compares an activation between depthwise and pointwise part with none, which is better.

Own differences: the two convolutions of the stem pad their input, so that sides become ceil(side / 2); `width`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, make_divisible, stages_exist
from falconet.models.layers import ACTIVATIONS, Activation, ConvNormAct

STEM_CHANNELS = (32, 64)
MIDDLE_BLOCKS = 8
STRIDES = (4, 8, 16, 32)


class XceptionConfig(Config):
    """Xception as a backbone."""

    name: Literal["xception"] = "xception"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3], ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned: strides 4, 8, 16, 32"
    )
    activation: Activation = "relu"
    middle_activation: Activation = Field(
        default="none", description="between depthwise and pointwise part of each separable convolution"
    )

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return xception(**self.settings())


class SeparableUnit(nn.Module):
    """Depthwise 3x3 convolution, perhaps an activation, pointwise convolution with a norm, perhaps an activation.

    Args:
        in_channels, out_channels: of the unit.
        middle_activation, activation: between the two convolutions and after the norm.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, middle_activation: Activation, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.middle = ACTIVATIONS[middle_activation]()
        self.pointwise = ConvNormAct(in_channels, out_channels, activation=activation)

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        return self.pointwise(self.middle(self.depthwise(features)))


class XceptionBlock(nn.Module):
    """Units, each after an activation, and pooling where the block halves; plus the input or a convolution of it.

    Args:
        channels: before the first unit and after each.
        stride: 2 halves the resolution by a 3x3 maximum.
        activation, middle_activation: before the units and within them.
        activate_input: False leaves out the activation before the first unit, where the input already has one.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        stride: int = 1,
        activation: Activation,
        middle_activation: Activation,
        activate_input: bool = True,
    ) -> None:
        super().__init__()
        self.units = nn.Sequential()
        for index, (in_channels, out_channels) in enumerate(pairwise(channels)):
            if index or activate_input:
                act = ACTIVATIONS[activation]()
                act.inplace = False  # the shortcut reads the same features
                self.units.append(act)
            self.units.append(SeparableUnit(in_channels, out_channels, middle_activation=middle_activation))
        self.pool: nn.Module = nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.pool = nn.MaxPool2d(3, stride=stride, padding=1)
        if stride > 1 or channels[0] != channels[-1]:
            self.shortcut = ConvNormAct(channels[0], channels[-1], stride=stride, activation="none")

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        return self.pool(self.units(features)) + self.shortcut(features)


def xception(
    *,
    width: float = 1.0,
    out_stages: Sequence[int] = (1, 2, 3),
    activation: Activation = "relu",
    middle_activation: Activation = "none",
) -> StagedBackbone:
    """Xception without its classifier; the arguments are described at `XceptionConfig`."""

    def block(*channels: int, stride: int = 1, activate_input: bool = True) -> XceptionBlock:
        return XceptionBlock(
            [make_divisible(count * width) for count in channels],
            stride=stride,
            activation=activation,
            middle_activation=middle_activation,
            activate_input=activate_input,
        )

    def unit(in_channels: int, out_channels: int) -> SeparableUnit:
        return SeparableUnit(
            make_divisible(in_channels * width),
            make_divisible(out_channels * width),
            middle_activation=middle_activation,
            activation=activation,
        )

    first, second = (make_divisible(count * width) for count in STEM_CHANNELS)
    return StagedBackbone(
        nn.Sequential(
            ConvNormAct(3, first, 3, stride=2, activation=activation),
            ConvNormAct(first, second, 3, activation=activation),
        ),
        [
            nn.Sequential(block(64, 128, 128, stride=2, activate_input=False)),
            nn.Sequential(block(128, 256, 256, stride=2)),
            nn.Sequential(block(256, 728, 728, stride=2), *(block(728, 728, 728, 728) for _ in range(MIDDLE_BLOCKS))),
            nn.Sequential(block(728, 728, 1024, stride=2), unit(1024, 1536), unit(1536, 2048)),
        ],
        channels=[make_divisible(count * width) for count in (128, 256, 728, 2048)],
        strides=STRIDES,
        out_stages=out_stages,
    )
