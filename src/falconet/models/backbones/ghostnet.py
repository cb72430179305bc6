"""GhostNet: Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020 (arXiv:1911.11907), table 1.

Structure and numbers as in huawei-noah/Efficient-AI-Backbones, ghostnet_pytorch (Apache-2.0): channels are rounded
to multiples of 4; squeeze-excite keeps ReLU whatever the other activations are. Stage 9 is a pointwise
convolution. Stages after the last of `out_stages` are not built, so cutting stage 9 or 8 makes the network faster.

Own additions: `ratio` and `cheap_kernel_size` of all ghost modules (2 and 3 in the paper).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    GhostModule,
    SqueezeExcite,
    StagedBackbone,
    make_divisible,
    stages_exist,
)
from falconet.models.layers import Activation, ConvNormAct

STEM_CHANNELS = 16
LAST_CHANNELS = 960
STRIDES = (2, 4, 4, 8, 8, 16, 16, 32, 32, 32)


class BlockSpec(NamedTuple):
    """One bottleneck."""

    kernel_size: int
    hidden_channels: int
    channels: int
    squeeze_excite: bool
    stride: int


STAGES: tuple[tuple[BlockSpec, ...], ...] = (
    (BlockSpec(3, 16, 16, False, 1),),
    (BlockSpec(3, 48, 24, False, 2),),
    (BlockSpec(3, 72, 24, False, 1),),
    (BlockSpec(5, 72, 40, True, 2),),
    (BlockSpec(5, 120, 40, True, 1),),
    (BlockSpec(3, 240, 80, False, 2),),
    (
        BlockSpec(3, 200, 80, False, 1),
        BlockSpec(3, 184, 80, False, 1),
        BlockSpec(3, 184, 80, False, 1),
        BlockSpec(3, 480, 112, True, 1),
        BlockSpec(3, 672, 112, True, 1),
    ),
    (BlockSpec(5, 672, 160, True, 2),),
    (
        BlockSpec(5, 960, 160, False, 1),
        BlockSpec(5, 960, 160, True, 1),
        BlockSpec(5, 960, 160, False, 1),
        BlockSpec(5, 960, 160, True, 1),
    ),
)


class GhostNetConfig(Config):
    """GhostNet as a backbone."""

    name: Literal["ghostnet"] = "ghostnet"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], ...] = Field(
        default=(4, 6, 9), min_length=1, description="stages that are returned; 4, 6, 9 end strides 8, 16, 32"
    )
    activation: Activation = "relu"
    ratio: int = Field(default=2, ge=2, le=8, description="channels per channel that is not made cheaply")
    cheap_kernel_size: Literal[1, 3, 5, 7] = Field(default=3, description="of the cheap convolutions")

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return ghostnet(**self.settings())


class GhostBottleneck(nn.Module):
    """Two ghost modules, with a strided depthwise convolution and squeeze-excite between them where asked for.

    Args:
        in_channels, hidden_channels, out_channels: before, between and after the ghost modules.
        kernel_size: of the strided convolution and of the shortcut's.
        stride: 2 halves the resolution.
        squeeze_excite: between the ghost modules.
        activation: of the first ghost module; the second has none.
        ratio, cheap_kernel_size: of the ghost modules.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        squeeze_excite: bool,
        activation: Activation,
        ratio: int = 2,
        cheap_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.expand = GhostModule(
            in_channels, hidden_channels, ratio=ratio, kernel_size=cheap_kernel_size, activation=activation
        )
        self.depthwise: nn.Module = nn.Identity()
        if stride > 1:
            self.depthwise = ConvNormAct(
                hidden_channels, hidden_channels, kernel_size, stride=stride, depthwise=True, activation="none"
            )
        self.squeeze_excite: nn.Module = nn.Identity()
        if squeeze_excite:
            squeezed = make_divisible(hidden_channels / 4, 4)
            self.squeeze_excite = SqueezeExcite(hidden_channels, squeezed, gate="hard-sigmoid")
        self.project = GhostModule(
            hidden_channels, out_channels, ratio=ratio, kernel_size=cheap_kernel_size, activation="none"
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                ConvNormAct(in_channels, in_channels, kernel_size, stride=stride, depthwise=True, activation="none"),
                ConvNormAct(in_channels, out_channels, activation="none"),
            )

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        block = self.project(self.squeeze_excite(self.depthwise(self.expand(features))))
        return block + self.shortcut(features)


def ghostnet(
    *,
    width: float = 1.0,
    out_stages: Sequence[int] = (4, 6, 9),
    activation: Activation = "relu",
    ratio: int = 2,
    cheap_kernel_size: int = 3,
) -> StagedBackbone:
    """GhostNet without its classifier; the arguments are described at `GhostNetConfig`."""
    in_channels = stem_channels = make_divisible(STEM_CHANNELS * width, 4)
    stages, channels = [], []
    for rows in STAGES:
        stage = nn.Sequential()
        for row in rows:
            out_channels = make_divisible(row.channels * width, 4)
            stage.append(
                GhostBottleneck(
                    in_channels,
                    make_divisible(row.hidden_channels * width, 4),
                    out_channels,
                    kernel_size=row.kernel_size,
                    stride=row.stride,
                    squeeze_excite=row.squeeze_excite,
                    activation=activation,
                    ratio=ratio,
                    cheap_kernel_size=cheap_kernel_size,
                )
            )
            in_channels = out_channels
        stages.append(stage)
        channels.append(in_channels)
    last_channels = make_divisible(LAST_CHANNELS * width, 4)
    stages.append(nn.Sequential(ConvNormAct(in_channels, last_channels, activation=activation)))
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        stages,
        channels=[*channels, last_channels],
        strides=STRIDES,
        out_stages=out_stages,
    )
