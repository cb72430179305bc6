"""What NanoDet learns from: quality focal, GIoU and distribution focal loss on ATSS assignments.

Original: https://github.com/RangiLyu/nanodet (Apache-2.0), `GFLHead` with `ATSSAssigner`; losses from
"Generalized Focal Loss" (arXiv:2006.04388).

Where we differ from the source: a batch in which no prediction has a truth still teaches that there is nothing
(the original skips it).
"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.detector import Detector
from falconet.models.distances import boxes_at, distance_targets, expected_distances
from falconet.models.nanodet import NanoDetConfig
from falconet.models.types import ForwardOutputs, HeadOutputs, Priors
from falconet.training import losses
from falconet.training.assign.atss import atss_assign
from falconet.training.assign.matched import Matched, gather_matched, left_out
from falconet.training.batch import Targets
from falconet.training.distributed import mean_over_processes
from falconet.training.progress import Progress

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 2.0, 0.25
ANCHOR_SCALE = 5
"""Side of the square that stands for a place when truths are assigned, in strides."""

SMALLEST_TOTAL = 1e-6
"""A sum of the weights of box terms is not divided by, if it is smaller."""


class NanoDetCriterionConfig(Config):
    """How NanoDet learns: there is nothing to set."""

    name: Literal["nanodet"] = "nanodet"


def build(
    settings: NanoDetCriterionConfig,  # noqa: ARG001
    model: NanoDetConfig,
    detector: Detector,
    *,
    num_classes: int,  # noqa: ARG001 (of every criterion's builder; this one has no weights of its own)
) -> "NanoDetCriterion":
    """The criterion for a detector built from `model`. There is no auxiliary branch."""
    return NanoDetCriterion(detector.head.strides, reg_max=model.head.reg_max)


class NanoDetCriterion(nn.Module):
    """Terms "class", "box" and "distribution".

    Args:
        strides: of the levels, in the order of the predictions.
        reg_max: largest distance of a side, in strides.
    """

    def __init__(self, strides: tuple[int, ...], *, reg_max: int) -> None:
        super().__init__()
        self.strides = strides
        self.reg_max = reg_max

    def forward(self, outputs: ForwardOutputs, targets: Targets, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms of the loss, scalars in float32; every parameter of the detector gets a gradient."""
        with torch.autocast(outputs.raw.logits.device.type, enabled=False):
            return nanodet_terms(outputs.raw, targets, strides=self.strides, reg_max=self.reg_max)


def nanodet_terms(raw: HeadOutputs, targets: Targets, *, strides: tuple[int, ...], reg_max: int) -> dict[str, Tensor]:
    """Weighted terms of the loss.

    The class term is divided by the number of matched predictions (an image without any counts as one), the
    box terms by the sum of their weights (the best class score at present). Divisors are averaged over the
    processes of a distributed run.
    """
    matches, per_image = _match(raw.priors, targets, strides)
    code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
    boxes = boxes_at(matches.priors, expected_distances(code))
    quality = losses.iou(boxes.detach(), matches.boxes)
    logits = raw.logits.flatten(0, 1)
    weights = losses.at_least_float32(logits.detach()[matches.rows]).amax(-1).sigmoid()

    nothing = left_out(raw.priors.points, targets, matches.rows)
    classes = losses.quality_focal_loss(logits, matches.rows, matches.labels, quality, left_out=nothing).sum()
    box = (losses.generalized_iou_loss(boxes, matches.boxes) * weights).sum()
    distances = distance_targets(matches.priors, matches.boxes, reg_max=reg_max)
    sides = losses.distribution_focal_loss(code.unflatten(1, (4, -1)), distances).mean(1)

    count = per_image.clamp(min=1).sum().to(weights.dtype)
    divisors = mean_over_processes(torch.stack((count, weights.sum())))
    total = divisors[1].clamp(min=SMALLEST_TOTAL)
    # Where nothing matched, the box terms still reach every parameter, with gradients of zero.
    box = box + 0 * losses.at_least_float32(raw.box_code).sum()
    return {
        "class": CLASS_WEIGHT * classes / divisors[0].clamp(min=1),
        "box": BOX_WEIGHT * box / total,
        "distribution": DISTRIBUTION_WEIGHT * (sides * weights).sum() / total,
    }


@torch.no_grad()
def _match(priors: Priors, targets: Targets, strides: tuple[int, ...]) -> tuple[Matched, Int[Tensor, " B"]]:
    """Matched predictions, and how many of them each image has."""
    half = ANCHOR_SCALE * priors.strides / 2
    anchors = torch.cat((priors.points - half, priors.points + half), dim=-1)
    steps = priors.strides.flatten()
    truth = atss_assign(anchors, [int((steps == stride).sum()) for stride in strides], targets)
    return gather_matched(truth, priors, targets), (truth >= 0).sum(1)
