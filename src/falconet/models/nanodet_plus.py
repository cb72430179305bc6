"""NanoDet-Plus: RangiLyu/nanodet, version 1.0.0-alpha (https://github.com/RangiLyu/nanodet, Apache-2.0).

Backbone, then GhostPAN (a path aggregation network, arXiv:1803.01534, of ghost modules, arXiv:1911.11907),
then a head of depthwise-separable convolutions, shared by classes and boxes but not by levels. Boxes are
distributions over `reg_max` + 1 distances per side, in strides ("Generalized Focal Loss", arXiv:2006.04388,
section 3.2), measured from the top left corner of a cell: at index * stride, without a half-cell offset.

What trains it (assign-guidance branch, assigner, losses) is in `falconet.training.criteria.nanodet_plus`.

Where we differ from the source:
* Sides that are not multiples of 32 work: upsampling goes to the size of the finer level instead of doubling.
* The box part of the last convolution starts with bias 0 instead of the classes' bias; a softmax does not see
  the difference.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.manifest import Preprocess, Selection
from falconet.models.backbones import BackboneConfig, ShuffleNetV2Config
from falconet.models.backbones.blocks import GhostModule
from falconet.models.detector import Detector, check_levels_halve
from falconet.models.layers import Activation, ConvNormAct, SeparableConv, kaiming_init
from falconet.models.separable_head import SeparableHeadConfig
from falconet.models.simple_head import SimpleHeadConfig
from falconet.models.types import Features


class GhostPANConfig(Config):
    """The neck of NanoDet-Plus."""

    channels: int = Field(default=96, ge=8, le=1024, description="of every level; even")
    kernel_size: Literal[3, 5, 7] = Field(default=5, description="of the depthwise convolutions")
    extra_levels: int = Field(default=1, ge=0, le=3, description="levels coarser than the backbone's")
    depthwise: bool = Field(default=True, description="the convolutions that halve are depthwise-separable")
    expansion: float = Field(default=1.0, ge=0.5, le=8, description="channels within a ghost block, share of channels")
    blocks: int = Field(default=1, ge=1, le=8, description="ghost blocks where two levels meet")
    residual: bool = Field(default=False, description="a 1x1 convolution from where they begin to where they end")
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    activation: Activation = "leaky-relu"

    @field_validator("channels")
    @classmethod
    def _even(cls, channels: int) -> int:
        if channels % 2:
            raise ValueError("channels must be even: a ghost module makes two halves")
        return channels


class NanoDetPlusHeadConfig(SeparableHeadConfig):
    """The head of NanoDet-Plus."""

    name: Literal["separable"] = "separable"
    kernel_size: Literal[3, 5, 7] = 5


class NanoDetPlusConfig(Config):
    """NanoDet-Plus. The defaults are those of NanoDet-Plus-m at 320 x 320."""

    name: Literal["nanodet-plus"] = "nanodet-plus"
    input: Preprocess = Preprocess()
    backbone: BackboneConfig = ShuffleNetV2Config()
    neck: GhostPANConfig = GhostPANConfig()
    head: Annotated[NanoDetPlusHeadConfig | SimpleHeadConfig, Field(discriminator="name")] = NanoDetPlusHeadConfig()
    selection: Selection = Selection()

    @model_validator(mode="before")
    @classmethod
    def _usual_head(cls, tree: Any) -> Any:
        """A head without a name is the separable one: run files and weights from before there was a choice."""
        if isinstance(tree, dict) and isinstance(head := tree.get("head"), dict):
            return {**tree, "head": {"name": "separable", **head}}
        return tree

    def build(self, num_classes: int) -> Detector:
        """The detector, with fresh weights.

        Raises:
            ConfigError: the backbone's levels do not each halve the resolution.
        """
        backbone = self.backbone.build()
        check_levels_halve(backbone.strides, self.backbone.name)
        neck = GhostPAN(
            backbone.channels,
            self.neck.channels,
            strides=backbone.strides,
            kernel_size=self.neck.kernel_size,
            extra_levels=self.neck.extra_levels,
            depthwise=self.neck.depthwise,
            expansion=self.neck.expansion,
            blocks=self.neck.blocks,
            residual=self.neck.residual,
            upsampling=self.neck.upsampling,
            activation=self.neck.activation,
        )
        head = self.head.build(self.neck.channels, num_classes, strides=neck.strides, offset=0.0)
        return Detector(backbone, neck, head)


class GhostBlock(nn.Module):
    """Two ghost modules and a shortcut: of a depthwise and a pointwise convolution, or the input where it fits.

    Args:
        in_channels, out_channels: of the block.
        hidden_channels: between the ghost modules.
        kernel_size: of the shortcut's depthwise convolution.
        activation: of the first ghost module.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, hidden_channels: int, kernel_size: int, activation: Activation
    ) -> None:
        super().__init__()
        self.ghosts = nn.Sequential(
            GhostModule(in_channels, hidden_channels, activation=activation),
            GhostModule(hidden_channels, out_channels, activation="none"),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                ConvNormAct(in_channels, in_channels, kernel_size, depthwise=True, activation="none"),
                ConvNormAct(in_channels, out_channels, activation="none"),
            )

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        return self.ghosts(features) + self.shortcut(features)


