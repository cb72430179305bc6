"""What detections say about labels: which agree, which are left over, and how much a score is worth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from falconet.core.boxes import area, pairwise_iou
from falconet.core.types import Detections, Floats, Ints, Record

Numbers = NDArray[np.float64]
Bools = NDArray[np.bool_]

AGREE = 0.5
"""IoU from which on a detection and a label are of the same object."""

TOUCH = 0.1
"""IoU from which on they may be."""

CROWDED = 0.5
"""Share of a detection that lies in an area which annotations say nothing about: then it tells nothing, either."""


@dataclass(frozen=True, slots=True)
class PictureEvidence:
    """Labels and detections of one picture.

    Attributes:
        boxes, labels: [G, 4], [G] of the labels that count.
        indices: [G] their places in the record.
        found: [N, 4] boxes of the detections; `scores` and `found_labels` [N] belong to them.
        overlaps: [N, G] IoU.
        partner: [G] the detection of its class that agrees with a label, each taken once, best scores first; -1: none.
        partner_of: [N] the label that a detection agrees with; -1: none.
    """

    boxes: Floats
    labels: Ints
    indices: Ints
    found: Floats
    scores: Floats
    found_labels: Ints
    overlaps: Floats
    partner: Ints
    partner_of: Ints

    @property
    def free(self) -> Bools:
        """[N] detections that agree with no label of any class."""
        agrees = (self.overlaps >= AGREE).any(1)
        return np.asarray((self.partner_of < 0) & ~agrees, np.bool_)


def gather(record: Record, answer: Detections) -> PictureEvidence:
    """What a detector says about the labels of a picture; labels of both index the same names."""
    crowd = record.boxes[record.crowd]
    tells = np.ones(len(answer), np.bool_) if not len(crowd) else ~_inside(answer.boxes, crowd)
    order = np.argsort(-answer.scores[tells], kind="stable")
    found, scores = answer.boxes[tells][order], answer.scores[tells][order]
    found_labels = answer.labels[tells][order]
    indices = np.flatnonzero(~record.crowd)
    boxes, labels = record.boxes[indices], record.labels[indices]
    overlaps = pairwise_iou(found, boxes)
    partner, partner_of = np.full(len(boxes), -1, np.int64), np.full(len(found), -1, np.int64)
    agree = (overlaps >= AGREE) & (found_labels[:, None] == labels[None])
    for place in np.flatnonzero(agree.any(1)).tolist():
        fits = np.where(agree[place] & (partner < 0), overlaps[place], 0)
        if fits.max() > 0:
            partner[fits.argmax()], partner_of[place] = place, fits.argmax()
    return PictureEvidence(boxes, labels, indices, found, scores, found_labels, overlaps, partner, partner_of)


def _inside(boxes: Floats, crowd: Floats) -> Bools:
    """[N] whether a box lies for the most part in one of the crowds."""
    low = np.maximum(boxes[:, None, :2], crowd[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], crowd[None, :, 2:])
    shared = (high - low).clip(0).prod(2).max(1)
    return np.asarray(shared > CROWDED * area(boxes), np.bool_)


def reliability(scores: Numbers, labels: Ints, right: Numbers, counts: Bools, *, num_classes: int) -> Numbers:
    """How probably each detection is of an object of its class, [N], by its score.

    A logistic curve over the score's log odds for each class, drawn to that of all classes where there are few.

    Args:
        scores: [N] 0..1.
        labels: [N].
        right: [N] 0..1, how surely it is right, as far as labels tell.
        counts: [N] of what the curves are made.
        num_classes: how many classes there are.
    """
    clipped = np.clip(scores, 1e-3, 1 - 1e-3)
    logits = np.log(clipped / (1 - clipped))
    usual = _logistic(logits[counts], right[counts], np.array([0.0, 1.0]))
    chances = np.zeros(len(scores))
    for label in range(num_classes):
        own = labels == label
        fitted = _logistic(logits[own & counts], right[own & counts], usual)
        chances[own] = 1 / (1 + np.exp(-(fitted[0] + fitted[1] * logits[own])))
    return chances


def _logistic(values: Numbers, right: Numbers, prior: Numbers, *, rounds: int = 30) -> Numbers:
    """(offset, slope) of the logistic curve that fits best, drawn to a prior as if by one more detection (Newton)."""
    inputs = np.stack([np.ones_like(values), values], 1)
    found = prior.copy()
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-inputs @ found))
        slope = inputs.T @ (right - chance) - (found - prior)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.eye(2)
        step = np.clip(np.linalg.solve(curvature, slope), -2, 2)
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    return found
