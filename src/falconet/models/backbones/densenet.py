"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017
(arXiv:1608.06993), table 1, with the numbers of torchvision (BSD-3-Clause); and CSPDenseNet: Wang et al., "CSPNet: A
New Backbone that can Enhance Learning Capability of CNN" (arXiv:1911.11929), section 3 and figure 3.

Each layer of a dense block sees the outputs of all before it; norm and activation come before the convolutions. With
`fusion`, a share of a stage's input bypasses its dense block, and the transition behind it is changed:

* "first": the two parts are joined, then comes DenseNet's transition.
* "last": a transition on the dense part alone, then the parts are joined.
* "full": both: a transition on the dense part, joined, and one on all.

Own differences: behind the last block, where DenseNet has no transition, the parts are only joined; sides that two does
not divide are rounded up; `width` and sizes of one's own. The last norm and activation belong to the last stage.
"""

from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, stages_exist
from falconet.models.backbones.cspresnet import Fusion
from falconet.models.layers import ACTIVATIONS, Activation, ConvNormAct

STRIDES = (4, 8, 16, 32)
Count = Annotated[int, Field(ge=1, le=64)]


class Design(NamedTuple):
    """What a variant stands for."""

    blocks: tuple[int, int, int, int]
    growth: int = 32
    stem_channels: int = 64


DESIGNS = {
    121: Design((6, 12, 24, 16)),
    161: Design((6, 12, 36, 24), 48, 96),
    169: Design((6, 12, 32, 32)),
    201: Design((6, 12, 48, 32)),
}


class StagePlan(NamedTuple):
    """Channels of a stage: of its input, of these past the dense block, of its output, after its transition."""

    in_channels: int
    bypass: int
    out_channels: int
    passed_on: int


class DenseNetConfig(Config):
    """DenseNet, or CSPDenseNet where `fusion` is set, as a backbone. What is null is the variant's."""

    name: Literal["densenet"] = "densenet"
    variant: Literal[121, 161, 169, 201] = 121
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the growth and of the stem's channels")
    layers: tuple[Count, Count, Count, Count] | None = Field(default=None, description="of each stage's dense block")
    growth: int | None = Field(default=None, ge=1, le=256, description="channels that each layer adds, times width")
    bottleneck: int = Field(default=4, ge=1, le=16, description="channels between a layer's convolutions per growth")
    compression: float = Field(default=0.5, gt=0, le=1, description="channels behind a transition per channel before")
    fusion: Fusion | None = Field(default=None, description="CSPNet: where bypass and dense part meet; null: DenseNet")
    bypass: float = Field(default=0.5, gt=0, lt=1, description="share of a stage's input past its block, with fusion")
    out_stages: tuple[Literal[0, 1, 2, 3], ...] = Field(
        default=(1, 2, 3), min_length=1, description="stages that are returned: strides 4, 8, 16, 32"
    )
    activation: Activation = "relu"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    @model_validator(mode="after")
    def _consistent(self) -> "DenseNetConfig":
        for number, stage in enumerate(self.plan()[:-1]):
            if stage.passed_on <= stage.bypass:
                raise ValueError(
                    f"compression {self.compression} leaves {stage.passed_on} channels behind stage {number}, of which "
                    f"{stage.bypass} bypass it: choose a larger compression or a smaller bypass"
                )
        return self

    def sizes(self) -> Design:
        """Layers, growth and stem that are built."""
        design = DESIGNS[self.variant]
        growth = design.growth if self.growth is None else self.growth
        return Design(
            design.blocks if self.layers is None else self.layers,
            max(1, round(growth * self.width)),
            max(2, round(design.stem_channels * self.width)),
        )

    def plan(self) -> list[StagePlan]:
        """Channels of the four stages."""
        layers, growth, in_channels = self.sizes()
        stages = []
        for count in layers:
            bypass = 0 if self.fusion is None else min(in_channels - 1, max(1, round(in_channels * self.bypass)))
            out_channels = in_channels + count * growth
            stages.append(StagePlan(in_channels, bypass, out_channels, max(1, int(out_channels * self.compression))))
            in_channels = stages[-1].passed_on
        return stages

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        layers, growth, stem_channels = self.sizes()
        plan = self.plan()
        stages: list[nn.Sequential] = []
        for number, (count, stage) in enumerate(zip(layers, plan, strict=True)):
            modules = nn.Sequential()
            if number:
                modules.append(Transition(plan[number - 1], fusion=self.fusion or "first", activation=self.activation))
            modules.append(
                DenseBlock(
                    stage.in_channels,
                    count,
                    growth=growth,
                    hidden_channels=self.bottleneck * growth,
                    bypass=stage.bypass,
                    activation=self.activation,
                )
            )
            stages.append(modules)
        stages[-1].append(NormAct(plan[-1].out_channels, activation=self.activation))
        return StagedBackbone(
            nn.Sequential(
                ConvNormAct(3, stem_channels, 7, stride=2, activation=self.activation),
                nn.MaxPool2d(3, stride=2, padding=1),
            ),
            stages,
            channels=[stage.out_channels for stage in plan],
            strides=STRIDES,
            out_stages=self.out_stages,
        )


