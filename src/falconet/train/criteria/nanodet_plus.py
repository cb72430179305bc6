"""What NanoDet-Plus learns from: quality focal, GIoU and distribution focal loss on soft dynamic assignments.

Original: https://github.com/RangiLyu/nanodet (Apache-2.0), `NanoDetPlus`, `NanoDetPlusHead.loss` and
`SimpleConvHead`. Early in training the small head judges badly which prediction should learn which box. So a
second neck and a far larger head, the assign-guidance branch, learn beside it, and their predictions make the
assignment for both. They live here, in the criterion: the detector never holds them.

Where we differ from the source:
* With auxiliary="drop" the branch is not run any more from `detach_epoch` on, and the head assigns for itself.
  The original ("keep") runs it to the end, cut off from the gradients of backbone and neck.
* Several processes: a process without boxes takes part in the average of the divisors (there it waits forever).
"""

import copy
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from falconet.models.detector import Detector
from falconet.models.distances import boxes_at, expected_distances
from falconet.models.layers import ACTIVATIONS, CLASS_PRIOR, Activation, start_at
from falconet.models.nanodet_plus import NanoDetPlusConfig
from falconet.models.types import Features, Priors, Raw, Trace
from falconet.train import losses
from falconet.train.assign.dynamic_soft import dynamic_soft_assign
from falconet.train.batch import Targets
from falconet.train.criteria.phases import Phases
from falconet.train.criteria.processes import mean_over_processes, several_processes

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 2.0, 0.25


def build(config: NanoDetPlusConfig, detector: Detector, *, num_classes: int, phases: Phases) -> "NanoDetPlusCriterion":
    """The criterion for a detector built from `config`; see `NanoDetPlusCriterion`."""
    head = AuxiliaryHead(
        2 * config.neck.channels,
        num_classes,
        num_levels=len(detector.neck.strides),
        reg_max=config.head.reg_max,
        activation=config.head.activation,
    )
    return NanoDetPlusCriterion(detector.neck, head, auxiliary=phases.auxiliary, detach_epoch=phases.detach_epoch)


class _ConvGroupNormAct(nn.Module):
    """3x3 convolution, group norm, activation; as many channels out as in."""

    def __init__(self, channels: int, *, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # 32 groups, as in the original, wherever 32 divides the channels (it does in all published sizes).
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels)
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B I H W"]:
        return self.act(self.norm(self.conv(features)))


class AuxiliaryHead(nn.Module):
    """Classes and boxes from wide features, by one stack of 3x3 convolutions each, shared over the levels.

    Args:
        channels: of the features and of all layers.
        num_classes: C.
        num_levels: each has a learnt factor for its box codes.
        reg_max: largest distance of a side in strides; K = 4 * (reg_max + 1).
        stacked_convs: before the last convolution.
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
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()

        def stack() -> nn.Sequential:
            return nn.Sequential(*(_ConvGroupNormAct(channels, activation=activation) for _ in range(stacked_convs)))

        self.reg_max = reg_max
        self.class_convs = stack()
        self.box_convs = stack()
        self.class_output = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_output = nn.Conv2d(channels, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in range(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        start_at(CLASS_PRIOR, self.class_output.bias)
        nn.init.zeros_(self.box_output.bias)

    def forward(self, features: Features) -> tuple[Float[Tensor, "B P C"], Float[Tensor, "B P K"]]:
        """Logits and box codes, in the order of the detector's own predictions."""
        logits, codes = [], []
        for level, scale in zip(features, self.scales, strict=True):
            logits.append(_rows(self.class_output(self.class_convs(level))))
            codes.append(_rows(self.box_output(self.box_convs(level)) * scale))
        return torch.cat(logits, dim=1), torch.cat(codes, dim=1)


class _Matches(NamedTuple):
    """The N predictions of a batch that have a truth, and what they shall say."""

    rows: Int[Tensor, " N"]
    """positions in the predictions of all images, one after the other"""
    priors: Priors
    labels: Int[Tensor, " N"]
    quality: Float[Tensor, " N"]
    boxes: Float[Tensor, "N 4"]
    distances: Float[Tensor, "N 4"]


class NanoDetPlusCriterion(nn.Module):
    """Terms "class", "box", "distribution", and "auxiliary_..." ones while the auxiliary branch runs.

    Args:
        neck: the detector's; the auxiliary neck starts as a copy of it.
        auxiliary_head: on the features of both necks side by side.
        auxiliary: "keep" or "drop" the branch from `detach_epoch` on.
        detach_epoch: the first epoch, from 0, in which backbone and neck learn nothing from the branch.
    """

    def __init__(
        self,
        neck: nn.Module,
        auxiliary_head: AuxiliaryHead,
        *,
        auxiliary: Literal["drop", "keep"] = "drop",
        detach_epoch: int = 10,
    ) -> None:
        super().__init__()
        self.auxiliary_neck = copy.deepcopy(neck)
        self.auxiliary_head = auxiliary_head
        self.auxiliary = auxiliary
        self.detach_epoch = detach_epoch

    def forward(self, trace: Trace, targets: Targets, epoch: int) -> dict[str, Tensor]:
        """The weighted terms of the loss, scalars in float32, for a batch seen in `epoch` (from 0).

        Every parameter of detector and criterion that is in use gets a gradient, also from a batch without boxes.
        """
        detached = epoch >= self.detach_epoch
        guided = not (detached and self.auxiliary == "drop")
        found = {"": trace.raw}
        if guided:
            found["auxiliary_"] = self.guide(trace, detached=detached)
        # Half precision is for convolutions: differences of losses and of box sides need float32.
        with torch.autocast(trace.raw.logits.device.type, enabled=False):
            terms = nanodet_plus_terms(found, targets, reg_max=self.auxiliary_head.reg_max)
        if not guided and several_processes():
            # Processes wait for each other's gradients of all parameters; the dropped branch's are zero.
            terms["class"] = terms["class"] + _zero_from(self.parameters())
        return terms

    def guide(self, trace: Trace, *, detached: bool = False) -> Raw:
        """What the auxiliary branch predicts.

        Args:
            trace: of the detector.
            detached: keep the branch's gradients from backbone and neck.
        """
        backbone, neck = list(trace.backbone), list(trace.neck)
        if detached:
            backbone, neck = [level.detach() for level in backbone], [level.detach() for level in neck]
        second = self.auxiliary_neck(backbone)
        both = [torch.cat(levels, dim=1) for levels in zip(neck, second, strict=True)]
        return Raw(*self.auxiliary_head(both), None, trace.raw.priors)


