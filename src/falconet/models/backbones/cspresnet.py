"""CSPResNet: residual stages of which half of the channels bypass the blocks ("cross stage partial").

Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN" (arXiv:1911.11929), figure 3, and
the CSPRepResNet of PP-YOLOE (arXiv:2203.16250, section 2.2; PaddlePaddle/PaddleDetection, Apache-2.0).

* Variants s, m, l, x: those of PP-YOLOE; blocks with RepVGG convolutions, effective squeeze-excite, fusion first.
* Variant 50: CSPResNet-50 of CSPNet as in timm; bottleneck blocks, a pooled stem, the full transitions.

`fusion` says where the two halves meet: "first" joins them before the transition (a pointwise convolution), "last"
after one on the blocks' half alone, "full" between two transitions.

Own additions: stages of any number, `attention` and `shortcut` for every block, `identity` (RepVGG's third branch).
"""

import itertools
import operator
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

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
Attention = Literal["effective-squeeze-excite", "none"]

Count = Annotated[int, Field(ge=1, le=64)]
Channels = Annotated[int, Field(ge=2, le=8192)]


class Design(NamedTuple):
    """What a variant stands for."""

    width: float
    depth: float
    stem: Stem
    strides: tuple[int, ...]
    fusion: Fusion
    block: Block
    activation: Activation
    attention: Attention
    blocks: tuple[int, ...] = (3, 6, 6, 3)
    stem_channels: int = 64
    channels: tuple[int, ...] = (128, 256, 512, 1024)


def _pp_yoloe(width: float, depth: float) -> Design:
    return Design(width, depth, "large", (2, 2, 2, 2), "first", "repvgg", "silu", "effective-squeeze-excite")


DESIGNS = {
    "s": _pp_yoloe(0.5, 0.33),
    "m": _pp_yoloe(0.75, 0.67),
    "l": _pp_yoloe(1.0, 1.0),
    "x": _pp_yoloe(1.25, 1.33),
    "50": Design(1, 1, "pooled", (1, 2, 2, 2), "full", "bottleneck", "leaky-relu-0.01", "none", (3, 3, 5, 2)),
}