class NormAct(nn.Module):
    """Batch norm and activation, before a convolution."""

    def __init__(self, channels: int, *, activation: Activation) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return self.act(self.norm(features))

    def fused(self) -> nn.Module:
        """The norm as a depthwise 1x1 convolution, which engines run together with the activation. Needs eval mode."""
        norm = self.norm
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        conv = nn.Conv2d(norm.num_features, norm.num_features, 1, groups=norm.num_features)
        conv.weight = nn.Parameter(scale[:, None, None, None])
        conv.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
        return nn.Sequential(conv, self.act).eval()


class DenseBlock(nn.Module):
    """Layers of which each adds channels to what it sees: 1x1 to the hidden channels, 3x3 to `growth`.

    Args:
        in_channels: of the input.
        layers: how many.
        growth: channels that each adds.
        hidden_channels: between its convolutions.
        bypass: the first channels of the input, which no layer sees; they come first in the output, too.
        activation: before every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        layers: int,
        *,
        growth: int,
        hidden_channels: int,
        bypass: int = 0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.bypass = bypass
        seen = in_channels - bypass
        self.layers = nn.ModuleList(
            nn.Sequential(
                NormAct(seen + index * growth, activation=activation),
                ConvNormAct(seen + index * growth, hidden_channels, activation=activation),
                nn.Conv2d(hidden_channels, growth, 3, padding=1, bias=False),
            )
            for index in range(layers)
        )

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        seen = features[:, self.bypass :] if self.bypass else features
        for layer in self.layers:
            seen = torch.cat((seen, layer(seen)), dim=1)
        return torch.cat((features[:, : self.bypass], seen), dim=1) if self.bypass else seen


class Transition(nn.Module):
    """Fewer channels by a pointwise convolution, or two, then half of the resolution by means of 2 x 2.

    Args:
        stage: that comes before.
        fusion: see this file's head.
        activation: before each convolution.
    """

    def __init__(self, stage: StagePlan, *, fusion: Fusion, activation: Activation) -> None:
        super().__init__()
        self.bypass = stage.bypass
        joined, kept = stage.out_channels, stage.passed_on
        self.block_transition: nn.Module = nn.Identity()
        if fusion != "first":
            self.block_transition = _pointwise(joined - self.bypass, kept - self.bypass, activation)
            joined = kept
        self.transition = nn.Identity() if fusion == "last" else _pointwise(joined, kept, activation)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        if not isinstance(self.block_transition, nn.Identity):
            dense = self.block_transition(features[:, self.bypass :])
            features = torch.cat((features[:, : self.bypass], dense), dim=1)
        return self.pool(self.transition(features))


def _pointwise(in_channels: int, out_channels: int, activation: Activation) -> nn.Sequential:
    return nn.Sequential(
        NormAct(in_channels, activation=activation), nn.Conv2d(in_channels, out_channels, 1, bias=False)
    )
