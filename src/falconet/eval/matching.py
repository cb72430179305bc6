"""Which detections find which objects, picture by picture, so that pictures can be weighted afterwards.

The rules are COCO's (https://cocodataset.org/#detection-eval), and so are the figures with equal weights: tests hold
them against hotcoco's. hotcoco computes as much, but hands it over as a dictionary per picture, class and size, which
takes longer than all the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Detections, Ints, Record

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

IOUS = np.linspace(0.5, 0.95, 10)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""All objects, small, medium and large ones: square pixels."""

LIMIT = 100
"""Detections of a picture and class that count."""

RULES = len(AREAS) * len(IOUS)
"""Each size of objects with each IoU threshold; the rows of what follows, all sizes first."""


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """The detections of one class in all pictures, by descending score.

    Attributes:
        images: [D] the picture of each.
        places: [D] which of the picture's detections it is.
        scores: [D].
        ranks: [D] how many detections of this class and picture score higher.
        overlaps: [D] IoU with the object that it finds at 0.5, 0 where there is none.
        finds: [D] which of the picture's objects that is; -1 where there is none.
        right: [RULES, D] it finds an object.
        ignored: [RULES, D] it counts neither for nor against.
        objects: [A, N] objects of each size in each picture.
    """

    images: Ints
    places: Ints
    scores: Floats
    ranks: Ints
    overlaps: Floats
    finds: Ints
    right: Bools
    ignored: Bools
    objects: Ints


def match_all(names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]) -> list[ClassMatches]:
    """The matches of each class.

    Args:
        names: class names; labels of records and answers index them.
        records, answers: aligned.
    """
    objects = np.zeros((len(names), len(AREAS), len(records)), np.int64)
    found: list[_Matched] = []
    for image, (record, answer) in enumerate(zip(records, answers, strict=True)):
        truth = Truth.of(record)
        for size in range(len(AREAS)):
            objects[:, size, image] = np.bincount(record.labels[~truth.aside[size]], minlength=len(names))
        found.append(_matched(answer, truth))
    return _by_class(found, objects)


@dataclass(frozen=True, slots=True)
class Truth:
    """The objects of one picture.

    Attributes:
        boxes: [G, 4].
        labels: [G].
        aside: [A, G] that do not count: of another size, or crowds.
        crowd: [G].
    """

    boxes: Floats
    labels: Ints
    aside: Bools
    crowd: Bools

    @classmethod
    def of(cls, record: Record) -> "Truth":
        """Those of a record."""
        aside = _outside(_object_areas(record)) | record.crowd
        return cls(record.boxes.astype(np.float64), record.labels, aside, record.crowd)

    def overlaps(self, boxes: Floats) -> Floats:
        """[D, G] IoU of boxes [D, 4], whatever their class; with a crowd the share of the box that lies in it."""
        left_top = np.maximum(boxes[:, None, :2], self.boxes[None, :, :2])
        right_bottom = np.minimum(boxes[:, None, 2:], self.boxes[None, :, 2:])
        sides = (right_bottom - left_top).clip(0)
        shared = sides[..., 0] * sides[..., 1]
        own = _areas(boxes)[:, None]
        whole = np.where(self.crowd[None], own, own + _areas(self.boxes)[None] - shared)
        overlaps: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
        return overlaps


@dataclass(frozen=True, slots=True)
class _Matched:
    """The detections of one picture, by descending score; as of `ClassMatches`, of all classes."""

    labels: Ints
    places: Ints
    scores: Floats
    ranks: Ints
    right: Bools
    ignored: Bools
    overlaps: Floats
    finds: Ints


def _object_areas(record: Record) -> Floats:
    own = _areas(record.boxes.astype(np.float64))
    return own if record.areas is None else np.where(np.isnan(record.areas), own, record.areas)


def _areas(boxes: Floats) -> Floats:
    """[N] in double precision, since sizes are told apart at whole numbers."""
    areas: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)
    return areas


def _outside(areas: Floats) -> Bools:
    """[A, G]: not of that size."""
    return np.stack([(areas < low) | (areas > high) for low, high in AREAS])


