"""The assign-guidance branch: a second neck and a far larger head that learn beside a small detector.

RangiLyu/nanodet (Apache-2.0), `NanoDetPlus` and `SimpleConvHead`; PaddlePaddle/PaddleDetection (Apache-2.0),
`PPYOLOEWithAuxHead`, does the same. The branch lives in the criterion: the detector never holds it.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from falconet.models.layers import ACTIVATIONS, CLASS_PRIOR, Activation, flatten_level, init_prior_bias
from falconet.models.types import Features, ForwardOutputs, HeadOutputs


def guide(neck: nn.Module, head: "AuxiliaryHead", outputs: ForwardOutputs, *, detached: bool = False) -> HeadOutputs:
    """What the branch predicts.

    Args:
        neck: the second one.
        head: on the features of both necks side by side.
        outputs: of the detector.
        detached: keep the branch's gradients from backbone and neck.
    """
    first, second = list(outputs.neck), list(outputs.backbone)
    if detached:
        first, second = [level.detach() for level in first], [level.detach() for level in second]
    both = [torch.cat(levels, dim=1) for levels in zip(first, neck(second), strict=True)]
    return HeadOutputs(*head(both), None, outputs.raw.priors)


class _ConvGroupNormAct(nn.Module):
    """3x3 convolution, group norm, activation."""

    def __init__(self, in_channels: int, channels: int, *, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        # 32 groups, as in the original, wherever 32 divides the channels (it does in all published sizes).
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        return self.act(self.norm(self.conv(features)))


class AuxiliaryHead(nn.Module):
    """Classes and boxes from wide features, by one stack of 3x3 convolutions each, shared over the levels.

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
            return nn.Sequential(*(_ConvGroupNormAct(a, b, activation=activation) for a, b in pairwise(counts)))

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
        """Logits and box codes, in the order of the detector's own predictions."""
        logits, codes = [], []
        for level, scale in zip(features, self.scales, strict=True):
            logits.append(flatten_level(self.class_output(self.class_convs(level))))
            codes.append(flatten_level(self.box_output(self.box_convs(level)) * scale))
        return torch.cat(logits, dim=1), torch.cat(codes, dim=1)
