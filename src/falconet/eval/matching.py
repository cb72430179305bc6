"""Which detections find which objects, picture by picture, so that pictures can be weighted afterwards.

The rules are COCO's (https://cocodataset.org/#detection-eval), and so are the figures with equal weights: tests hold
them against hotcoco's. hotcoco computes as much, but hands it over as a dictionary per picture, class and size, which
takes longer than all the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
        scores: [D].
        ranks: [D] how many detections of this class and picture score higher.
        overlaps: [D] IoU with the object that it finds at 0.5, 0 where there is none.
        right: [RULES, D] it finds an object.
        ignored: [RULES, D] it counts neither for nor against.
        objects: [A, N] objects of each size in each picture.
    """

    images: Ints
    scores: Floats
    ranks: Ints
    overlaps: Floats
    right: Bools
    ignored: Bools
    objects: Ints


def match_all(names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]) -> list[ClassMatches]:
    """The matches of each class.

    Args:
        names: class names; labels of records and answers index them.
        records, answers: aligned.
    """
    found: list[list[_Matched]] = [[] for _ in names]
    objects = np.zeros((len(names), len(AREAS), len(records)), np.int64)
    for image, (record, answer) in enumerate(zip(records, answers, strict=True)):
        areas = _object_areas(record)
        outside = _outside(areas) | record.crowd
        for size in range(len(AREAS)):
            objects[:, size, image] = np.bincount(record.labels[~outside[size]], minlength=len(names))
        order = np.argsort(-answer.scores, kind="stable")
        boxes, scores, labels = answer.boxes[order].astype(np.float64), answer.scores[order], answer.labels[order]
        for label in np.unique(labels).tolist():
            own, true = np.flatnonzero(labels == label)[:LIMIT], record.labels == label
            truth = _Truth(record.boxes[true].astype(np.float64), outside[:, true], record.crowd[true])
            found[label].append(_Matched(image, scores[own], *_match(boxes[own], truth)))
    return [_joined(own, objects[label]) for label, own in enumerate(found)]


@dataclass(frozen=True, slots=True)
class _Truth:
    """The objects of one class in one picture: [G, 4], [A, G] that do not count, [G] crowds."""

    boxes: Floats
    outside: Bools
    crowd: Bools


@dataclass(frozen=True, slots=True)
class _Matched:
    image: int
    scores: Floats
    right: Bools
    ignored: Bools
    overlaps: Floats


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


def _match(boxes: Floats, truth: _Truth) -> tuple[Bools, Bools, Floats]:
    """(right, ignored) [RULES, D] of detections by descending score, each of which takes the best object that is left,
    and the IoU [D] with that of the first rule."""
    steps = len(IOUS)
    ignored = np.repeat(_outside(_areas(boxes)), steps, axis=0)
    right, taken_overlaps = np.zeros_like(ignored), np.zeros(len(boxes))
    if not len(truth.boxes):
        return right, ignored, taken_overlaps
    overlaps = _overlaps(boxes, truth)
    least = np.minimum(np.tile(IOUS, len(AREAS)), 1 - 1e-10)[:, None]
    aside = np.repeat(truth.outside, steps, axis=0)  # [RULES, G]
    free = np.ones_like(aside)
    rules = np.arange(RULES)
    # An object that counts beats one that does not; of equal overlaps the later one wins, as in COCO's loop.
    order = np.arange(len(truth.boxes) - 1, -1, -1)
    for place in np.flatnonzero((overlaps >= IOUS[0]).any(1)).tolist():
        fits = free & (overlaps[place] >= least)
        worth = np.where(fits, overlaps[place] + 2.0 * ~aside, 0.0)[:, order]
        best = order[worth.argmax(1)]
        taken = fits[rules, best]
        ignored[:, place] = np.where(taken, aside[rules, best], ignored[:, place])
        right[:, place] = taken & ~aside[rules, best]
        taken_overlaps[place] = overlaps[place, best[0]] * right[0, place]
        free[rules[taken], best[taken]] = truth.crowd[best[taken]]
    return right, ignored, taken_overlaps


def _overlaps(boxes: Floats, truth: _Truth) -> Floats:
    """[D, G] IoU; with a crowd the share of the detection that lies in it."""
    left_top = np.maximum(boxes[:, None, :2], truth.boxes[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], truth.boxes[None, :, 2:])
    shared = (right_bottom - left_top).clip(0).prod(2)
    own = _areas(boxes)[:, None]
    whole = np.where(truth.crowd[None], own, own + _areas(truth.boxes)[None] - shared)
    overlaps: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return overlaps


def _joined(parts: Sequence[_Matched], objects: Ints) -> ClassMatches:
    if not parts:
        nothing = np.zeros((RULES, 0), np.bool_)
        none = np.zeros(0, np.int64)
        return ClassMatches(none, none.astype(np.float64), none, none.astype(np.float64), nothing, nothing, objects)
    counts = [len(part.scores) for part in parts]
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(
        images=np.repeat([part.image for part in parts], counts)[order],
        scores=scores[order],
        ranks=np.concatenate([np.arange(count) for count in counts])[order],
        overlaps=np.concatenate([part.overlaps for part in parts])[order],
        right=np.concatenate([part.right for part in parts], axis=1)[:, order],
        ignored=np.concatenate([part.ignored for part in parts], axis=1)[:, order],
        objects=objects,
    )
