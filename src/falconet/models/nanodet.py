"""NanoDet, the first generation: RangiLyu/nanodet, version 0.4 (https://github.com/RangiLyu/nanodet, Apache-2.0).

Backbone, then a path aggregation network (arXiv:1803.01534) without convolutions of its own: one 1x1 convolution
per level, then the levels are resized and added, top-down and back up. Then per level a head of two
depthwise-separable convolutions, shared by classes and boxes. Boxes are distributions over `reg_max` + 1
distances per side, in strides ("Generalized Focal Loss", arXiv:2006.04388, section 3.2), measured from the
centre of a cell: at (index + 0.5) * stride.

What trains it (ATSS, focal losses) is in `falconet.train.criteria.nanodet`.

Where we differ from the source:
* Sides that are not multiples of 32 work: levels are resized to each other's size instead of by 2 and 1/2.
* The original's head keeps a second set of last convolutions (`gfl_reg`) that a shared head never uses; it is
  left out here.
* The box part of the last convolution starts with bias 0 instead of the classes' bias; a softmax does not see
  the difference.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.manifest import Preprocess
from falconet.models.backbones import BackboneConfig, ShuffleNetV2Config
from falconet.models.detector import Detector
from falconet.models.layers import Activation, SeparableConv
from falconet.models.nanodet_plus import CLASS_PRIOR, boxes_at, expected_distances
from falconet.models.priors import make_priors
from falconet.models.types import Decoded, Features, Raw


class PANConfig(Config):
    """The neck of NanoDet."""

    channels: int = Field(default=96, ge=8, le=1024, description="of every level")


class NanoDetHeadConfig(Config):
    """The head of NanoDet."""

    channels: int = Field(default=96, ge=8, le=1024, description="of the stacked convolutions")
    stacked_convs: int = Field(default=2, ge=1, le=8, description="separable convolutions per level")
    kernel_size: Literal[3, 5, 7] = 3
    reg_max: int = Field(default=7, ge=1, le=64, description="largest distance of a side, in strides")
    activation: Activation = "leaky-relu"


class NanoDetConfig(Config):
    """NanoDet. The defaults are those of NanoDet-m at 320 x 320."""

    name: Literal["nanodet"] = "nanodet"
    input: Preprocess = Preprocess()
    backbone: BackboneConfig = ShuffleNetV2Config()
    neck: PANConfig = PANConfig()
    head: NanoDetHeadConfig = NanoDetHeadConfig()

    def build(self, num_classes: int) -> Detector:
        """The detector, with fresh weights."""
        backbone = self.backbone.build()
        neck = PAN(backbone.channels, self.neck.channels, strides=backbone.strides)
        head = NanoDetHead(
            self.neck.channels,
            num_classes,
            strides=neck.strides,
            channels=self.head.channels,
            stacked_convs=self.head.stacked_convs,
            kernel_size=self.head.kernel_size,
            reg_max=self.head.reg_max,
            activation=self.head.activation,
        )
        return Detector(backbone, neck, head)


def _resize(features: Tensor, like: Tensor) -> Tensor:
    """Features [B, C, H, W] at the height and width of `like`."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PAN(nn.Module):
    """Features of a backbone to as many levels of equal channels: 1x1 convolutions, then sums.

    Args:
        in_channels: of each input, finest level first.
        channels: of each output.
        strides: of each input, pixels per cell.

    Attributes:
        channels, strides: of what is returned.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, strides: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        self.strides = tuple(strides)
        self.channels = (channels,) * len(self.strides)
        for conv in self.reduce:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Features) -> list[Tensor]:
        levels = [conv(level) for conv, level in zip(self.reduce, features, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + _resize(levels[fine + 1], levels[fine])
        for coarse in range(1, len(levels)):
            levels[coarse] = levels[coarse] + _resize(levels[coarse - 1], levels[coarse])
        return levels


class NanoDetHead(nn.Module):
    """Per level: stacked depthwise-separable convolutions, then one 1x1 convolution to classes and bins.

    Args:
        in_channels: of every level.
        num_classes: C.
        strides: of the levels, pixels per cell.
        channels: of the stacked convolutions.
        stacked_convs: how many.
        kernel_size: of the depthwise ones.
        reg_max: largest distance of a side in strides; K = 4 * (reg_max + 1).
        activation: after each of them.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        strides: Sequence[int],
        channels: int = 96,
        stacked_convs: int = 2,
        kernel_size: int = 3,
        reg_max: int = 7,
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.strides = tuple(strides)

        def stack() -> nn.Sequential:
            inputs = [in_channels] + [channels] * (stacked_convs - 1)
            return nn.Sequential(
                *(SeparableConv(count, channels, kernel_size, activation=activation) for count in inputs)
            )

        self.convs = nn.ModuleList(stack() for _ in self.strides)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, num_classes + 4 * (reg_max + 1), 1) for _ in self.strides)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        for output in self.outputs:
            nn.init.zeros_(output.bias)
            nn.init.constant_(output.bias[:num_classes], -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(self, features: Features, size: tuple[int, int]) -> Raw:
        """Raw predictions of features for an input of `size` (height, width) pixels.

        Box codes are the logits of left's bins, then top's, right's and bottom's.
        """
        levels = [
            output(convs(level)).permute(0, 2, 3, 1).flatten(1, 2)
            for convs, output, level in zip(self.convs, self.outputs, features, strict=True)
        ]
        joined = torch.cat(levels, dim=1)
        logits, box_code = joined.split((self.num_classes, 4 * (self.reg_max + 1)), dim=-1)
        dtype = torch.promote_types(joined.dtype, torch.float32)
        priors = make_priors(size, self.strides, offset=0.5, device=joined.device, dtype=dtype)
        return Raw(logits, box_code, None, priors)

    def decode(self, raw: Raw) -> Decoded:
        """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
        dtype = raw.priors.points.dtype
        distances = expected_distances(raw.box_code.to(dtype))
        return Decoded(boxes_at(raw.priors, distances), raw.logits.to(dtype).sigmoid())

    def class_outputs(self) -> dict[str, slice]:
        """Parameters, by name within the head, of which the rows in the slice belong to classes."""
        rows = slice(0, self.num_classes)
        return {f"outputs.{level}.{kind}": rows for level in range(len(self.outputs)) for kind in ("weight", "bias")}
