"""The plain convolution head: `SimpleConvHead` of RangiLyu/nanodet (https://github.com/RangiLyu/nanodet, Apache-2.0).

It serves as a detector's head, and as that of the auxiliary branches of NanoDet-Plus and PP-YOLOE+ t.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.distances import decode_distances
from falconet.models.layers import (
    ACTIVATIONS,
    CLASS_PRIOR,
    Activation,
    ConvGroupNormAct,
    flatten_level,
    init_prior_bias,
)
from falconet.models.priors import make_priors
from falconet.models.types import Decoded, Features, HeadOutputs


class SimpleHeadConfig(Config):
    """Stacked 3x3 convolutions with group norm, for classes and boxes apart, shared by the levels."""

    name: Literal["simple"] = "simple"
    channels: int = Field(default=96, ge=8, le=1024, description="of the stacked convolutions")
    stacked_convs: int = Field(default=2, ge=1, le=8, description="3x3 convolutions before the last")
    reg_max: int = Field(default=7, ge=1, le=64, description="largest distance of a side, in strides")
    activation: Activation = "leaky-relu"

    def build(self, in_channels: int, num_classes: int, *, strides: Sequence[int], offset: float) -> "SimpleHead":
        """The head, with fresh weights; `offset` of a cell's point from its top left corner, in cells."""
        stack = SimpleConvs(
            in_channels,
            num_classes,
            num_levels=len(strides),
            reg_max=self.reg_max,
            stacked_convs=self.stacked_convs,
            width=self.channels,
            activation=self.activation,
        )
        return SimpleHead(stack, strides=strides, offset=offset)


class SimpleConvs(nn.Module):
    """Classes and boxes, by one stack of 3x3 convolutions each, shared over the levels.

    Args:
        channels: of the features.
        num_classes: C.
        num_levels: each has a learnt factor for its box codes.
        reg_max: largest distance of a side in strides; K = 4 * (reg_max + 1).
        stacked_convs: before the last convolution.
        width: channels of all layers; None: those of the features.
        activation: after each but the last.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        num_levels: int,
        reg_max: int = 7,
        stacked_convs: int = 4,
        width: int | None = None,
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        wide = width or channels

        def stack() -> nn.Sequential:
            counts = [channels, *[wide] * stacked_convs]
            return nn.Sequential(
                *(
                    ConvGroupNormAct(nn.Conv2d(a, b, 3, padding=1, bias=False), ACTIVATIONS[activation]())
                    for a, b in pairwise(counts)
                )
            )

        self.reg_max = reg_max
        self.class_convs = stack()
        self.box_convs = stack()
        self.class_output = nn.Conv2d(wide, num_classes, 3, padding=1)
        self.box_output = nn.Conv2d(wide, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in range(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        init_prior_bias(CLASS_PRIOR, self.class_output.bias)
        nn.init.zeros_(self.box_output.bias)

    def forward(self, features: Features) -> tuple[Float[Tensor, "B P C"], Float[Tensor, "B P K"]]:
        """Logits and box codes, level by level."""
        logits, codes = [], []
        for level, scale in zip(features, self.scales, strict=True):
            logits.append(flatten_level(self.class_output(self.class_convs(level))))
            codes.append(flatten_level(self.box_output(self.box_convs(level)) * scale))
        return torch.cat(logits, dim=1), torch.cat(codes, dim=1)


class SimpleHead(nn.Module):
    """A detector's head of `SimpleConvs`.

    Args:
        stack: what predicts.
        strides: of the levels, pixels per cell.
        offset: of a cell's point from its top left corner, in cells.
    """

    def __init__(self, stack: SimpleConvs, *, strides: Sequence[int], offset: float) -> None:
        super().__init__()
        self.stack = stack
        self.strides = tuple(strides)
        self.offset = offset

    def forward(self, features: Features, size: tuple[int, int]) -> HeadOutputs:
        """Raw predictions of features for an input of `size` (height, width) pixels."""
        logits, box_code = self.stack(features)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        priors = make_priors(size, self.strides, offset=self.offset, device=logits.device, dtype=dtype)
        return HeadOutputs(logits, box_code, None, priors)

    def decode(self, raw: HeadOutputs) -> Decoded:
        """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
        return decode_distances(raw)

    def class_outputs(self) -> dict[str, slice]:
        """Parameters, by name within the head, of which all rows belong to classes."""
        rows = slice(0, self.stack.class_output.out_channels)
        return {f"stack.class_output.{kind}": rows for kind in ("weight", "bias")}
