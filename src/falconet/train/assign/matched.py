"""The predictions of a batch that have a truth, as rows: what losses work on."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from falconet.models.types import Priors
from falconet.train.batch import Targets


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