class GhostBlocks(nn.Module):
    """Ghost blocks in a row; a 1x1 convolution of the input may be added to their result."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: Sequence[GhostBlock],
        *,
        residual: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.residual = ConvNormAct(in_channels, out_channels, activation=activation) if residual else None

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        result: Tensor = self.blocks(features)
        return result if self.residual is None else result + self.residual(features)


class GhostPAN(nn.Module):
    """Features of a backbone to as many levels, plus `extra_levels`, of equal channels.

    Args:
        in_channels: of each input, finest level first.
        channels: of each output.
        strides: of each input, pixels per cell.
        kernel_size: of the depthwise convolutions.
        extra_levels: each is the sum of two stride-2 convolutions: one of the coarsest reduced input (for the
            first extra level; then of the previous extra level), one of the coarsest output so far.
        depthwise: the convolutions that halve are depthwise-separable.
        expansion: channels between the modules of a ghost block, share of `channels`.
        blocks: ghost blocks where two levels meet.
        residual: a 1x1 convolution of what meets is added to their result.
        upsampling: of the coarser level.
        activation: of all convolutions that have one.

    Attributes:
        channels, strides: of what is returned.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        strides: Sequence[int],
        kernel_size: int = 5,
        extra_levels: int = 1,
        depthwise: bool = True,
        expansion: float = 1.0,
        blocks: int = 1,
        residual: bool = False,
        upsampling: Literal["bilinear", "nearest"] = "bilinear",
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        steps = len(in_channels) - 1
        self.upsampling = upsampling

        def halve() -> nn.Module:
            kind = SeparableConv if depthwise else ConvNormAct
            return kind(channels, channels, kernel_size, stride=2, activation=activation)

        def block(count: int) -> GhostBlock:
            hidden = int(channels * expansion)
            return GhostBlock(count, channels, hidden_channels=hidden, kernel_size=kernel_size, activation=activation)

        def merge() -> nn.Module:
            first = block(2 * channels)
            if blocks == 1 and not residual:
                return first
            row = [first, *(block(channels) for _ in range(blocks - 1))]
            return GhostBlocks(2 * channels, channels, row, residual=residual, activation=activation)

        self.reduce = nn.ModuleList(ConvNormAct(count, channels, activation=activation) for count in in_channels)
        # Both lists in the order of use: top_down starts at the coarsest level, bottom_up at the finest.
        self.top_down = nn.ModuleList(merge() for _ in range(steps))
        self.downsample = nn.ModuleList(halve() for _ in range(steps))
        self.bottom_up = nn.ModuleList(merge() for _ in range(steps))
        self.extra_in = nn.ModuleList(halve() for _ in range(extra_levels))
        self.extra_out = nn.ModuleList(halve() for _ in range(extra_levels))
        self.strides = (*strides, *(strides[-1] * 2**level for level in range(1, extra_levels + 1)))
        self.channels = (channels,) * len(self.strides)
        for module in (self.reduce, self.downsample, self.extra_in, self.extra_out):
            kaiming_init(module)

    def forward(self, features: Features) -> list[Tensor]:
        reduced = [conv(level) for conv, level in zip(self.reduce, features, strict=True)]
        inner = reduced[-1:]
        for merge, finer in zip(self.top_down, reversed(reduced[:-1]), strict=True):
            coarser = self._upsampled(inner[0], finer)
            inner.insert(0, merge(torch.cat((coarser, finer), dim=1)))
        outputs = inner[:1]
        for halve, merge, level in zip(self.downsample, self.bottom_up, inner[1:], strict=True):
            outputs.append(merge(torch.cat((halve(outputs[-1]), level), dim=1)))
        source = reduced[-1]
        for from_input, from_output in zip(self.extra_in, self.extra_out, strict=True):
            source = from_input(source) + from_output(outputs[-1])
            outputs.append(source)
        return outputs

    def _upsampled(self, features: Tensor, like: Tensor) -> Tensor:
        """Features at the height and width of `like`."""
        if self.upsampling == "nearest":
            return F.interpolate(features, size=like.shape[-2:], mode="nearest")
        return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
