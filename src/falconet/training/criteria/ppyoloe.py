"""What PP-YOLOE learns from: varifocal, GIoU and distribution focal loss on ATSS, then on task-aligned assignments.

Original: https://github.com/PaddlePaddle/PaddleDetection (Apache-2.0), `PPYOLOEHead.get_loss` and
`PPYOLOEWithAuxHead`; arXiv:2203.16250, section 2.2. A network that cannot find anything yet judges badly which
prediction should learn which box, so the first epochs assign by geometry alone (ATSS). Later the predictions that are
best already get the boxes: with an auxiliary branch (size t) those of the branch, for both.

Where we differ from the source:
* The term that it reports but does not learn from (L1 of the boxes) is left out.
* Truths and predictions meet in pairs, but never with all classes: only each truth's own class is looked at.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.models.detector import Detector
from falconet.models.distances import boxes_at, distance_targets, expected_distances, quick_distances
from falconet.models.ppyoloe import PPYOLOEConfig
from falconet.models.simple_head import SimpleConvs
from falconet.models.types import ForwardOutputs, HeadOutputs
from falconet.training import losses
from falconet.training.assign.atss import atss_assign
from falconet.training.assign.matched import Matched, gather_matched, left_out
from falconet.training.assign.task_aligned import task_aligned_assign
from falconet.training.batch import Targets
from falconet.training.criteria.auxiliary import guide
from falconet.training.distributed import mean_over_processes
from falconet.training.progress import Progress

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 2.5, 0.5
ANCHOR_SCALE = 5
"""Side of the square that stands for a place when truths are assigned by ATSS, in strides."""
INSIDE_BY = 1e-9
MARGIN = 0.01
"""Distances stay this much below reg_max."""
STATIC_ALPHA = 0.25
"""Alpha of the focal loss while ATSS assigns; later there is none."""

CLOSE_STRIDES = 2.0
"""A place is close to a truth up to this distance from its centre, in strides."""

ALONE = {"auxiliary": "none"}
"""Without the branch, whose channels are those of one network."""

ClassLoss = Literal["varifocal", "focal"]
Auxiliary = Literal["none", "drop", "keep"]


class PPYOLOECriterionConfig(Config):
    """How PP-YOLOE learns."""

    name: Literal["ppyoloe"] = "ppyoloe"
    class_loss: ClassLoss = "varifocal"
    static_share: float = Field(
        default=0.333,
        ge=0,
        le=1,
        description="share of the run, at the start, that assigns by ATSS; published are 100 of 300 epochs, "
        "PP-YOLOE+ 30 of 80",
    )
    auxiliary: Auxiliary = Field(
        default="none",
        description="a large head that learns and assigns beside the detector's: none; drop or keep it after "
        "guided_share",
    )
    guided_share: float = Field(
        default=0.0167,
        ge=0,
        le=1,
        description="share of the run, at the start, in which backbone and neck learn from the auxiliary branch, too; "
        "published are 5 of 300 epochs",
    )
    close_places: bool = Field(
        default=False,
        description="a truth takes predictions within two strides of its centre, instead of those inside of it",
    )


def build(
    settings: PPYOLOECriterionConfig,
    model: PPYOLOEConfig,
    detector: Detector,
    *,
    num_classes: int,
) -> "PPYOLOECriterion":
    """The criterion for a detector built from `model`.

    Raises:
        ConfigError: an auxiliary branch beside a neck whose levels have different numbers of channels.
    """
    neck, head = None, None
    if settings.auxiliary != "none":
        if model.neck.growth != 1:
            raise ConfigError(
                f"criterion.auxiliary={settings.auxiliary}: needs as many channels on every level, model.neck.growth=1"
            )
        neck = copy.deepcopy(detector.neck)
        head = SimpleConvs(
            2 * model.neck.channels,
            num_classes,
            num_levels=len(detector.neck.strides),
            reg_max=model.head.reg_max,
            stacked_convs=1,
        )
    return PPYOLOECriterion(
        detector.head.strides,
        reg_max=model.head.reg_max,
        class_loss=settings.class_loss,
        static_share=settings.static_share,
        auxiliary_neck=neck,
        auxiliary_head=head,
        guided_share=settings.guided_share,
        keep_auxiliary=settings.auxiliary == "keep",
        close_places=settings.close_places,
    )


class PPYOLOECriterion(nn.Module):
    """Terms "class", "box" and "distribution", and "auxiliary_..." ones while an auxiliary branch runs.

    Args:
        strides: of the levels, in the order of the predictions.
        reg_max: largest distance of a side, in strides.
        class_loss: "varifocal" or "focal".
        static_share: the first part of a run, in which ATSS assigns.
        auxiliary_neck, auxiliary_head: see `falconet.training.criteria.auxiliary`; None: there is no branch.
        guided_share: the first part of a run, in which backbone and neck learn from the branch.
        keep_auxiliary: later the branch goes on by itself and assigns, instead of being dropped.
        close_places: see `task_aligned_assign`.
    """

    def __init__(
        self,
        strides: tuple[int, ...],
        *,
        reg_max: int,
        class_loss: ClassLoss = "varifocal",
        static_share: float = 0.0,
        auxiliary_neck: nn.Module | None = None,
        auxiliary_head: SimpleConvs | None = None,
        guided_share: float = 0.0,
        keep_auxiliary: bool = False,
        close_places: bool = False,
    ) -> None:
        super().__init__()
        self.strides = strides
        self.reg_max = reg_max
        self.class_loss: ClassLoss = class_loss
        self.static_share = static_share
        self.auxiliary_neck, self.auxiliary_head = auxiliary_neck, auxiliary_head
        self.guided_share = guided_share
        self.keep_auxiliary = keep_auxiliary
        self.close_places = close_places

    def extra_repr(self) -> str:
        """What happens when, for the log."""
        whose = "the predictions'" if self.auxiliary_head is None else "the auxiliary branch's"
        if not self.static_share:
            return f"{whose} alignment assigns; {self.class_loss} loss"
        return (
            f"ATSS assigns in the first {self.static_share:.1%} of the run (criterion.static_share), {whose} "
            f"alignment from then on; {self.class_loss} loss"
        )

    def forward(self, outputs: ForwardOutputs, targets: Targets, progress: Progress) -> dict[str, Tensor]:
        """The weighted terms of the loss, scalars in float32, for a batch.

        Every parameter that is in use gets a gradient, also from a batch without boxes.
        """
        static = progress.within(self.static_share)
        found = {"": outputs.raw}
        if self.auxiliary_neck is not None and self.auxiliary_head is not None:
            guided = progress.within(self.guided_share)
            if guided or self.keep_auxiliary:
                found["auxiliary_"] = guide(self.auxiliary_neck, self.auxiliary_head, outputs, detached=not guided)
        # Half precision is for convolutions: differences of losses and of box sides need float32.
        with torch.autocast(outputs.raw.logits.device.type, enabled=False):
            if static:
                matches = match_by_geometry(outputs.raw, targets, strides=self.strides)
            else:
                matches = match_by_alignment(list(found.values())[-1], targets, close_places=self.close_places)
            terms = {}
            for prefix, raw in found.items():
                own = ppyoloe_terms(
                    raw,
                    matches,
                    left_out(raw.priors.points, targets, matches.rows),
                    reg_max=self.reg_max,
                    class_loss=self.class_loss,
                    focal_alpha=STATIC_ALPHA if static else None,
                )
                terms |= {f"{prefix}{name}": term for name, term in own.items()}
            return terms


def ppyoloe_terms(
    raw: HeadOutputs,
    matches: Matched,
    nothing: Bool[Tensor, " BP"] | None = None,
    *,
    reg_max: int,
    class_loss: ClassLoss = "varifocal",
    focal_alpha: float | None = None,
) -> dict[str, Tensor]:
    """Weighted terms of the loss; all are divided by the sum of the qualities (at least 1).

    Args:
        raw: predictions.
        matches: what they shall say.
        nothing: predictions without a truth that shall say nothing in particular.
        reg_max: largest distance of a side, in strides.
        class_loss: "varifocal" or "focal".
        focal_alpha: of the focal loss; None weighs found and missing classes alike.
    """
    divisor = mean_over_processes(matches.quality.sum()[None]).clamp(min=1)[0]
    logits = raw.logits.flatten(0, 1)
    found = (matches.rows, matches.labels, matches.quality)
    if class_loss == "varifocal":
        classes = losses.varifocal_loss(logits, *found, left_out=nothing)
    elif focal_alpha is None:
        classes = losses.quality_focal_loss(logits, *found, left_out=nothing)
    else:
        classes = losses.focal_loss(logits, *found, alpha=focal_alpha, left_out=nothing)

    code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
    boxes = boxes_at(matches.priors, expected_distances(code))
    box = losses.generalized_iou_loss(boxes, matches.boxes)
    distances = distance_targets(matches.priors, matches.boxes, reg_max=reg_max, margin=MARGIN)
    sides = losses.distribution_focal_loss(code.unflatten(1, (4, -1)), distances).mean(1)
    return {
        "class": CLASS_WEIGHT * classes.sum() / divisor,
        "box": BOX_WEIGHT * (box * matches.quality).sum() / divisor,
        "distribution": DISTRIBUTION_WEIGHT * (sides * matches.quality).sum() / divisor,
    }


@torch.no_grad()
def match_by_geometry(raw: HeadOutputs, targets: Targets, *, strides: tuple[int, ...]) -> Matched:
    """ATSS; the quality of a prediction is the IoU of its box with its truth."""
    priors = raw.priors
    half = ANCHOR_SCALE * priors.strides / 2
    anchors = torch.cat((priors.points - half, priors.points + half), dim=-1)
    steps = priors.strides.flatten()
    sizes = [int((steps == stride).sum()) for stride in strides]
    truth = atss_assign(anchors, sizes, targets, inside_by=INSIDE_BY, variant="paddle")
    matches = gather_matched(truth, priors, targets)
    code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
    boxes = boxes_at(matches.priors, expected_distances(code))
    return matches._replace(quality=losses.iou(boxes, matches.boxes))


@torch.no_grad()
def match_by_alignment(raw: HeadOutputs, targets: Targets, *, close_places: bool = False) -> Matched:
    """Task-aligned assignment by what the predictions say at present."""
    boxes = boxes_at(raw.priors, quick_distances(losses.at_least_float32(raw.box_code)))
    reach = CLOSE_STRIDES * raw.priors.strides.flatten() if close_places else None
    truth, quality = task_aligned_assign(raw.logits, boxes, raw.priors.points, targets, reach=reach)
    return gather_matched(truth, raw.priors, targets, quality=quality)