_NONE = _Matched(
    labels=np.zeros(0, np.int64),
    places=np.zeros(0, np.int64),
    scores=np.zeros(0, np.float32),
    ranks=np.zeros(0, np.int64),
    right=np.zeros((RULES, 0), np.bool_),
    ignored=np.zeros((RULES, 0), np.bool_),
    overlaps=np.zeros(0),
    finds=np.zeros(0, np.int64),
)


def _matched(answer: Detections, truth: Truth) -> _Matched:
    """The detections of a picture, each of which takes the best object of its class that is left."""
    order = np.argsort(-answer.scores, kind="stable")
    ranks = _ranks(answer.labels[order])
    order, ranks = order[ranks < LIMIT], ranks[ranks < LIMIT]
    boxes, labels = answer.boxes[order].astype(np.float64), answer.labels[order]
    ignored = np.repeat(_outside(_areas(boxes)), len(IOUS), axis=0)
    found = _Matched(
        labels=labels,
        places=order,
        scores=answer.scores[order],
        ranks=ranks,
        right=np.zeros_like(ignored),
        ignored=ignored,
        overlaps=np.zeros(len(boxes)),
        finds=np.full(len(boxes), -1),
    )
    if len(boxes) and len(truth.boxes):
        _take(found, np.where(labels[:, None] == truth.labels, truth.overlaps(boxes), -1.0), truth)
    return found


def _take(found: _Matched, overlaps: Floats, truth: Truth) -> None:
    """Write into `found` which objects its detections take; `overlaps` [D, G] are -1 between different classes."""
    least = np.minimum(np.tile(IOUS, len(AREAS)), 1 - 1e-10)[:, None]
    aside = np.repeat(truth.aside, len(IOUS), axis=0)  # [RULES, G]
    free = np.ones_like(aside)
    rules = np.arange(RULES)
    # An object that counts beats one that does not; of equal overlaps the later one wins, as in COCO's loop.
    order = np.arange(len(truth.boxes) - 1, -1, -1)
    for place in np.flatnonzero((overlaps >= IOUS[0]).any(1)).tolist():
        fits = free & (overlaps[place] >= least)
        worth = np.where(fits, overlaps[place] + 2.0 * ~aside, 0.0)[:, order]
        best = order[worth.argmax(1)]
        taken = fits[rules, best]
        found.ignored[:, place] = np.where(taken, aside[rules, best], found.ignored[:, place])
        found.right[:, place] = taken & ~aside[rules, best]
        if found.right[0, place]:
            found.overlaps[place], found.finds[place] = overlaps[place, best[0]], best[0]
        free[rules[taken], best[taken]] = truth.crowd[best[taken]]


def _ranks(labels: Ints) -> Ints:
    """[D] how many before each have its label."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    first = np.searchsorted(grouped, grouped, side="left")
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - first
    return ranks


def _by_class(found: Sequence[_Matched], objects: Ints) -> list[ClassMatches]:
    """Those of all pictures, in order, class by class; `objects` [C, A, N]."""
    images = np.repeat(np.arange(len(found)), np.array([len(one.labels) for one in found], np.int64))
    parts = (_NONE, *found)
    labels, places, scores, ranks, overlaps, finds = (
        np.concatenate([getattr(one, name) for one in parts])
        for name in ("labels", "places", "scores", "ranks", "overlaps", "finds")
    )
    right, ignored = (np.concatenate([getattr(one, name) for one in parts], axis=1) for name in ("right", "ignored"))
    order = np.lexsort((-scores, labels))  # of equal scores the earlier picture comes first
    ends = np.searchsorted(labels[order], np.arange(len(objects) + 1))
    return [
        ClassMatches(
            images=images[own],
            places=places[own],
            scores=scores[own],
            ranks=ranks[own],
            overlaps=overlaps[own],
            finds=finds[own],
            right=right[:, own],
            ignored=ignored[:, own],
            objects=objects[label],
        )
        for label, own in enumerate(order[first:last] for first, last in pairwise(ends.tolist()))
    ]
