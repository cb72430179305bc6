"""GhostNet: Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020 (arXiv:1911.11907), table 1.

Structure and numbers as in huawei-noah/Efficient-AI-Backbones, ghostnet_pytorch (Apache-2.0): channels are rounded
to multiples of 4; squeeze-excite keeps ReLU whatever the other activations are. Stage 9 is a pointwise
convolution. Stages after the last of `out_stages` are not built, so cutting stage 9 or 8 makes the network faster.

Own additions: `ratio`, `cheap_kernel_size` and `primary_kernel_size` of all ghost modules (2, 3 and 1 in the paper),
fewer or other blocks, what squeeze-excite is made of, and where a block halves the resolution.
"""

import itertools
import operator
from typing import Annotated, Literal, NamedTuple

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    Gate,
    GhostModule,
    SqueezeExcite,
    StagedBackbone,
    check_stages,
    chosen_stages,
    make_divisible,
)
from falconet.models.layers import Activation, ConvNormAct

STEM_CHANNELS = 16
LAST_CHANNELS = 960
Kernel = Literal[1, 3, 5, 7]
Width = Annotated[int, Field(ge=1, le=8192)]
RowSpec = tuple[Kernel, Width, Width, bool, Literal[1, 2]]
"""A `BlockSpec` in a run file."""


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
    depth: float = Field(
        default=1.0, gt=0, le=1, description="share of the blocks of each stage that stays, its last ones; at least one"
    )
    rows: tuple[tuple[RowSpec, ...], ...] | None = Field(
        default=None,
        min_length=1,
        description="of each stage: kernel, hidden channels, channels, squeeze-excite, stride; null: the paper's",
    )
    out_stages: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="stages that are returned, from 0; null: the last at strides 8, 16, 32, which are 4, 6, 9",
    )
    activation: Activation = "relu"
    ratio: int = Field(default=2, ge=2, le=8, description="channels per channel that is not made cheaply")
    cheap_kernel_size: Kernel = Field(default=3, description="of the cheap convolutions")
    primary_kernel_size: Kernel = Field(default=1, description="of the other convolution of each ghost module")
    downsampling: Literal["depthwise", "primary"] = Field(
        default="depthwise", description="what halves: a depthwise convolution or the block's first one"
    )
    squeeze_ratio: float = Field(
        default=0.25, gt=0, le=1, description="channels in the middle of squeeze-excite per channel it acts on"
    )
    squeeze_divisor: int = Field(default=4, ge=1, le=64, description="of which these are a multiple")
    gate: Gate = Field(default="hard-sigmoid", description="of squeeze-excite")

    @model_validator(mode="after")
    def _consistent(self) -> "GhostNetConfig":
        if not all(self.table()):
            raise ValueError("rows: each stage needs a block")
        if self.rows is not None and self.depth != 1:
            raise ValueError("depth is for the paper's rows: leave it at 1 and shorten your own rows")
        check_stages(self.stages(), len(self.table()) + 1)
        return self

    def table(self) -> list[list[BlockSpec]]:
        """Blocks of each stage but the last, which is a pointwise convolution; channels are not yet scaled."""
        if self.rows is not None:
            return [[BlockSpec(*row) for row in rows] for rows in self.rows]
        return [list(rows[-max(1, round(len(rows) * self.depth)) :]) for rows in STAGES]

    def strides(self) -> list[int]:
        """Of the output of each stage, in input pixels; the stem halves too."""
        steps = [2 ** sum(row.stride == 2 for row in rows) for rows in self.table()]
        return list(itertools.accumulate([*steps, 1], operator.mul, initial=2))[1:]

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for these rows."""
        return chosen_stages(self.out_stages, self.strides())

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        in_channels = stem_channels = make_divisible(STEM_CHANNELS * self.width, 4)
        stages, channels = [], []
        for rows in self.table():
            stage = nn.Sequential()
            for row in rows:
                stage.append(self._block(in_channels, row))
                in_channels = make_divisible(row.channels * self.width, 4)
            stages.append(stage)
            channels.append(in_channels)
        last_channels = make_divisible(LAST_CHANNELS * self.width, 4)
        stages.append(nn.Sequential(ConvNormAct(in_channels, last_channels, activation=self.activation)))
        return StagedBackbone(
            ConvNormAct(3, stem_channels, 3, stride=2, activation=self.activation),
            stages,
            channels=[*channels, last_channels],
            strides=self.strides(),
            out_stages=self.stages(),
        )

    def _block(self, in_channels: int, row: BlockSpec) -> "GhostBottleneck":
        hidden = make_divisible(row.hidden_channels * self.width, 4)
        squeeze = None
        if row.squeeze_excite:
            squeezed = make_divisible(hidden * self.squeeze_ratio, self.squeeze_divisor)
            squeeze = SqueezeExcite(hidden, squeezed, gate=self.gate)
        return GhostBottleneck(
            in_channels,
            hidden,
            make_divisible(row.channels * self.width, 4),
            kernel_size=row.kernel_size,
            stride=row.stride,
            squeeze_excite=squeeze,
            activation=self.activation,
            ratio=self.ratio,
            cheap_kernel_size=self.cheap_kernel_size,
            primary_kernel_size=self.primary_kernel_size,
            downsampling=self.downsampling,
        )


class GhostBottleneck(nn.Module):
    """Two ghost modules; between them a strided depthwise convolution and squeeze-excite where there are any.

    Args:
        in_channels, hidden_channels, out_channels: before, between and after the ghost modules.
        kernel_size: of the strided convolution and of the shortcut's.
        stride: 2 halves the resolution.
        squeeze_excite: between the ghost modules, hidden_channels wide.
        activation: of the first ghost module; the second has none.
        ratio, cheap_kernel_size, primary_kernel_size: of the ghost modules.
        downsampling: "primary" halves in the first ghost module, without a strided convolution behind it.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: int,
        squeeze_excite: nn.Module | None,
        activation: Activation,
        ratio: int = 2,
        cheap_kernel_size: int = 3,
        primary_kernel_size: int = 1,
        downsampling: Literal["depthwise", "primary"] = "depthwise",
    ) -> None:
        super().__init__()
        early = downsampling == "primary"

        def ghost(in_channels: int, out_channels: int, activation: Activation, stride: int = 1) -> GhostModule:
            return GhostModule(
                in_channels,
                out_channels,
                ratio=ratio,
                kernel_size=cheap_kernel_size,
                activation=activation,
                primary_kernel_size=primary_kernel_size,
                stride=stride,
            )

        self.expand = ghost(in_channels, hidden_channels, activation, stride if early else 1)
        self.depthwise: nn.Module = nn.Identity()
        if stride > 1 and not early:
            self.depthwise = ConvNormAct(
                hidden_channels, hidden_channels, kernel_size, stride=stride, depthwise=True, activation="none"
            )
        self.squeeze_excite = nn.Identity() if squeeze_excite is None else squeeze_excite
        self.project = ghost(hidden_channels, out_channels, "none")
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                ConvNormAct(in_channels, in_channels, kernel_size, stride=stride, depthwise=True, activation="none"),
                ConvNormAct(in_channels, out_channels, activation="none"),
            )

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        block = self.project(self.squeeze_excite(self.depthwise(self.expand(features))))
        return block + self.shortcut(features)
