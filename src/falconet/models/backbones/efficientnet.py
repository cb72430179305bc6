"""EfficientNet: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv:1905.11946), tables 1 and 2, and EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite,
Apache-2.0).

Width, depth and resolution grow together ("compound scaling"). Lite leaves squeeze-excite out, uses ReLU6, and
scales neither the stem nor the last convolution nor the depth of the first and last stage. The norms' eps is
1e-5 as in torchvision and timm; it is 1e-3 in B5 to B7, as in torchvision, and in Lite as in the original (timm's own
Lite weights: 1e-5).

Own addition: `rows` and `se_ratio` are settings.
"""

from typing import Literal, NamedTuple

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

ROWS = (
    Row(3, 1, 16, 1, 1, 0.25),
    Row(3, 6, 24, 2, 2, 0.25),
    Row(5, 6, 40, 2, 2, 0.25),
    Row(3, 6, 80, 3, 2, 0.25),
    Row(5, 6, 112, 3, 1, 0.25),
    Row(5, 6, 192, 4, 2, 0.25),
    Row(3, 6, 320, 1, 1, 0.25),
)
"""EfficientNet-B0."""
LITE_ROWS = tuple(row._replace(se_ratio=0) for row in ROWS)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
LITE_NORM_EPS = 1e-3


class Scale(NamedTuple):
    """One member of the family."""

    width: float
    depth: float
    resolution: int
    dropout: float
    norm_eps: float = 1e-5


SCALES = {
    "b0": Scale(1.0, 1.0, 224, 0.2),
    "b1": Scale(1.0, 1.1, 240, 0.2),
    "b2": Scale(1.1, 1.2, 260, 0.3),
    "b3": Scale(1.2, 1.4, 300, 0.3),
    "b4": Scale(1.4, 1.8, 380, 0.4),
    "b5": Scale(1.6, 2.2, 456, 0.4, 1e-3),
    "b6": Scale(1.8, 2.6, 528, 0.5, 1e-3),
    "b7": Scale(2.0, 3.1, 600, 0.5, 1e-3),
}
LITE_SCALES = {
    "lite0": Scale(1.0, 1.0, 224, 0.2),
    "lite1": Scale(1.0, 1.1, 240, 0.2),
    "lite2": Scale(1.1, 1.2, 260, 0.3),
    "lite3": Scale(1.2, 1.4, 280, 0.3),
    "lite4": Scale(1.4, 1.8, 300, 0.3),
}


def own_scale(scale: Scale, width: float | None, depth: float | None) -> Scale:
    """`scale` with a width and a depth that are not None in the place of its own."""
    return scale._replace(width=scale.width if width is None else width, depth=scale.depth if depth is None else depth)


class EfficientNetConfig(Config):
    """EfficientNet as a backbone."""

    name: Literal["efficientnet"] = "efficientnet"
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = "b0"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the channels; null: the variant's")
    depth: float | None = Field(default=None, gt=0, le=8, description="multiple of the blocks; null: the variant's")
    rows: tuple[RowSpec, ...] | None = Field(default=None, min_length=1, description=ROWS_DESCRIPTION)
    se_ratio: float | None = Field(default=None, ge=0, le=1, description=SE_DESCRIPTION)
    out_stages: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="rows that are returned, from 0; null: the last at strides 8, 16, 32"
    )
    activation: Activation = "silu"
    drop_connect: float = Field(
        default=0.2, ge=0, lt=1, description="share of samples that skip a block in training; grows from 0 to this"
    )
    with_last_conv: bool = Field(
        default=False, description="a 1x1 convolution to 4 times the channels after the last row"
    )

    @model_validator(mode="after")
    def _stages_exist(self) -> "EfficientNetConfig":
        check_stages(self.stages(), len(self.table()), with_last_conv=self.with_last_conv)
        return self

    def table(self) -> list[Row]:
        """The rows, before they are scaled."""
        return own_rows(self.rows, ROWS, self.se_ratio)

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for these rows."""
        return chosen_stages(self.out_stages, row_strides(self.table()))

    def design(self) -> Scale:
        """The variant with the settings that are not null in the place of its own."""
        return own_scale(SCALES[self.variant], self.width, self.depth)

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        scale = self.design()
        return mbconv(
            [scaled(row, scale.width, scale.depth) for row in self.table()],
            stem_channels=make_divisible(STEM_CHANNELS * scale.width),
            last_channels=make_divisible(LAST_CHANNELS * scale.width) if self.with_last_conv else None,
            out_stages=self.stages(),
            activation=self.activation,
            drop_connect=self.drop_connect,
            eps=scale.norm_eps,
        )


class EfficientNetLiteConfig(Config):
    """EfficientNet-Lite as a backbone."""

    name: Literal["efficientnet-lite"] = "efficientnet-lite"
    variant: Literal["lite0", "lite1", "lite2", "lite3", "lite4"] = "lite0"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the channels; null: the variant's")
    depth: float | None = Field(default=None, gt=0, le=8, description="multiple of the blocks; null: the variant's")
    rows: tuple[RowSpec, ...] | None = Field(default=None, min_length=1, description=ROWS_DESCRIPTION)
    se_ratio: float | None = Field(default=None, ge=0, le=1, description=SE_DESCRIPTION)
    out_stages: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="rows that are returned, from 0; null: the last at strides 8, 16, 32"
    )
    activation: Activation = "relu6"
    drop_connect: float = Field(
        default=0.2, ge=0, lt=1, description="share of samples that skip a block in training; grows from 0 to this"
    )
    with_last_conv: bool = Field(default=False, description="a 1x1 convolution to 1280 channels after the last row")
    norm_eps: float = Field(default=LITE_NORM_EPS, gt=0, le=0.1, description="of the norms; timm's weights need 1e-5")

    @model_validator(mode="after")
    def _stages_exist(self) -> "EfficientNetLiteConfig":
        check_stages(self.stages(), len(self.table()), with_last_conv=self.with_last_conv)
        return self

    def table(self) -> list[Row]:
        """The rows, before they are scaled."""
        return own_rows(self.rows, LITE_ROWS, self.se_ratio)

    def stages(self) -> tuple[int, ...]:
        """`out_stages`, or its default for these rows."""
        return chosen_stages(self.out_stages, row_strides(self.table()))

    def design(self) -> Scale:
        """The variant with the settings that are not null in the place of its own."""
        return own_scale(LITE_SCALES[self.variant], self.width, self.depth)

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        scale = self.design()
        table = self.table()
        ends = (0, len(table) - 1)
        return mbconv(
            [scaled(row, scale.width, 1 if index in ends else scale.depth) for index, row in enumerate(table)],
            stem_channels=STEM_CHANNELS,
            last_channels=LAST_CHANNELS if self.with_last_conv else None,
            out_stages=self.stages(),
            activation=self.activation,
            drop_connect=self.drop_connect,
            eps=self.norm_eps,
        )
