"""ShuffleNetV2: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", ECCV 2018 (arXiv:1807.11164), table 5 and figure 3 (c), (d).

A unit sends half of its channels through a bottleneck of pointwise, depthwise and pointwise convolution,
lets the other half pass, and interleaves both ("channel shuffle"). Here the two halves stay two tensors: the
next unit takes the interleaved first and second halves directly from them, so that no tensor is joined only
to be split. The numbers are those of the original.

Own differences: `with_last_conv` and `activation` follow RangiLyu/nanodet. Initialisation as there. `bottleneck` is
ours: the channels within a unit can be fewer, where those between units, which every shuffle mixes, stay.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import make_divisible
from falconet.models.layers import Activation, ConvNormAct

STEM_CHANNELS = 24
LAST_CHANNELS = {0.5: 1024, 1.0: 1024, 1.5: 1024, 2.0: 2048}
STAGE_CHANNELS = {
    0.5: (48, 96, 192),
    1.0: (116, 232, 464),
    1.5: (176, 352, 704),
    2.0: (244, 488, 976),
}
STAGE_UNITS = (4, 8, 4)
Stage = Literal[2, 3, 4]


class ShuffleNetV2Config(Config):
    """ShuffleNetV2 as a backbone."""

    name: Literal["shufflenet-v2"] = "shufflenet-v2"
    width: Literal[0.5, 1.0, 1.5, 2.0] = Field(default=1.0, description="multiple of the number of channels")
    out_stages: tuple[Stage, ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 8, 16, 32"
    )
    activation: Activation = "leaky-relu"
    with_last_conv: bool = Field(
        default=False, description="a 1x1 convolution to 1024 (width 2: 2048) channels after stage 4"
    )
    bottleneck: float = Field(
        default=1.0, ge=0.1, le=2, description="channels within a unit, share of those it returns; rounded to 8"
    )

    @field_validator("out_stages")
    @classmethod
    def _ascending(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if list(stages) != sorted(set(stages)):
            raise ValueError("stages must ascend, each at most once, as in [2, 3, 4]")
        return stages

    @model_validator(mode="after")
    def _last_conv_has_its_stage(self) -> "ShuffleNetV2Config":
        if self.with_last_conv and 4 not in self.out_stages:
            raise ValueError("with_last_conv needs stage 4 among out_stages")
        return self

    def build(self) -> "ShuffleNetV2":
        """The backbone, with fresh weights."""
        return ShuffleNetV2(**self.settings())


class Interleave(nn.Module):
    """Channels of two tensors in turn: first 0, second 0, first 1, ...; in channels-last memory format.

    [B, C, H, W] twice to [B, 2 * C, H, W].
    """

    def forward(self, first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        pair = torch.stack((first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)), dim=-1)
        return pair.flatten(3).permute(0, 3, 1, 2)

    def fused(self) -> nn.Module:
        """The form for engines that keep channels first: one concatenation of whole planes."""
        return InterleavePlanes()


class InterleavePlanes(nn.Module):
    """`Interleave` for tensors in contiguous memory format: same result, other order of work."""

    def forward(self, first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        return torch.stack((first, second), dim=2).flatten(1, 2)


class ChannelShuffle(nn.Module):
    """The channel shuffle: two halves to the first and the second half of their interleaved channels."""

    def __init__(self) -> None:
        super().__init__()
        self.interleave = Interleave()

    def forward(
        self, first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        if torch.is_grad_enabled():
            return _interleave_halves(self.interleave, first, second)
        # Fewer, larger steps; its gradient would be slow.
        low, high = F.channel_shuffle(torch.cat((first, second), dim=1), 2).chunk(2, dim=1)
        return low, high

    def fused(self) -> nn.Module:
        """The form for engines that keep channels first."""
        return ChannelShufflePlanes()


class ChannelShufflePlanes(nn.Module):
    """`ChannelShuffle` for tensors in contiguous memory format: same result, other order of work."""

    def __init__(self) -> None:
        super().__init__()
        self.interleave = InterleavePlanes()

    def forward(
        self, first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        return _interleave_halves(self.interleave, first, second)


def _interleave_halves(interleave: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first_low, first_high = first.chunk(2, dim=1)
    second_low, second_high = second.chunk(2, dim=1)
    return interleave(first_low, second_low), interleave(first_high, second_high)


class Bottleneck(nn.Sequential):
    """Pointwise, depthwise (no activation), pointwise convolution; `inner` channels between them."""

    def __init__(self, in_channels: int, channels: int, inner: int, *, stride: int, activation: Activation) -> None:
        super().__init__(
            ConvNormAct(in_channels, inner, activation=activation),
            ConvNormAct(inner, inner, 3, stride=stride, depthwise=True, activation="none"),
            ConvNormAct(inner, channels, activation=activation),
        )


class DownUnit(nn.Module):
    """Halves the resolution: features [B, I, H, W] to two halves [B, channels, ceil(H / 2), ceil(W / 2)]."""

    def __init__(self, in_channels: int, channels: int, inner: int, *, activation: Activation) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            ConvNormAct(in_channels, in_channels, 3, stride=2, depthwise=True, activation="none"),
            ConvNormAct(in_channels, channels, activation=activation),
        )
        self.branch = Bottleneck(in_channels, channels, inner, stride=2, activation=activation)

    def forward(self, features: Float[Tensor, "B I H W"]) -> tuple[Tensor, Tensor]:
        return self.shortcut(features), self.branch(features)


class Unit(nn.Module):
    """Two halves [B, channels, H, W] to two halves of the same shape: one passed on, one computed."""

    def __init__(self, channels: int, inner: int, *, activation: Activation) -> None:
        super().__init__()
        self.exchange = ChannelShuffle()
        self.branch = Bottleneck(channels, channels, inner, stride=1, activation=activation)

    def forward(
        self, first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
        passed, taken = self.exchange(first, second)
        return passed, self.branch(taken)


class ShuffleStage(nn.Module):
    """A unit that halves the resolution and `units` - 1 more."""

    def __init__(
        self, in_channels: int, out_channels: int, units: int, *, bottleneck: float, activation: Activation
    ) -> None:
        super().__init__()
        half = out_channels // 2
        inner = half if bottleneck == 1 else make_divisible(half * bottleneck)
        self.down = DownUnit(in_channels, half, inner, activation=activation)
        self.units = nn.ModuleList(Unit(half, inner, activation=activation) for _ in range(units - 1))
        self.interleave = Interleave()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        first, second = self.down(features)
        for unit in self.units:
            first, second = unit(first, second)
        return self.interleave(first, second)


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 without its classifier.

    Args:
        width: a key of `STAGE_CHANNELS`.
        out_stages: stages whose output is returned, ascending; those after the last of them are left out.
        activation: of all convolutions but the depthwise ones, which have none.
        with_last_conv: stage 4 is followed by a 1x1 convolution to `LAST_CHANNELS`.
        bottleneck: channels within a unit, as a share of those it returns.

    Attributes:
        channels, strides: of what is returned.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        out_stages: Sequence[int] = (2, 3, 4),
        activation: Activation = "relu",
        with_last_conv: bool = False,
        bottleneck: float = 1.0,
    ) -> None:
        super().__init__()
        self.out_stages = tuple(out_stages)
        assert 4 in self.out_stages or not with_last_conv, "the last convolution belongs to stage 4"
        widths = STAGE_CHANNELS[width][: self.out_stages[-1] - 1]
        self.stem = ConvNormAct(3, STEM_CHANNELS, 3, stride=2, activation=activation)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList(
            ShuffleStage(in_channels, out_channels, units, bottleneck=bottleneck, activation=activation)
            for in_channels, out_channels, units in zip(
                (STEM_CHANNELS, *widths[:-1]), widths, STAGE_UNITS[: len(widths)], strict=True
            )
        )
        self.channels = tuple(widths[stage - 2] for stage in self.out_stages)
        self.last_conv: nn.Module = nn.Identity()
        if with_last_conv:
            self.last_conv = ConvNormAct(widths[-1], LAST_CHANNELS[width], activation=activation)
            self.channels = (*self.channels[:-1], LAST_CHANNELS[width])
        self.strides = tuple(2 ** (stage + 1) for stage in self.out_stages)
        self._initialise()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        features = self.pool(self.stem(images))
        outputs = []
        for number, stage in enumerate(self.stages, start=2):
            features = stage(features)
            if number in self.out_stages:
                outputs.append(features)
        outputs[-1] = self.last_conv(outputs[-1])
        return outputs

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=1.0 / module.weight.shape[1])
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 0.0001)
