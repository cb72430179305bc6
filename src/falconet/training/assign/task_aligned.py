"""Task-aligned assignment: Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021
(https://arxiv.org/abs/2108.07755), section 3.3.1, as PP-YOLOE does it (PaddlePaddle/PaddleDetection, Apache-2.0,
`TaskAlignedAssigner`).

A truth takes the predictions that say its class and its box best at the same time. All images at once on padded
truths; of the classes, only the column of each truth's own class is looked at.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.training.assign.pairs import Assignment, pairwise_iou, resolve_conflicts
from falconet.training.batch import Targets
from falconet.training.losses import at_least_float32

SMALLEST = 1e-9


@torch.no_grad()
def task_aligned_assign(
    logits: Float[Tensor, "B P C"],
    boxes: Float[Tensor, "B P 4"],
    points: Float[Tensor, "P 2"],
    targets: Targets,
    *,
    candidates: int = 13,
    reach: Float[Tensor, "P"] | None = None,
) -> Assignment:
    """The truth each prediction shall learn, and the score it shall learn for it.

    The alignment of a prediction with a truth is p * IoU^6, p being its score for the truth's class. Each truth
    takes the `candidates` predictions of the highest alignment among those whose point lies inside of it. A
    prediction taken by several truths goes to the truth it overlaps most of all those in the image, even one
    that did not take it.

    The quality of a prediction is its alignment, scaled so that the truth's best prediction gets the highest IoU
    among all that the truth has.

    Args:
        logits: class logits.
        boxes: decoded boxes, xyxy in network-input pixels.
        points: x, y of the predictions' places, network-input pixels.
        targets: padded truths.
        candidates: the most predictions a truth takes.
        reach: network-input pixels from the truth's centre within which a point may lie; then it need not lie inside.
    """
    B, P = logits.shape[:2]
    G = targets.mask.shape[1]
    if G == 0 or P == 0:
        return Assignment(targets.labels.new_full((B, P), -1), at_least_float32(logits.new_zeros(B, P)))
    truths = targets.boxes.masked_fill(~targets.mask[:, :, None], 0)
    overlaps = pairwise_iou(truths, at_least_float32(boxes))
    alignment = _alignment(logits, targets.labels, overlaps)

    # A point outside of the truth counts less than any inside, also less than one that does not align at all.
    eligible = _inside(points, truths) if reach is None else _close(points, targets, reach)
    ranking = alignment.masked_fill(~eligible, -1.0)
    best = ranking.topk(min(candidates, P), dim=2)
    truth, image, place = resolve_conflicts(best.indices, best.values >= 0, count=P)
    truth[image, place] = overlaps[image, :, place].argmax(1)
    return Assignment(truth, _quality(truth, alignment, overlaps))


def _alignment(
    logits: Float[Tensor, "B P C"], labels: Int[Tensor, "B G"], overlaps: Float[Tensor, "B G P"]
) -> Float[Tensor, "B G P"]:
    own = at_least_float32(logits.mT.gather(1, labels.unsqueeze(2).expand_as(overlaps))).sigmoid_()
    cube = overlaps.square().mul_(overlaps)
    return own.mul_(cube).mul_(cube)


def _inside(points: Float[Tensor, "P 2"], truths: Float[Tensor, "B G 4"]) -> Bool[Tensor, "B G P"]:
    """Whether a point lies inside a truth; padded truths have no inside."""
    x, y = points.unbind(-1)
    left, top, right, bottom = truths.unsqueeze(2).unbind(-1)
    inside = x - left > SMALLEST
    return (
        inside.logical_and_(right - x > SMALLEST).logical_and_(y - top > SMALLEST).logical_and_(bottom - y > SMALLEST)
    )


def _close(points: Float[Tensor, "P 2"], targets: Targets, reach: Float[Tensor, "P"]) -> Bool[Tensor, "B G P"]:
    """Whether a point lies within its reach of a truth's centre; nothing is close to padded truths."""
    centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
    distances = (points - centres.unsqueeze(2)).norm(dim=-1)
    return (distances < reach) & targets.mask[:, :, None]


def _quality(
    truth: Int[Tensor, "B P"], alignment: Float[Tensor, "B G P"], overlaps: Float[Tensor, "B G P"]
) -> Float[Tensor, "B P"]:
    """Alignment of each prediction with its truth, scaled within the truth."""
    B, G = alignment.shape[:2]
    owner = truth.clamp(min=0)
    found = truth >= 0
    own_alignment = alignment.gather(1, owner.unsqueeze(1)).squeeze(1).masked_fill_(~found, 0)
    own_overlap = overlaps.gather(1, owner.unsqueeze(1)).squeeze(1).masked_fill_(~found, 0)
    largest_alignment = alignment.new_zeros(B, G).scatter_reduce_(1, owner, own_alignment, "amax")
    largest_overlap = alignment.new_zeros(B, G).scatter_reduce_(1, owner, own_overlap, "amax")
    scale = largest_overlap / (largest_alignment + SMALLEST)
    return own_alignment.mul_(scale.gather(1, owner))
