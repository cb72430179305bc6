"""MnasNet: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019
(arXiv:1807.11626), figure 7.

Variant b1 is the network without squeeze-excite, with the numbers of torchvision; variant a1 the paper's own, with
squeeze-excite in three stages, with the numbers of tensorflow/tpu, models/official/mnasnet (Apache-2.0).

Own differences: the norms' momentum is torch's usual 0.1 instead of 0.0003; `rows` and `se_ratio` are settings.
"""

from typing import Literal

from pydantic import Field, model_validator

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, check_stages, chosen_stages, make_divisible
from falconet.models.backbones.mbconv import (
    ROWS_DESCRIPTION,
    SE_DESCRIPTION,
    Row,
    RowSpec,
    mbconv,
    own_rows,
    row_strides,
    scaled,
)
from falconet.models.layers import Activation

ROWS = {
    "b1": (
        Row(3, 1, 16, 1, 1),
        Row(3, 3, 24, 3, 2),
        Row(5, 3, 40, 3, 2),
        Row(5, 6, 80, 3, 2),
        Row(3, 6, 96, 2, 1),
        Row(5, 6, 192, 4, 2),
        Row(3, 6, 320, 1, 1),
    ),
    "a1": (
        Row(3, 1, 16, 1, 1),
        Row(3, 6, 24, 2, 2),
        Row(5, 3, 40, 3, 2, 0.25),
        Row(3, 6, 80, 4, 2),
        Row(3, 6, 112, 2, 1, 0.25),
        Row(5, 6, 160, 3, 2, 0.25),
        Row(3, 6, 320, 1, 1),
    ),
}
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
"""Not scaled."""


class MnasNetConfig(Config):
    """MnasNet as a backbone."""

    name: Literal["mnasnet"] = "mnasnet"
    variant: Literal["b1", "a1"] = "b1"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    rows: tuple[RowSpec, ...] | None = Field(default=None, min_length=1, description=ROWS_DESCRIPTION)
    se_ratio: float | None = Field(default=None, ge=0, le=1, description=SE_DESCRIPTION)
    out_stages: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="rows that are returned, from 0; null: the last at strides 8, 16, 32"
    )
    activation: Activation = "relu"
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 1280 channels after the last row")

    @model_validator(mode="after")
    def _stages_exist(self) -> "MnasNetConfig":
        check_stages(self.stages(), len(self.table()), with_last_conv=self.with_last_conv)
        return self

    def table(self) -> list[Row]:
        """The rows, before they are scaled."""
        return own_rows(self.rows, ROWS[self.variant], self.se_ratio)

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for these rows."""
        return chosen_stages(self.out_stages, row_strides(self.table()))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return mbconv(
            [scaled(row, self.width) for row in self.table()],
            stem_channels=make_divisible(STEM_CHANNELS * self.width),
            last_channels=LAST_CHANNELS if self.with_last_conv else None,
            out_stages=self.stages(),
            activation=self.activation,
        )
