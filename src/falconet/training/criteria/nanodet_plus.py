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
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.detector import Detector
from falconet.models.distances import boxes_at, distance_targets, expected_distances, quick_distances
from falconet.models.nanodet_plus import NanoDetPlusConfig
from falconet.models.simple_head import SimpleConvs
from falconet.models.types import ForwardOutputs, HeadOutputs
from falconet.training import losses
from falconet.training.assign.dynamic_soft import dynamic_soft_assign
from falconet.training.assign.matched import Matched, gather_matched, left_out
from falconet.training.batch import Targets
from falconet.training.criteria.auxiliary import guide
from falconet.training.distributed import mean_over_processes
from falconet.training.progress import Progress

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 2.0, 0.25


ORIGINAL_GUIDED, ORIGINAL_EPOCHS = 10, 300
"""The original's auxiliary branch guides 10 of 300 epochs; shorter runs keep the share. Such epochs cost twice."""


UNGUIDED = {"detach_epoch": ("auto", 0)}
"""A branch that is not trained must not assign for a network that is: it is left out."""

ALONE = {"auxiliary": "drop", "detach_epoch": 0}
"""Without the branch, whose channels are those of one network."""


class NanoDetPlusCriterionConfig(Config):
    """How NanoDet-Plus learns."""

    name: Literal["nanodet-plus"] = "nanodet-plus"
    auxiliary: Literal["drop", "keep"] = Field(
        default="drop", description="what becomes of the auxiliary branch at detach_epoch"
    )
    detach_epoch: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="auto: after a 30th of the run, 1 to 10 epochs; 0 where the network is trained and the branch not",
    )
    class_weight: float = Field(default=CLASS_WEIGHT, ge=0, le=100, description="of the quality focal loss")
    box_weight: float = Field(default=BOX_WEIGHT, ge=0, le=100, description="of the GIoU loss")
    distribution_weight: float = Field(default=DISTRIBUTION_WEIGHT, ge=0, le=100, description="of the bins' loss")
    quality_beta: float = Field(default=2.0, ge=1, le=8, description="power of the quality focal loss")
    auxiliary_convs: int = Field(default=4, ge=1, le=16, description="stacked convolutions of the auxiliary head")
    auxiliary_channels: int | None = Field(
        default=None, ge=8, le=2048, description="of them; null: twice those of the neck"
    )


def build(
    settings: NanoDetPlusCriterionConfig, model: NanoDetPlusConfig, detector: Detector, *, num_classes: int
) -> "NanoDetPlusCriterion":
    """The criterion for a detector built from `model`; see `NanoDetPlusCriterion`.

    A branch that never runs is not built: what is saved of it would be taken for a trained one by the next run.
    """
    neck = head = None
    if settings.detach_epoch != 0 or settings.auxiliary == "keep":
        neck = detector.neck
        head = SimpleConvs(
            2 * model.neck.channels,
            num_classes,
            num_levels=len(detector.neck.strides),
            reg_max=model.head.reg_max,
            stacked_convs=settings.auxiliary_convs,
            width=settings.auxiliary_channels,
            activation=model.head.activation,
        )
    return NanoDetPlusCriterion(
        neck,
        head,
        reg_max=model.head.reg_max,
        auxiliary=settings.auxiliary,
        detach_epoch=settings.detach_epoch,
        weights=(settings.class_weight, settings.box_weight, settings.distribution_weight),
        beta=settings.quality_beta,
    )


