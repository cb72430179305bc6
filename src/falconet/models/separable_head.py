"""The head of both generations of NanoDet (https://github.com/RangiLyu/nanodet, Apache-2.0)."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from falconet.core.config import Config
from falconet.models.distances import decode_distances
from falconet.models.layers import (
    CLASS_PRIOR,
    Activation,
    ConvNormAct,
    SeparableConv,
    flatten_level,
    init_prior_bias,
    with_group_norms,
)
from falconet.models.priors import make_priors
from falconet.models.types import Decoded, Features, HeadOutputs


class SeparableHeadConfig(Config):
    """Per level: stacked convolutions, depthwise-separable and for classes and boxes together unless told otherwise."""

    channels: int = Field(default=96, ge=8, le=1024, description="of the stacked convolutions")
    stacked_convs: int = Field(default=2, ge=1, le=8, description="separable convolutions per level")
    kernel_size: Literal[3, 5, 7] = 3
    reg_max: int = Field(default=7, ge=1, le=64, description="largest distance of a side, in strides")
    depthwise: bool = Field(default=True, description="the stacked convolutions are depthwise-separable")
    shared: bool = Field(default=True, description="classes and boxes share the convolutions; else each has its own")
    norm: Literal["batch", "group"] = Field(default="batch", description="of the stacked convolutions")
    activation: Activation = "leaky-relu"

    def build(self, in_channels: int, num_classes: int, *, strides: Sequence[int], offset: float) -> "SeparableHead":
        """The head, with fresh weights; arguments as of `SeparableHead`."""
        return SeparableHead(
            in_channels,
            num_classes,
            strides=strides,
            offset=offset,
            channels=self.channels,
            stacked_convs=self.stacked_convs,
            kernel_size=self.kernel_size,
            reg_max=self.reg_max,
            depthwise=self.depthwise,
            shared=self.shared,
            norm=self.norm,
            activation=self.activation,
        )


class SeparableHead(nn.Module):
    """Per level: stacked convolutions, then one 1x1 convolution to classes and bins, or each of its own.

    Args:
        in_channels: of every level.
        num_classes: C.
        strides: of the levels, pixels per cell.
        offset: of a cell's point from its top left corner, in cells.
        channels: of the stacked convolutions.
        stacked_convs: how many.
        kernel_size: of the depthwise ones, or of all.
        reg_max: largest distance of a side in strides; K = 4 * (reg_max + 1).
        depthwise: they are depthwise-separable.
        shared: classes and boxes share them; else `box_convs` and `box_outputs` are those of boxes.
        norm: behind each of them.
        activation: after each of them.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        strides: Sequence[int],
        offset: float,
        channels: int = 96,
        stacked_convs: int = 2,
        kernel_size: int = 3,
        reg_max: int = 7,
        depthwise: bool = True,
        shared: bool = True,
        norm: Literal["batch", "group"] = "batch",
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        kind = SeparableConv if depthwise else ConvNormAct
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.strides = tuple(strides)
        self.offset = offset

        def stacks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(
                    *(
                        kind(channels if index else in_channels, channels, kernel_size, activation=activation)
                        for index in range(stacked_convs)
                    )
                )
                for _ in self.strides
            )

        def outputs(count: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(channels, count, 1) for _ in self.strides)

        bins = 4 * (reg_max + 1)
        self.convs = stacks()
        self.outputs = outputs(num_classes + bins if shared else num_classes)
        self.box_convs = None if shared else stacks()
        self.box_outputs = None if shared else outputs(bins)
        if norm == "group":
            with_group_norms(self)
        self._initialise()

    def forward(self, features: Features, size: tuple[int, int]) -> HeadOutputs:
        """Raw predictions of features for an input of `size` (height, width) pixels.

        Box codes are the logits of left's bins, then top's, right's and bottom's.
        """
        levels = [
            flatten_level(output(convs(level)))
            for convs, output, level in zip(self.convs, self.outputs, features, strict=True)
        ]
        joined = torch.cat(levels, dim=1)
        if self.box_convs is None or self.box_outputs is None:
            logits, box_code = joined.split((self.num_classes, 4 * (self.reg_max + 1)), dim=-1)
        else:
            boxes = zip(self.box_convs, self.box_outputs, features, strict=True)
            logits, box_code = (
                joined,
                torch.cat([flatten_level(out(convs(level))) for convs, out, level in boxes], dim=1),
            )
        dtype = torch.promote_types(joined.dtype, torch.float32)
        priors = make_priors(size, self.strides, offset=self.offset, device=joined.device, dtype=dtype)
        return HeadOutputs(logits, box_code, None, priors)

    def decode(self, raw: HeadOutputs) -> Decoded:
        """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
        return decode_distances(raw)

    def class_outputs(self) -> dict[str, slice]:
        """Parameters, by name within the head, of which the rows in the slice belong to classes."""
        rows = slice(0, self.num_classes)
        return {f"outputs.{level}.{kind}": rows for level in range(len(self.outputs)) for kind in ("weight", "bias")}

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        for output in self.outputs:
            nn.init.zeros_(output.bias)  # of boxes, where they share it
            init_prior_bias(CLASS_PRIOR, output.bias[: self.num_classes])
