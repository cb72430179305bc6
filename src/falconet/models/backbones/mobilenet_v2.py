"""MobileNetV2: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018 (arXiv:1801.04381), table 2. Numbers as in torchvision.

Channels are rounded to multiples of `round_nearest` after scaling, 8 by default, as in torchvision;
RangiLyu/nanodet only cuts off the fraction. The two agree for width 1.
"""

import itertools
import operator
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import (
    InvertedResidual,
    StagedBackbone,
    check_stages,
    chosen_stages,
    make_divisible,
)
from falconet.models.layers import Activation, ConvNormAct

BlockSpec = tuple[
    Annotated[int, Field(ge=1, le=12)],
    Annotated[int, Field(ge=1, le=4096)],
    Annotated[int, Field(ge=1, le=64)],
    Literal[1, 2],
]
"""Expansion, channels, blocks, stride of the first block: one line of the paper's table."""

ROWS: tuple[BlockSpec, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280


class MobileNetV2Config(Config):
    """MobileNetV2 as a backbone."""

    name: Literal["mobilenet-v2"] = "mobilenet-v2"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    rows: tuple[BlockSpec, ...] = Field(
        default=ROWS, min_length=1, description="per stage: expansion, channels, blocks, stride of the first block"
    )
    out_stages: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="rows that are returned, from 0; null: the last at strides 8, 16, 32"
    )
    activation: Activation = "relu6"
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 1280 channels after the last row")
    round_nearest: int = Field(
        default=8, ge=1, le=64, description="channels are multiples of it; 1 leaves them as scaled"
    )

    @model_validator(mode="after")
    def _stages_exist(self) -> "MobileNetV2Config":
        check_stages(self.stages(), len(self.rows), with_last_conv=self.with_last_conv)
        return self

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for these rows."""
        return chosen_stages(self.out_stages, stage_strides(self.rows))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return mobilenet_v2(
            width=self.width,
            rows=self.rows,
            out_stages=self.stages(),
            activation=self.activation,
            with_last_conv=self.with_last_conv,
            round_nearest=self.round_nearest,
        )


def stage_strides(rows: Sequence[BlockSpec]) -> list[int]:
    """Stride of the output of each row, in input pixels; the stem halves too."""
    return list(itertools.accumulate((row[3] for row in rows), operator.mul, initial=2))[1:]


def mobilenet_v2(
    *,
    width: float = 1.0,
    rows: Sequence[BlockSpec] = ROWS,
    out_stages: Sequence[int] = (2, 4, 6),
    activation: Activation = "relu6",
    with_last_conv: bool = False,
    round_nearest: int = 8,
) -> StagedBackbone:
    """MobileNetV2 without its classifier; the arguments are described at `MobileNetV2Config`."""

    def scaled(count: int, by: float) -> int:
        return make_divisible(count * by, round_nearest)

    in_channels = stem_channels = scaled(STEM_CHANNELS, width)
    stages, channels = [], []
    for expansion, row_channels, blocks, first_stride in rows:
        out_channels = scaled(row_channels, width)
        stage = nn.Sequential()
        for index in range(blocks):
            stage.append(
                InvertedResidual(
                    in_channels,
                    out_channels,
                    hidden_channels=in_channels * expansion,
                    stride=first_stride if index == 0 else 1,
                    activation=activation,
                )
            )
            in_channels = out_channels
        stages.append(stage)
        channels.append(out_channels)
    last_channels = scaled(LAST_CHANNELS, max(1.0, width))
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation),
        stages,
        channels=channels,
        strides=stage_strides(rows),
        out_stages=out_stages,
        last_conv=ConvNormAct(in_channels, last_channels, activation=activation) if with_last_conv else None,
    )
