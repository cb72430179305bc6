"""CSPResNet: residual stages of which half of the channels bypass the blocks ("cross stage partial").

Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN" (arXiv:1911.11929), figure 3, and
the CSPRepResNet of PP-YOLOE (arXiv:2203.16250, section 2.2; PaddlePaddle/PaddleDetection, Apache-2.0).

* Variants s, m, l, x: those of PP-YOLOE; blocks with RepVGG convolutions, effective squeeze-excite, fusion first.
* Variant 50: CSPResNet-50 of CSPNet as in timm; bottleneck blocks, a pooled stem, the full transitions.

`fusion` says where the two halves meet: "first" joins them before the transition (a pointwise convolution), "last"
after one on the blocks' half alone, "full" between two transitions.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import EffectiveSqueezeExcite, RepVGGBlock, StagedBackbone, check_stages
from falconet.models.layers import ACTIVATIONS, Activation, ConvNormAct

Stem = Literal["large", "small", "pooled"]
Fusion = Literal["first", "last", "full"]
Block = Literal["repvgg", "bottleneck"]

STRIDES = (4, 8, 16, 32)


class Design(NamedTuple):
    """What a variant stands for."""

    width: float
    depth: float
    stem_channels: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    stem: Stem
    fusion: Fusion
    block: Block
    activation: Activation


def _pp_yoloe(width: float, depth: float) -> Design:
    return Design(width, depth, 64, (128, 256, 512, 1024), (3, 6, 6, 3), "large", "first", "repvgg", "silu")


DESIGNS = {
    "s": _pp_yoloe(0.5, 0.33),
    "m": _pp_yoloe(0.75, 0.67),
    "l": _pp_yoloe(1.0, 1.0),
    "x": _pp_yoloe(1.25, 1.33),
    "50": Design(1.0, 1.0, 64, (128, 256, 512, 1024), (3, 3, 5, 2), "pooled", "full", "bottleneck", "leaky-relu-0.01"),
}


class CSPResNetConfig(Config):
    """CSPResNet as a backbone. What is null is the variant's."""

    name: Literal["cspresnet"] = "cspresnet"
    variant: Literal["s", "m", "l", "x", "50"] = "s"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the number of channels")
    depth: float | None = Field(default=None, gt=0, le=4, description="multiple of the number of blocks")
    out_stages: tuple[Literal[0, 1, 2, 3], ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned: strides 4, 8, 16, 32"
    )
    stem: Stem | None = Field(
        default=None, description="large: three 3x3 convolutions, small: two, pooled: 7x7 and max-pooling"
    )
    fusion: Fusion | None = Field(default=None, description="where the halves of a stage meet")
    alpha: bool = Field(default=False, description="a learnt factor for the 1x1 branch of each RepVGG convolution")
    activation: Activation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CSPResNetConfig":
        check_stages(self.out_stages, len(STRIDES))
        design = DESIGNS[self.variant]
        if self.alpha and design.block != "repvgg":
            raise ValueError(f"alpha belongs to RepVGG convolutions, which variant {self.variant} does not have")
        if (self.stem == "pooled") != (design.stem == "pooled") and self.stem is not None:
            raise ValueError(f"variant {self.variant} has no {self.stem} stem: only variant 50 has the pooled one")
        return self

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        design = DESIGNS[self.variant]
        width = design.width if self.width is None else self.width
        depth = design.depth if self.depth is None else self.depth
        return cspresnet(
            stem_channels=max(2, round(design.stem_channels * width)),
            channels=[max(2, round(count * width)) for count in design.channels],
            blocks=[max(1, round(count * depth)) for count in design.blocks],
            out_stages=self.out_stages,
            stem=design.stem if self.stem is None else self.stem,
            fusion=design.fusion if self.fusion is None else self.fusion,
            block=design.block,
            alpha=self.alpha,
            activation=design.activation if self.activation is None else self.activation,
        )


class RepVGGResidual(nn.Module):
    """A 3x3 convolution and a RepVGG convolution, plus the input (PP-YOLOE)."""

    def __init__(self, channels: int, *, activation: Activation, alpha: bool) -> None:
        super().__init__()
        self.conv = ConvNormAct(channels, channels, 3, activation=activation)
        self.repvgg = RepVGGBlock(channels, channels, activation=activation, alpha=alpha)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return features + self.repvgg(self.conv(features))


class Bottleneck(nn.Module):
    """1x1 to half of the channels, 3x3, 1x1 back; plus the input, then the activation (arXiv:1512.03385)."""

    def __init__(self, channels: int, *, activation: Activation) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.convs = nn.Sequential(
            ConvNormAct(channels, hidden, activation=activation),
            ConvNormAct(hidden, hidden, 3, activation=activation),
            ConvNormAct(hidden, channels, activation="none"),
        )
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.act(self.convs(features) + features)