class CSPResNetConfig(Config):
    """CSPResNet as a backbone. What is null is the variant's."""

    name: Literal["cspresnet"] = "cspresnet"
    variant: Literal["s", "m", "l", "x", "50"] = "s"
    width: float | None = Field(default=None, gt=0, le=4, description="multiple of the number of channels")
    depth: float | None = Field(default=None, gt=0, le=4, description="multiple of the number of blocks")
    out_stages: tuple[int, ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned; of four, the last three"
    )
    layers: tuple[Count, ...] | None = Field(
        default=None, min_length=1, max_length=8, description="blocks of each stage, times depth"
    )
    channels: tuple[Channels, ...] | None = Field(
        default=None, min_length=2, max_length=9, description="of the stem and of each stage, times width"
    )
    stage_strides: tuple[Literal[1, 2], ...] | None = Field(
        default=None, min_length=1, max_length=8, description="of each stage; 1 keeps the resolution"
    )
    stem: Stem | None = Field(
        default=None, description="large: three 3x3 convolutions, small: two, pooled: 7x7 and max-pooling"
    )
    fusion: Fusion | None = Field(default=None, description="where the halves of a stage meet")
    alpha: bool = Field(default=False, description="a learnt factor for the 1x1 branch of each RepVGG convolution")
    identity: bool = Field(default=False, description="a norm of the input as third branch of each RepVGG convolution")
    attention: Attention | None = Field(default=None, description="on the joined halves of each stage")
    shortcut: bool = Field(default=True, description="add the input of each block to its output")
    activation: Activation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CSPResNetConfig":
        design = self.design()
        counts = {"layers": len(design.blocks), "channels": len(design.channels), "stage_strides": len(design.strides)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{key} of {count}" for key, count in counts.items())
            raise ValueError(f"each stage needs its layers, channels (the stem's come first) and stride; found {told}")
        check_stages(self.out_stages, len(design.blocks))
        if (self.alpha or self.identity) and design.block != "repvgg":
            key = "alpha" if self.alpha else "identity"
            raise ValueError(f"{key} belongs to RepVGG convolutions, which variant {self.variant} does not have")
        own = DESIGNS[self.variant].stem
        if (design.stem == "pooled") != (own == "pooled"):
            raise ValueError(f"variant {self.variant} has no {self.stem} stem: only variant 50 has the pooled one")
        return self

    def design(self) -> Design:
        """The variant with the settings that are not null in the place of its own."""
        design = DESIGNS[self.variant]
        stem_channels, *channels = self.channels or (design.stem_channels, *design.channels)
        return Design(
            width=design.width if self.width is None else self.width,
            depth=design.depth if self.depth is None else self.depth,
            stem=self.stem or design.stem,
            strides=self.stage_strides or design.strides,
            fusion=self.fusion or design.fusion,
            block=design.block,
            activation=self.activation or design.activation,
            attention=self.attention or design.attention,
            blocks=self.layers or design.blocks,
            stem_channels=stem_channels,
            channels=tuple(channels),
        )

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return cspresnet(
            self.design(),
            out_stages=self.out_stages,
            alpha=self.alpha,
            identity=self.identity,
            shortcut=self.shortcut,
        )


class RepVGGResidual(nn.Module):
    """A 3x3 convolution and a RepVGG convolution, plus the input unless `shortcut` is off (PP-YOLOE)."""

    def __init__(
        self,
        channels: int,
        *,
        activation: Activation,
        alpha: bool = False,
        identity: bool = False,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv = ConvNormAct(channels, channels, 3, activation=activation)
        self.repvgg = RepVGGBlock(channels, channels, activation=activation, alpha=alpha, identity=identity)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        block = self.repvgg(self.conv(features))
        return features + block if self.shortcut else block


class Bottleneck(nn.Module):
    """1x1 to half of the channels, 3x3, 1x1 back; plus the input unless `shortcut` is off; then the activation.

    "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
    """

    def __init__(self, channels: int, *, activation: Activation, shortcut: bool = True) -> None:
        super().__init__()
        self.shortcut = shortcut
        hidden = max(1, channels // 2)
        self.convs = nn.Sequential(
            ConvNormAct(channels, hidden, activation=activation),
            ConvNormAct(hidden, hidden, 3, activation=activation),
            ConvNormAct(hidden, channels, activation="none"),
        )
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        block = self.convs(features)
        return self.act(block + features if self.shortcut else block)


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
    design: Design,
    *,
    out_stages: Sequence[int] = (1, 2, 3),
    alpha: bool = False,
    identity: bool = False,
    shortcut: bool = True,
) -> StagedBackbone:
    """CSPResNet without a classifier.

    Args:
        design: `stem` is "large", "small" (both of stride 2) or "pooled" (stride 4); `fusion` as in `CSPStage`;
            `block` is "repvgg": `RepVGGResidual` on a quarter of the channels of input and output together, or
            "bottleneck": `Bottleneck` on as many channels as the output.
        out_stages: stages that are returned.
        alpha, identity: of the RepVGG convolutions.
        shortcut: of all blocks.
    """
    activation = design.activation
    in_channels = stem_channels = max(2, round(design.stem_channels * design.width))
    channels = [max(2, round(count * design.width)) for count in design.channels]
    stages = []
    for out_channels, count, stride in zip(channels, design.blocks, design.strides, strict=True):
        repvgg = design.block == "repvgg"
        middle = (in_channels + out_channels) // 2 if repvgg else in_channels
        split = middle // 2 if repvgg else out_channels
        blocks = [
            RepVGGResidual(split, activation=activation, alpha=alpha, identity=identity, shortcut=shortcut)
            if repvgg
            else Bottleneck(split, activation=activation, shortcut=shortcut)
            for _ in range(max(1, round(count * design.depth)))
        ]
        stages.append(
            CSPStage(
                in_channels,
                out_channels,
                down_channels=middle if stride == 2 else None,
                split_channels=split,
                blocks=blocks,
                fusion=design.fusion,
                attention=design.attention != "none",
                split_activation=activation if repvgg else "none",
                activation=activation,
            )
        )
        in_channels = out_channels
    initial = 4 if design.stem == "pooled" else 2
    return StagedBackbone(
        _stem(design.stem, stem_channels, activation),
        stages,
        channels=channels,
        strides=list(itertools.accumulate(design.strides, operator.mul, initial=initial))[1:],
        out_stages=out_stages,
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