def nanodet_plus_terms(found: dict[str, Raw], targets: Targets, *, reg_max: int) -> dict[str, Tensor]:
    """Weighted terms of all predictions in `found`, named by its keys followed by class, box, distribution.

    The last entry makes the assignment for all. Divisors are averaged over the processes of a distributed run:
    the class terms are divided by the number of matched predictions, the box terms by the sum of their weights
    (the best class score at present), both at least 1.
    """
    background = {name: losses.background_focal(raw.logits) for name, raw in found.items()}
    judge, raw = list(found.items())[-1]
    matches = _match(raw, background[judge].loss, targets, reg_max=reg_max)

    weights = {}
    for name, raw in found.items():
        logits = raw.logits.detach().flatten(0, 1)[matches.rows]
        weights[name] = losses.at_least_float32(logits).amax(-1).sigmoid()
    count = matches.quality.new_tensor(float(len(matches.rows)))
    divisors = torch.stack([count, *(weight.sum() for weight in weights.values())])
    divisors = mean_over_processes(divisors).clamp(min=1)

    terms = {}
    for (name, raw), divisor in zip(found.items(), divisors[1:], strict=True):
        scores = losses.quality_focal_loss(
            raw.logits.flatten(0, 1), matches.rows, matches.labels, matches.quality, background=background[name]
        )
        code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
        boxes = boxes_at(matches.priors, expected_distances(code))
        box = losses.generalized_iou_loss(boxes, matches.boxes)
        sides = losses.distribution_focal_loss(code.unflatten(1, (4, -1)), matches.distances).mean(1)
        terms[f"{name}class"] = CLASS_WEIGHT * scores.sum() / divisors[0]
        terms[f"{name}box"] = BOX_WEIGHT * (box * weights[name]).sum() / divisor
        terms[f"{name}distribution"] = DISTRIBUTION_WEIGHT * (sides * weights[name]).sum() / divisor
    return terms


@torch.no_grad()
def _match(raw: Raw, background: Float[Tensor, "B P"], targets: Targets, *, reg_max: int) -> _Matches:
    boxes = boxes_at(raw.priors, quick_distances(losses.at_least_float32(raw.box_code)))
    truth, quality = dynamic_soft_assign(raw.logits, boxes, raw.priors.points, targets, background=background)
    image, place = (truth >= 0).nonzero(as_tuple=True)
    chosen = truth[image, place]
    priors = Priors(raw.priors.points[place], raw.priors.strides[place])
    boxes = targets.boxes[image, chosen]
    return _Matches(
        rows=image * truth.shape[1] + place,
        priors=priors,
        labels=targets.labels[image, chosen],
        quality=quality[image, place],
        boxes=boxes,
        distances=distance_targets(priors, boxes, reg_max=reg_max),
    )


def quick_distances(box_code: Float[Tensor, "B P K"]) -> Float[Tensor, "B P 4"]:
    """`expected_distances` for many predictions: torch's softmax over so few bins takes five times as long."""
    bins = box_code.unflatten(-1, (4, -1))
    bins = (bins - bins.amax(-1, keepdim=True)).exp_()
    steps = torch.arange(bins.shape[-1], dtype=bins.dtype, device=bins.device)
    sums = bins @ torch.stack([steps, torch.ones_like(steps)], dim=1)
    return sums[..., 0] / sums[..., 1]


def distance_targets(
    priors: Priors, boxes: Float[Tensor, "N 4"], *, reg_max: int, margin: float = 0.1
) -> Float[Tensor, "N 4"]:
    """Distances in strides from each point to its box's left, top, right and bottom, within 0..reg_max - margin."""
    left_top = (priors.points - boxes[..., :2]) / priors.strides
    right_bottom = (boxes[..., 2:] - priors.points) / priors.strides
    return torch.cat((left_top, right_bottom), dim=-1).clamp(0, reg_max - margin)


def _rows(level: Float[Tensor, "B K H W"]) -> Float[Tensor, "B HW K"]:
    return level.permute(0, 2, 3, 1).flatten(1, 2)


def _zero_from(parameters: Iterator[nn.Parameter]) -> Tensor:
    """0 with a gradient of zeros for each parameter."""
    return torch.stack([parameter.flatten()[0] for parameter in parameters]).sum() * 0
