"""Dynamic soft label assignment, the assigner of NanoDet-Plus.

Original: https://github.com/RangiLyu/nanodet (Apache-2.0), `DynamicSoftLabelAssigner`; the dynamic number of
predictions per truth comes from OTA (https://arxiv.org/abs/2103.14259) by way of YOLOX's SimOTA.

We differ in cost, not in result: all images at once on padded truths, and no tensor of predictions x truths x
classes. The class term of the original sums over the classes; all but the truth's own class contribute what
they would for background. So it is the background loss of the prediction (one number, whatever the truth)
plus what the truth's class changes, for which one column of logits is enough.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.train.batch import Targets
from falconet.train.losses import (
    SMALLEST_AREA,
    area,
    at_least_float32,
    background_focal_loss,
    overlap_area,
    own_class_focal_loss,
)


class Assignment(NamedTuple):
    """The truth of each prediction."""

    truth: Int[Tensor, "B P"]
    """index into the padded truths of the image; -1 for background."""
    quality: Float[Tensor, "B P"]
    """IoU of the prediction's box with its truth, 0..1; 0 for background."""


@torch.no_grad()
def dynamic_soft_assign(
    logits: Float[Tensor, "B P C"],
    boxes: Float[Tensor, "B P 4"],
    points: Float[Tensor, "P 2"],
    targets: Targets,
    *,
    background: Float[Tensor, "B P"] | None = None,
    candidates: int = 13,
    iou_weight: float = 3.0,
) -> Assignment:
    """The truth each prediction shall learn, chosen by what the predictions say at present.

    Predictions whose point lies strictly inside any truth compete. A truth takes the k predictions that cost
    it least, k being the sum of its `candidates` best IoUs, rounded down, at least 1. The cost is the quality
    focal loss the prediction would have plus `iou_weight` times -log IoU. A prediction taken by several truths
    goes to the one, of all truths of the image, for which its cost is lowest.

    As in the original, the point need not lie inside the truth that takes it: a truth so small that it holds
    no point takes one of another truth's. An image in which no point lies inside any truth is all background.

    Args:
        logits: class logits.
        boxes: decoded boxes, xyxy in network-input pixels.
        points: x, y of the predictions' places, network-input pixels.
        targets: padded truths.
        background: `background_focal_loss(logits)`, if it is there already.
        candidates: how many best IoUs make up k, and so the largest k.
        iou_weight: of the IoU term in the cost.
    """
    B, P = logits.shape[:2]
    G = targets.mask.shape[1]
    if G == 0 or P == 0:
        return Assignment(targets.labels.new_full((B, P), -1), at_least_float32(logits.new_zeros(B, P)))
    competes = _inside_any(points, targets)
    overlaps = _pairwise_iou(targets.boxes, at_least_float32(boxes))
    cost = _cost(logits, targets.labels, overlaps, background, iou_weight=iou_weight)
    cost.masked_fill_(~(targets.mask[:, :, None] & competes[:, None, :]), torch.inf)

    best = min(candidates, P)
    k = overlaps.masked_fill(~competes[:, None, :], 0).topk(best, dim=2).values.sum(2).int().clamp(min=1)
    lowest = cost.topk(best, dim=2, largest=False)
    rank = torch.arange(best, device=k.device)
    taken = (rank < k[:, :, None]) & (lowest.values < torch.inf)

    truth = _resolve(lowest.indices, taken, cost)
    quality = overlaps.gather(1, truth.clamp(min=0)[:, None, :]).squeeze(1)
    return Assignment(truth, torch.where(truth >= 0, quality, 0.0))


def _inside_any(points: Float[Tensor, "P 2"], targets: Targets) -> Bool[Tensor, "B P"]:
    """Whether a point lies strictly inside any truth of the image."""
    x, y = points.unbind(-1)
    left, top, right, bottom = targets.boxes.unsqueeze(2).unbind(-1)
    inside = (x > left).logical_and_(x < right).logical_and_(y > top).logical_and_(y < bottom)
    return inside.logical_and_(targets.mask[:, :, None]).any(1)


def _pairwise_iou(truths: Float[Tensor, "B G 4"], boxes: Float[Tensor, "B P 4"]) -> Float[Tensor, "B G P"]:
    """IoU of all pairs, in place where it can be: these are the largest tensors here."""
    overlap = overlap_area(truths.unsqueeze(2), boxes.unsqueeze(1))
    union = (area(truths).unsqueeze(2) + area(boxes).unsqueeze(1)).sub_(overlap)
    return overlap.div_(union.clamp_(min=SMALLEST_AREA))


def _cost(
    logits: Float[Tensor, "B P C"],
    labels: Int[Tensor, "B G"],
    overlaps: Float[Tensor, "B G P"],
    background: Float[Tensor, "B P"] | None,
    *,
    iou_weight: float,
) -> Float[Tensor, "B G P"]:
    if background is None:
        background = background_focal_loss(logits)
    own = logits.mT.gather(1, labels.unsqueeze(2).expand_as(overlaps))
    cost = own_class_focal_loss(own, overlaps)
    cost += background.unsqueeze(1)
    return cost.sub_((overlaps + 1e-7).log_(), alpha=iou_weight)


def _resolve(
    predictions: Int[Tensor, "B G k"], taken: Bool[Tensor, "B G k"], cost: Float[Tensor, "B G P"]
) -> Int[Tensor, "B P"]:
    """The truth of each prediction from what each truth takes; contested ones go where they cost least."""
    B, G, P = cost.shape
    index = predictions.flatten(1)
    wins = cost.new_zeros(B, P, dtype=torch.int64).scatter_add_(1, index, taken.flatten(1).long())
    taker = torch.arange(G, device=cost.device).view(1, G, 1)
    taker = torch.where(taken, taker, -1).flatten(1)
    single = wins.new_full((B, P), -1).scatter_reduce_(1, index, taker, "amax")
    return torch.where(wins > 1, cost.argmin(1), single)
