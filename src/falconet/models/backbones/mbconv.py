"""Backbones that a table of inverted residuals describes ("MBConv"): EfficientNet and MnasNet share this code."""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from torch import nn

from falconet.models.backbones.blocks import InvertedResidual, SqueezeExcite, StagedBackbone, make_divisible
from falconet.models.layers import Activation, ConvNormAct


class Row(NamedTuple):
    """One stage: equal blocks, of which the first may halve the resolution."""

    kernel_size: int
    expansion: int
    channels: int
    blocks: int
    stride: int
    se_ratio: float = 0.0
    """Hidden channels of the squeeze-excite for each channel of the block's input; 0 leaves it out."""


RowSpec = tuple[
    Literal[1, 3, 5, 7, 9],
    Annotated[int, Field(ge=1, le=12)],
    Annotated[int, Field(ge=1, le=4096)],
    Annotated[int, Field(ge=1, le=64)],
    Literal[1, 2],
    Annotated[float, Field(ge=0, le=1)],
]
"""A `Row` in a run file."""

ROWS_DESCRIPTION = "per stage: kernel, expansion, channels, blocks, stride, squeeze-excite ratio; null: the paper's"
SE_DESCRIPTION = "hidden channels of squeeze-excite per channel of the input, in every block; 0: none; null: the rows'"


def row_strides(rows: Sequence[Row]) -> list[int]:
    """Stride of the output of each row, in input pixels; the stem halves too."""
    return list(itertools.accumulate((row.stride for row in rows), operator.mul, initial=2))[1:]


def own_rows(rows: Sequence[RowSpec] | None, usual: Sequence[Row], se_ratio: float | None) -> list[Row]:
    """`rows`, or the `usual` ones, with another ratio of squeeze-excite if that is not None."""
    table = list(usual) if rows is None else [Row(*row) for row in rows]
    return table if se_ratio is None else [row._replace(se_ratio=se_ratio) for row in table]


def scaled(row: Row, width: float, depth: float = 1.0) -> Row:
    """`row` with more or fewer channels and blocks."""
    return row._replace(channels=make_divisible(row.channels * width), blocks=math.ceil(row.blocks * depth))


def mbconv(
    rows: Sequence[Row],
    *,
    stem_channels: int,
    last_channels: int | None,
    out_stages: Sequence[int],
    activation: Activation,
    drop_connect: float = 0.0,
    eps: float = 1e-5,
) -> StagedBackbone:
    """A 3x3 convolution of stride 2, the stages of `rows`, and a pointwise convolution.

    Args:
        rows: channels and blocks already scaled.
        stem_channels, last_channels: of the convolutions before and after; None leaves the last one out.
        out_stages: rows that are returned.
        activation: of everything, squeeze-excite included, whose gate is a sigmoid.
        drop_connect: share of samples that skip a block in training; grows from 0 to this.
        eps: of the norms.
    """
    total, done = sum(row.blocks for row in rows), 0
    in_channels = stem_channels
    stages = []
    for row in rows:
        stage = nn.Sequential()
        for index in range(row.blocks):
            hidden = in_channels * row.expansion
            squeeze = None
            if row.se_ratio:
                squeeze = SqueezeExcite(hidden, max(1, int(in_channels * row.se_ratio)), activation=activation)
            stage.append(
                InvertedResidual(
                    in_channels,
                    row.channels,
                    hidden_channels=hidden,
                    kernel_size=row.kernel_size,
                    stride=row.stride if index == 0 else 1,
                    activation=activation,
                    squeeze_excite=squeeze,
                    drop_path=drop_connect * done / total,
                    eps=eps,
                )
            )
            in_channels = row.channels
            done += 1
        stages.append(stage)
    last_conv = None
    if last_channels is not None:
        last_conv = ConvNormAct(in_channels, last_channels, activation=activation, eps=eps)
    return StagedBackbone(
        ConvNormAct(3, stem_channels, 3, stride=2, activation=activation, eps=eps),
        stages,
        channels=[row.channels for row in rows],
        strides=row_strides(rows),
        out_stages=out_stages,
        last_conv=last_conv,
    )