class CSPStage(nn.Module):
    """One stage: two pointwise convolutions make two halves, blocks follow on the second, the halves are joined.

    Args:
        in_channels, out_channels: of the stage.
        down_channels: of a 3x3 convolution with stride 2 in front; None leaves it out.
        split_channels: of the half with the blocks, and of the other one unless `fusion` is "last".
        blocks: modules that keep split_channels.
        fusion: "first", "last" or "full"; see this file's head.
        attention: effective squeeze-excite on the joined halves.
        split_activation: of the convolutions that make the halves.
        activation: of all others.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        down_channels: int | None,
        split_channels: int,
        blocks: Sequence[nn.Module],
        fusion: Fusion = "first",
        attention: bool = False,
        split_activation: Activation = "silu",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.down: nn.Module = nn.Identity()
        if down_channels is not None:
            self.down = ConvNormAct(in_channels, down_channels, 3, stride=2, activation=activation)
            in_channels = down_channels
        bypass_channels = out_channels // 2 if fusion == "last" else split_channels
        self.bypass = ConvNormAct(in_channels, bypass_channels, activation=split_activation)
        self.entry = ConvNormAct(in_channels, split_channels, activation=split_activation)
        self.blocks = nn.Sequential(*blocks)
        self.block_transition: nn.Module = nn.Identity()
        if fusion != "first":
            kept = out_channels - bypass_channels if fusion == "last" else split_channels
            self.block_transition = ConvNormAct(split_channels, kept, activation=activation)
        joined = out_channels if fusion == "last" else 2 * split_channels
        self.attention = EffectiveSqueezeExcite(joined) if attention else nn.Identity()
        self.transition: nn.Module = nn.Identity()
        if fusion != "last":
            self.transition = ConvNormAct(joined, out_channels, activation=activation)

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        features = self.down(features)
        through = self.block_transition(self.blocks(self.entry(features)))
        joined = torch.cat((self.bypass(features), through), dim=1)
        return self.transition(self.attention(joined))


def cspresnet(
    *,
    stem_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    out_stages: Sequence[int] = (1, 2, 3),
    stem: Stem = "large",
    fusion: Fusion = "first",
    block: Block = "repvgg",
    alpha: bool = False,
    activation: Activation = "silu",
) -> StagedBackbone:
    """CSPResNet without a classifier.

    Args:
        stem_channels: of the stem.
        channels, blocks: of each of the four stages.
        out_stages: stages that are returned.
        stem: "large", "small" (both stride 2) or "pooled" (stride 4; the first stage then keeps the resolution).
        fusion: as in `CSPStage`.
        block: "repvgg": `RepVGGResidual` on a quarter of the channels of input and output together, with attention;
            "bottleneck": `Bottleneck` on as many channels as the output, without attention.
        alpha: of the RepVGG convolutions.
        activation: of all convolutions, those that make the halves of bottleneck stages excepted.
    """
    in_channels = stem_channels
    stages = []
    for number, (out_channels, count) in enumerate(zip(channels, blocks, strict=True)):
        halves = stem != "pooled" or number > 0
        if block == "repvgg":
            middle = (in_channels + out_channels) // 2
            split = middle // 2
            stage = CSPStage(
                in_channels,
                out_channels,
                down_channels=middle if halves else None,
                split_channels=split,
                blocks=[RepVGGResidual(split, activation=activation, alpha=alpha) for _ in range(count)],
                fusion=fusion,
                attention=True,
                split_activation=activation,
                activation=activation,
            )
        else:
            stage = CSPStage(
                in_channels,
                out_channels,
                down_channels=in_channels if halves else None,
                split_channels=out_channels,
                blocks=[Bottleneck(out_channels, activation=activation) for _ in range(count)],
                fusion=fusion,
                split_activation="none",
                activation=activation,
            )
        stages.append(stage)
        in_channels = out_channels
    return StagedBackbone(
        _stem(stem, stem_channels, activation), stages, channels=channels, strides=STRIDES, out_stages=out_stages
    )


def _stem(kind: Stem, channels: int, activation: Activation) -> nn.Sequential:
    if kind == "pooled":
        return nn.Sequential(
            ConvNormAct(3, channels, 7, stride=2, activation=activation), nn.MaxPool2d(3, stride=2, padding=1)
        )
    half = channels // 2
    stem = nn.Sequential(ConvNormAct(3, half, 3, stride=2, activation=activation))
    if kind == "large":
        stem.append(ConvNormAct(half, half, 3, activation=activation))
    return stem.append(ConvNormAct(half, channels, 3, activation=activation))
