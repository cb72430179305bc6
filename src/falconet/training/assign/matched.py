"""The predictions of a batch that have a truth, as rows: what losses work on."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.models.types import Priors
from falconet.training.batch import Targets


class Matched(NamedTuple):
    """The N predictions that have a truth, and what they shall say."""

    rows: Int[Tensor, " N"]
    """positions in the predictions of all images, one after the other"""
    priors: Priors
    labels: Int[Tensor, " N"]
    quality: Float[Tensor, " N"]
    """score for the label, 1 where the assigner gives none"""
    boxes: Float[Tensor, "N 4"]
    """xyxy, network-input pixels"""


def gather_matched(
    truth: Int[Tensor, "B P"], priors: Priors, targets: Targets, *, quality: Float[Tensor, "B P"] | None = None
) -> Matched:
    """The predictions whose index of a truth is not -1, with their truths."""
    image, place = (truth >= 0).nonzero(as_tuple=True)
    chosen = truth[image, place]
    boxes = targets.boxes[image, chosen]
    return Matched(
        rows=image * truth.shape[1] + place,
        priors=Priors(priors.points[place], priors.strides[place]),
        labels=targets.labels[image, chosen],
        quality=boxes.new_ones(len(image)) if quality is None else quality[image, place],
        boxes=boxes,
    )


@torch.no_grad()
def left_out(points: Float[Tensor, "P 2"], targets: Targets, rows: Int[Tensor, " N"]) -> Bool[Tensor, " BP"] | None:
    """Which predictions lie in an ignored area of their image and have no truth; None: none of the batch.

    Args:
        points: x, y of the predictions' places, network-input pixels.
        targets: with the areas.
        rows: predictions that have a truth.
    """
    if targets.ignored is None:
        return None
    left, top, right, bottom = targets.ignored.unsqueeze(2).unbind(-1)
    x, y = points.unbind(-1)
    # Some networks have places on the input's very border.
    inside = ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(1).flatten()
    inside[rows] = False
    return inside
