"""MobileNetV4-conv-S: Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024
(arXiv:2404.10518), section 3 (universal inverted bottleneck) and the table of MNv4-Conv-S.

Block list as in timm's mobilenetv4_conv_small. Only what runs fast everywhere: ReLU, no squeeze-excite, no
attention. Own addition: `width`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, make_divisible, stages_exist
from falconet.models.layers import Activation, ConvNormAct

STEM_CHANNELS = 32
LAST_CHANNELS = 960
STRIDES = (4, 8, 16, 32)


class Conv(NamedTuple):
    """A plain convolution."""

    kernel_size: int
    channels: int
    stride: int


class Universal(NamedTuple):
    """A universal inverted bottleneck; a kernel size of 0 leaves that depthwise convolution out."""

    start_kernel: int
    middle_kernel: int
    expansion: int
    channels: int
    stride: int


STAGES: tuple[tuple[Conv | Universal, ...], ...] = (
    (Conv(3, 32, 2), Conv(1, 32, 1)),
    (Conv(3, 96, 2), Conv(1, 64, 1)),
    (
        Universal(5, 5, 3, 96, 2),
        Universal(0, 3, 2, 96, 1),
        Universal(0, 3, 2, 96, 1),
        Universal(0, 3, 2, 96, 1),
        Universal(0, 3, 2, 96, 1),
        Universal(3, 0, 4, 96, 1),
    ),
    (
        Universal(3, 3, 6, 128, 2),
        Universal(5, 5, 4, 128, 1),
        Universal(0, 5, 4, 128, 1),
        Universal(0, 5, 3, 128, 1),
        Universal(0, 3, 4, 128, 1),
        Universal(0, 3, 4, 128, 1),
    ),
)


class MobileNetV4Config(Config):
    """MobileNetV4-conv-S as a backbone."""

    name: Literal["mobilenet-v4"] = "mobilenet-v4"
    variant: Literal["conv-s"] = "conv-s"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3], ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned: strides 4, 8, 16, 32"
    )
    activation: Activation = "relu"
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 960 channels after stage 3")

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return mobilenet_v4(
            width=self.width,
            out_stages=self.out_stages,
            activation=self.activation,
            with_last_conv=self.with_last_conv,
        )


class UniversalInvertedBottleneck(nn.Module):
    """An inverted bottleneck with a depthwise convolution before the expansion, after it, at both places or none.

    The input is added where the shapes agree. Only expansion and middle convolution have an activation.

    Args:
        in_channels, out_channels: of the block.
        hidden_channels: between expansion and projection.
        start_kernel, middle_kernel: kernel sizes of the two depthwise convolutions, 0 for none.
        stride: of the middle convolution, or of the first if there is no middle one.
        activation: of expansion and middle convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int,
        start_kernel: int,
        middle_kernel: int,
        stride: int = 1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        assert stride == 1 or start_kernel or middle_kernel, "only a depthwise convolution can halve the resolution"
        self.adds_input = stride == 1 and in_channels == out_channels
        self.start: nn.Module = nn.Identity()
        if start_kernel:
            self.start = ConvNormAct(
                in_channels,
                in_channels,
                start_kernel,
                stride=1 if middle_kernel else stride,
                depthwise=True,
                activation="none",
            )
        self.expand = ConvNormAct(in_channels, hidden_channels, activation=activation)
        self.middle: nn.Module = nn.Identity()
        if middle_kernel:
            self.middle = ConvNormAct(
                hidden_channels, hidden_channels, middle_kernel, stride=stride, depthwise=True, activation=activation
            )
        self.project = ConvNormAct(hidden_channels, out_channels, activation="none")

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        block = self.project(self.middle(self.expand(self.start(features))))
        return features + block if self.adds_input else block


def mobilenet_v4(
    *,
    width: float = 1.0,
    out_stages: Sequence[int] = (1, 2, 3),
    activation: Activation = "relu",
    with_last_conv: bool = False,
) -> StagedBackbone:
    """MobileNetV4-conv-S without its classifier; the arguments are described at `MobileNetV4Config`."""
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width)
    stages, channels = [], []
    for rows in STAGES:
        stage = nn.Sequential()
        for row in rows:
            out_channels = make_divisible(row.channels * width)
            stage.append(_block(in_channels, out_channels, row, activation))
            in_channels = out_channels
        stages.append(stage)
        channels.append(in_channels)
    last_channels = make_divisible(LAST_CHANNELS * width)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        stages,
        channels=channels,
        strides=STRIDES,
        out_stages=out_stages,
        last_conv=ConvNormAct(in_channels, last_channels, activation=activation) if with_last_conv else None,
    )


def _block(in_channels: int, out_channels: int, row: Conv | Universal, activation: Activation) -> nn.Module:
    if isinstance(row, Conv):
        return ConvNormAct(in_channels, out_channels, row.kernel_size, stride=row.stride, activation=activation)
    return UniversalInvertedBottleneck(
        in_channels,
        out_channels,
        hidden_channels=make_divisible(in_channels * row.expansion),
        start_kernel=row.start_kernel,
        middle_kernel=row.middle_kernel,
        stride=row.stride,
        activation=activation,
    )
