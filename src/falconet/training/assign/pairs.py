"""What assigners share: their answer, and numbers about all pairs of truths and predictions."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.training.losses import SMALLEST_AREA, area


class Assignment(NamedTuple):
    """The truth of each prediction."""

    truth: Int[Tensor, "B P"]
    """index into the padded truths of the image; -1 for background."""
    quality: Float[Tensor, "B P"]
    """The score it shall have for the truth's class, 0..1, such as the IoU of their boxes; 0 for background."""


def pairwise_iou(truths: Float[Tensor, "B G 4"], boxes: Float[Tensor, "B P 4"]) -> Float[Tensor, "B G P"]:
    """`falconet.training.losses.iou` of all pairs, in place where it can be: these are the largest tensors here."""
    left, top, right, bottom = truths.unsqueeze(2).unbind(-1)
    # As rows, so that the passes over all pairs read their numbers one after the other.
    columns = boxes.mT.contiguous().unsqueeze(1)
    overlap = torch.minimum(right, columns[:, :, 2])
    overlap -= torch.maximum(left, columns[:, :, 0])
    height = torch.minimum(bottom, columns[:, :, 3])
    height -= torch.maximum(top, columns[:, :, 1])
    overlap.clamp_(min=0).mul_(height.clamp_(min=0))
    union = torch.add(area(truths).unsqueeze(2), area(boxes).unsqueeze(1), out=height).sub_(overlap)
    return overlap.div_(union.clamp_(min=SMALLEST_AREA))


def resolve_conflicts(
    predictions: Int[Tensor, "B G k"], taken: Bool[Tensor, "B G k"], *, count: int
) -> tuple[Int[Tensor, "B P"], Int[Tensor, " N"], Int[Tensor, " N"]]:
    """The truth of each prediction from what each truth takes, and which predictions are contested.

    Args:
        predictions: what each truth may take; none of them twice.
        taken: what it does take.
        count: P.

    Returns:
        The index of the taker, -1 without one (for a contested prediction the largest index), and image and place of
        each prediction that several truths take.
    """
    B, G = predictions.shape[:2]
    index = predictions.flatten(1)
    wins = predictions.new_zeros(B, count).scatter_add_(1, index, taken.flatten(1).long())
    taker = torch.where(taken, torch.arange(G, device=taken.device)[:, None], -1).flatten(1)
    truth = wins.new_full((B, count), -1).scatter_reduce_(1, index, taker, "amax")
    image, place = (wins > 1).nonzero(as_tuple=True)
    return truth, image, place
