"""NanoDet, the first generation: RangiLyu/nanodet, version 0.4 (https://github.com/RangiLyu/nanodet, Apache-2.0).

Backbone, then a path aggregation network (arXiv:1803.01534) without convolutions of its own: one 1x1 convolution
per level, then the levels are resized and added, top-down and back up. Then per level a head of two
depthwise-separable convolutions, shared by classes and boxes. Boxes are distributions over `reg_max` + 1
distances per side, in strides ("Generalized Focal Loss", arXiv:2006.04388, section 3.2), measured from the
centre of a cell: at (index + 0.5) * stride.

What trains it (ATSS, focal losses) is in `falconet.training.criteria.nanodet`.

Where we differ from the source:
* Sides that are not multiples of 32 work: levels are resized to each other's size instead of by 2 and 1/2.
* The original's head keeps a second set of last convolutions (`gfl_reg`) that a shared head never uses; it is
  left out here.
* The box part of the last convolution starts with bias 0 instead of the classes' bias; a softmax does not see
  the difference.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.manifest import Preprocess, Selection
from falconet.models.backbones import BackboneConfig, ShuffleNetV2Config
from falconet.models.detector import Detector
from falconet.models.separable_head import SeparableHeadConfig
from falconet.models.types import Features


class PANConfig(Config):
    """The neck of NanoDet."""

    channels: int = Field(default=96, ge=8, le=1024, description="of every level")


class NanoDetHeadConfig(SeparableHeadConfig):
    """The head of NanoDet."""


class NanoDetConfig(Config):
    """NanoDet. The defaults are those of NanoDet-m at 320 x 320."""

    name: Literal["nanodet"] = "nanodet"
    input: Preprocess = Preprocess()
    backbone: BackboneConfig = ShuffleNetV2Config()
    neck: PANConfig = PANConfig()
    head: NanoDetHeadConfig = NanoDetHeadConfig()
    selection: Selection = Selection()

    def build(self, num_classes: int) -> Detector:
        """The detector, with fresh weights."""
        backbone = self.backbone.build()
        neck = PAN(backbone.channels, self.neck.channels, strides=backbone.strides)
        head = self.head.build(self.neck.channels, num_classes, strides=neck.strides, offset=0.5)
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