class NanoDetPlusCriterion(nn.Module):
    """Terms "class", "box", "distribution", and "auxiliary_..." ones while the auxiliary branch runs.

    Args:
        neck: the detector's; the auxiliary neck starts as a copy of it. None: there is no branch.
        auxiliary_head: on the features of both necks side by side; None: there is no branch.
        reg_max: of the detector's head.
        auxiliary: "keep" or "drop" the branch from `detach_epoch` on.
        detach_epoch: the first epoch, from 0, in which backbone and neck learn nothing from the branch; "auto" keeps
            the original's share of a run.
        weights: of the terms "class", "box" and "distribution".
        beta: of the quality focal loss.
    """

    def __init__(
        self,
        neck: nn.Module | None,
        auxiliary_head: SimpleConvs | None,
        *,
        reg_max: int,
        auxiliary: Literal["drop", "keep"] = "drop",
        detach_epoch: int | Literal["auto"] = "auto",
        weights: tuple[float, float, float] = (CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT),
        beta: float = 2.0,
    ) -> None:
        super().__init__()
        self.auxiliary_neck = copy.deepcopy(neck)
        self.reg_max = reg_max
        self.auxiliary_head = auxiliary_head
        self.auxiliary = auxiliary
        self.detach_epoch = detach_epoch
        self.weights = weights
        self.beta = beta

    def detached(self, progress: Progress) -> bool:
        """Whether backbone and neck learn nothing from the branch any more."""
        if self.detach_epoch != "auto":
            return progress.epoch >= self.detach_epoch
        if progress.epochs is None:
            return progress.fraction >= ORIGINAL_GUIDED / ORIGINAL_EPOCHS
        share = progress.epochs * ORIGINAL_GUIDED // ORIGINAL_EPOCHS
        return progress.epoch >= max(1, min(ORIGINAL_GUIDED, share))

    def forward(self, outputs: ForwardOutputs, targets: Targets, progress: Progress) -> dict[str, Tensor]:
        """The weighted terms of the loss, scalars in float32, for a batch.

        Every parameter that is in use gets a gradient, also from a batch without boxes; a branch that was dropped gets
        none, so that not even weight decay touches it.
        """
        detached = self.detached(progress)
        found = {"": outputs.raw}
        if self.auxiliary_head is not None and not (detached and self.auxiliary == "drop"):
            found["auxiliary_"] = self.guide(outputs, detached=detached)
        # Half precision is for convolutions: differences of losses and of box sides need float32.
        with torch.autocast(outputs.raw.logits.device.type, enabled=False):
            return nanodet_plus_terms(found, targets, reg_max=self.reg_max, weights=self.weights, beta=self.beta)

    def guide(self, outputs: ForwardOutputs, *, detached: bool = False) -> HeadOutputs:
        """What the auxiliary branch predicts; the arguments are those of `guide`."""
        assert self.auxiliary_neck is not None
        assert self.auxiliary_head is not None
        return guide(self.auxiliary_neck, self.auxiliary_head, outputs, detached=detached)


def nanodet_plus_terms(
    found: dict[str, HeadOutputs],
    targets: Targets,
    *,
    reg_max: int,
    weights: tuple[float, float, float] = (CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT),
    beta: float = 2.0,
) -> dict[str, Tensor]:
    """Weighted terms of all predictions in `found`, named by its keys followed by class, box, distribution.

    The last entry makes the assignment for all. Divisors are averaged over the processes of a distributed run:
    the class terms are divided by the number of matched predictions, the box terms by the sum of their weights
    (the best class score at present), both at least 1.
    """
    background = {name: losses.background_focal(raw.logits, beta=beta) for name, raw in found.items()}
    judge, raw = list(found.items())[-1]
    # The original's assigner has a power of its own, which is 2.
    cost = background[judge] if beta == 2 else losses.background_focal(raw.logits)
    matches = _match(raw, cost.loss, targets)
    distances = distance_targets(matches.priors, matches.boxes, reg_max=reg_max)

    certain = {}
    for name, raw in found.items():
        logits = raw.logits.detach().flatten(0, 1)[matches.rows]
        certain[name] = losses.at_least_float32(logits).amax(-1).sigmoid()
    count = matches.quality.new_tensor(float(len(matches.rows)))
    divisors = torch.stack([count, *(weight.sum() for weight in certain.values())])
    divisors = mean_over_processes(divisors).clamp(min=1)

    terms, nothing = {}, left_out(raw.priors.points, targets, matches.rows)
    for (name, raw), divisor in zip(found.items(), divisors[1:], strict=True):
        scores = losses.quality_focal_loss(
            raw.logits.flatten(0, 1),
            matches.rows,
            matches.labels,
            matches.quality,
            background=background[name],
            beta=beta,
            left_out=nothing,
        )
        code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
        boxes = boxes_at(matches.priors, expected_distances(code))
        box = losses.generalized_iou_loss(boxes, matches.boxes)
        sides = losses.distribution_focal_loss(code.unflatten(1, (4, -1)), distances).mean(1)
        terms[f"{name}class"] = weights[0] * scores.sum() / divisors[0]
        terms[f"{name}box"] = weights[1] * (box * certain[name]).sum() / divisor
        terms[f"{name}distribution"] = weights[2] * (sides * certain[name]).sum() / divisor
    return terms


@torch.no_grad()
def _match(raw: HeadOutputs, background: Float[Tensor, "B P"], targets: Targets) -> Matched:
    boxes = boxes_at(raw.priors, quick_distances(losses.at_least_float32(raw.box_code)))
    truth, quality = dynamic_soft_assign(raw.logits, boxes, raw.priors.points, targets, background=background)
    return gather_matched(truth, raw.priors, targets, quality=quality)
