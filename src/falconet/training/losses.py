"""Losses as pure functions on batched tensors: one value per prediction or pair, no reduction, no weights.

Quality focal loss and distribution focal loss: Li et al., "Generalized Focal Loss", 2020
(https://arxiv.org/abs/2006.04388), sections 3.1 and 3.2. Generalised IoU: Rezatofighi et al., 2019
(https://arxiv.org/abs/1902.09630), algorithm 1. Focal loss: Lin et al., 2017 (https://arxiv.org/abs/1708.02002).
Varifocal loss: Zhang et al., 2020 (https://arxiv.org/abs/2008.13367). All are
computed in at least float32, whatever comes in.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

SMALLEST_AREA = 1e-6
"""Square pixels; areas below it do not divide."""


def at_least_float32(values: Tensor) -> Tensor:
    """`values`, in float32 if they come in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def area(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """Areas of xyxy boxes; no clamping, so a box with one negative side has a negative area."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap_area(boxes: Float[Tensor, "*N 4"], others: Float[Tensor, "*M 4"]) -> Float[Tensor, "*NM"]:
    """Area that xyxy boxes share; leading dimensions broadcast, so `boxes[:, None], others` gives all pairs."""
    # Side by side instead of [..., 2] at once: pairwise, the temporaries stay as small as the result.
    width = torch.minimum(boxes[..., 2], others[..., 2]) - torch.maximum(boxes[..., 0], others[..., 0])
    height = torch.minimum(boxes[..., 3], others[..., 3]) - torch.maximum(boxes[..., 1], others[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def iou(boxes: Float[Tensor, "*N 4"], others: Float[Tensor, "*M 4"]) -> Float[Tensor, "*NM"]:
    """Intersection over union, 0..1; broadcasts as `overlap_area`. 0 where both boxes have no area."""
    overlap = overlap_area(boxes, others)
    union = area(boxes) + area(others) - overlap
    return overlap / union.clamp(min=SMALLEST_AREA)


def generalized_iou(boxes: Float[Tensor, "*N 4"], others: Float[Tensor, "*M 4"]) -> Float[Tensor, "*NM"]:
    """IoU minus the share of the enclosing box that neither box covers, -1..1; broadcasts as `overlap_area`."""
    overlap = overlap_area(boxes, others)
    union = (area(boxes) + area(others) - overlap).clamp(min=SMALLEST_AREA)
    width = torch.maximum(boxes[..., 2], others[..., 2]) - torch.minimum(boxes[..., 0], others[..., 0])
    height = torch.maximum(boxes[..., 3], others[..., 3]) - torch.minimum(boxes[..., 1], others[..., 1])
    enclosing = (width.clamp(min=0) * height.clamp(min=0)).clamp(min=SMALLEST_AREA)
    return overlap / union - (enclosing - union) / enclosing


def generalized_iou_loss(boxes: Float[Tensor, "*N 4"], targets: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """1 - GIoU of each box with its target, 0..2."""
    return 1 - generalized_iou(at_least_float32(boxes), at_least_float32(targets))


def distribution_focal_loss(logits: Float[Tensor, "*N bins"], distances: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Cross entropy of a distribution over the whole numbers 0..bins - 1 with the two around a distance.

    Args:
        logits: one distribution per side of a box.
        distances: the true distance in cells, 0 <= distance < bins - 1.
    """
    log_probabilities = F.log_softmax(at_least_float32(logits), dim=-1)
    below = distances.floor()
    share_above = (distances - below).unsqueeze(-1)
    index = below.long().unsqueeze(-1)
    loss_below = log_probabilities.gather(-1, index) * (share_above - 1)
    loss_above = log_probabilities.gather(-1, index + 1) * share_above
    return (loss_below - loss_above).squeeze(-1)


class Background(NamedTuple):
    """Quality focal loss of predictions that should find nothing."""

    loss: Float[Tensor, "*N"]
    """summed over classes"""
    slope: Float[Tensor, "*N C"]
    """derivative of the loss by each logit"""


@torch.no_grad()
def background_focal(logits: Float[Tensor, "*N C"], *, beta: float = 2.0) -> Background:
    """softplus(x) * sigmoid(x)^beta summed over classes, and its slope."""
    logits = at_least_float32(logits)
    probability = logits.sigmoid()
    entropy = F.softplus(logits)
    power = _power(probability, beta)
    # p^beta (p + beta softplus (1 - p)), as d softplus/dx = p and dp/dx = p (1 - p).
    slope = torch.addcmul(entropy, entropy, probability, value=-1).mul_(beta).add_(probability).mul_(power)
    return Background(entropy.mul_(power).sum(-1), slope)


def leave_out(background: Background, rows: Bool[Tensor, " N"] | None) -> None:
    """Let `background`, in place, teach nothing to the predictions where `rows` is True."""
    if rows is not None:
        background.loss.view(-1).masked_fill_(rows, 0)
        background.slope.view(len(rows), -1).masked_fill_(rows.unsqueeze(1), 0)


def _power(values: Tensor, beta: float) -> Tensor:
    return values.square() if beta == 2 else values.pow(beta)


class _ClassLoss(torch.autograd.Function):
    """Takes the background's loss and slope and corrects them where something should be found.

    Written out because class losses touch every class of every prediction: autograd would keep more tensors of
    that size and pass over each of them several times.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, rows: Tensor, labels: Tensor, change: Tensor, own: Tensor, background: "Background"
    ) -> Tensor:
        loss, slope = background.loss.flatten(), background.slope.flatten(0, -2)
        slope.index_put_((rows, labels), own)
        ctx.save_for_backward(slope)
        ctx.dtype = logits.dtype
        return loss.index_add(0, rows, change)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return (slope * gradient.unsqueeze(-1)).to(ctx.dtype), None, None, None, None, None


def quality_focal_loss(
    logits: Float[Tensor, "N C"],
    rows: Int[Tensor, " M"],
    labels: Int[Tensor, " M"],
    quality: Float[Tensor, " M"],
    *,
    background: Background | None = None,
    beta: float = 2.0,
    left_out: Bool[Tensor, " N"] | None = None,
) -> Float[Tensor, " N"]:
    """Quality focal loss of each prediction, summed over classes.

    Binary cross entropy of each class with its target score, times the distance between target and probability to the
    power of beta. Of the predictions in `rows`, the target of the class in `labels` is `quality`; all other
    targets are 0.

    Args:
        logits: class logits.
        rows: predictions that should find something, each once.
        labels: the class each of them should find.
        quality: target score of each, 0..1.
        background: `background_focal(logits, beta=beta)`, if it is there already, of predictions in the same order in
            any shape; its slope is used up.
        beta: how much less close predictions count.
        left_out: predictions, none of them in `rows`, that learn nothing.
    """
    if background is None:
        background = background_focal(logits, beta=beta)
    leave_out(background, left_out)
    found = _found(logits, rows, labels, quality, beta=beta)
    return _ClassLoss.apply(logits, rows, labels, found.loss - found.as_background, found.slope, background)


def focal_loss(
    logits: Float[Tensor, "N C"],
    rows: Int[Tensor, " M"],
    labels: Int[Tensor, " M"],
    quality: Float[Tensor, " M"],
    *,
    alpha: float = 0.25,
    left_out: Bool[Tensor, " N"] | None = None,
) -> Float[Tensor, " N"]:
    """Focal loss (gamma 2) with target scores: `quality_focal_loss`, weighted by alpha where something should be found.

    The weight of a class with the target score q is alpha q + (1 - alpha) (1 - q) (RetinaNet, arXiv:1708.02002,
    equation 5, continued to scores between 0 and 1 as PaddleDetection does). Arguments as there.
    """
    background = _scaled(background_focal(logits), 1 - alpha)
    leave_out(background, left_out)
    found = _found(logits, rows, labels, quality)
    weight = alpha * quality + (1 - alpha) * (1 - quality)
    change = weight * found.loss - (1 - alpha) * found.as_background
    return _ClassLoss.apply(logits, rows, labels, change, weight * found.slope, background)


def varifocal_loss(
    logits: Float[Tensor, "N C"],
    rows: Int[Tensor, " M"],
    labels: Int[Tensor, " M"],
    quality: Float[Tensor, " M"],
    *,
    alpha: float = 0.75,
    left_out: Bool[Tensor, " N"] | None = None,
) -> Float[Tensor, " N"]:
    """Varifocal loss (gamma 2) of each prediction, summed over classes (arXiv:2008.13367, equation 2).

    Binary cross entropy with the target score, times the score where something should be found, times alpha p^2
    where not: good examples count more, and easy background hardly counts. Arguments as `quality_focal_loss`.
    """
    background = _scaled(background_focal(logits), alpha)
    leave_out(background, left_out)
    own = at_least_float32(logits.detach()[rows, labels])
    probability, entropy = own.sigmoid(), F.softplus(own)
    change = quality * (entropy - own * quality) - alpha * entropy * probability.square()
    return _ClassLoss.apply(logits, rows, labels, change, quality * (probability - quality), background)


class _Found(NamedTuple):
    """Quality focal loss of single classes that should be found."""

    loss: Float[Tensor, " M"]
    slope: Float[Tensor, " M"]
    as_background: Float[Tensor, " M"]
    """the loss if they should not"""


@torch.no_grad()
def _found(logits: Tensor, rows: Tensor, labels: Tensor, quality: Tensor, *, beta: float = 2.0) -> _Found:
    own = at_least_float32(logits[rows, labels])
    probability, entropy = own.sigmoid(), F.softplus(own)
    missing = quality - probability
    cross_entropy = entropy - own * quality
    # d cross_entropy/dx = p - q and d missing/dx = -p (1 - p).
    distance = missing.abs()
    inner = missing if beta == 2 else distance.pow(beta - 1) * missing.sign()
    slope = missing * _power(distance, beta) + beta * cross_entropy * inner * probability * (1 - probability)
    return _Found(cross_entropy * _power(distance, beta), -slope, entropy * _power(probability, beta))


def _scaled(background: Background, factor: float) -> Background:
    """`background` times a factor, in place."""
    return Background(background.loss.mul_(factor), background.slope.mul_(factor))


def complete_iou(boxes: Float[Tensor, "*N 4"], others: Float[Tensor, "*M 4"]) -> Float[Tensor, "*NM"]:
    """IoU minus the distance of the centres and the difference of the aspect ratios; broadcasts as `overlap_area`.

    Zheng et al., "Distance-IoU Loss", 2019 (https://arxiv.org/abs/1911.08287), equations 7 to 11: the squared
    distance counts as a share of the enclosing box's squared diagonal, the aspect ratio the more the larger the
    overlap is. Between -2 and 1.
    """
    overlap = overlap_area(boxes, others)
    shared = overlap / (area(boxes) + area(others) - overlap).clamp(min=SMALLEST_AREA)
    enclosing_width = torch.maximum(boxes[..., 2], others[..., 2]) - torch.minimum(boxes[..., 0], others[..., 0])
    enclosing_height = torch.maximum(boxes[..., 3], others[..., 3]) - torch.minimum(boxes[..., 1], others[..., 1])
    diagonal = (enclosing_width.square() + enclosing_height.square()).clamp(min=SMALLEST_AREA)
    x = (boxes[..., 0] + boxes[..., 2] - others[..., 0] - others[..., 2]) / 2
    y = (boxes[..., 1] + boxes[..., 3] - others[..., 1] - others[..., 3]) / 2
    # atan2 is the angle of the diagonal: defined, with gradients, also for a box without height.
    angle = torch.atan2(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
    other_angle = torch.atan2(others[..., 2] - others[..., 0], others[..., 3] - others[..., 1])
    shape = 4 / math.pi**2 * (angle - other_angle).square()
    with torch.no_grad():
        weight = shape / (1 - shared + shape).clamp(min=SMALLEST_AREA)
    return shared - (x.square() + y.square()) / diagonal - weight * shape


def complete_iou_loss(boxes: Float[Tensor, "*N 4"], targets: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """1 - CIoU of each box with its target, 0..3."""
    return 1 - complete_iou(at_least_float32(boxes), at_least_float32(targets))
