"""Which detections find which objects, picture by picture, so that pictures can be weighted afterwards.

The rules are COCO's (https://cocodataset.org/#detection-eval), and so are the figures with equal weights: tests hold
them against hotcoco's. hotcoco computes as much, but hands it over as a dictionary per picture, class and size, which
takes longer than all the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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

PAIRS = 500_000
"""Boxes that are laid over one another at once, at most."""

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
    truths, told = Truths.of(records), _Told.of(answers)
    found = _Matched.nothing(told)
    _match(found, told, truths, len(records))
    objects = np.stack([truths.in_pictures(~aside, len(names)) for aside in truths.aside], axis=1)
    ends = np.searchsorted(told.labels, np.arange(len(names) + 1))
    return [
        ClassMatches(
            images=told.images[own],
            places=told.places[own],
            scores=told.scores[own],
            ranks=told.ranks[own],
            overlaps=found.overlaps[own],
            finds=found.finds[own],
            right=found.right[:, own],
            ignored=found.ignored[:, own],
            objects=objects[label],
        )
        for label, own in enumerate(slice(*ends) for ends in pairwise(ends.tolist()))
    ]


@dataclass(frozen=True, slots=True)
class Truths:
    """The objects of all pictures, picture by picture.

    Attributes:
        boxes: [G, 4] in double precision.
        labels, images: [G].
        aside: [A, G] that do not count: of another size, or crowds.
        crowd: [G].
        starts: [N + 1] the first object of each picture, and how many there are.
    """

    boxes: Floats
    labels: Ints
    images: Ints
    aside: Bools
    crowd: Bools
    starts: Ints

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Truths":
        """Those of all records."""
        boxes = np.concatenate([np.zeros((0, 4)), *(record.boxes for record in records)])
        crowd = np.concatenate([np.zeros(0, np.bool_), *(record.crowd for record in records)])
        given = [np.full(len(one.boxes), np.nan) if one.areas is None else one.areas for one in records]
        areas = np.concatenate([np.zeros(0), *given])
        counts = [len(record.boxes) for record in records]
        return cls(
            boxes=boxes,
            labels=np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)]),
            images=np.repeat(np.arange(len(records)), counts),
            aside=_outside(np.where(np.isnan(areas), _areas(boxes), areas)) | crowd,
            crowd=crowd,
            starts=np.cumsum([0, *counts]),
        )

    def in_pictures(self, which: Bools, classes: int) -> Ints:
        """[C, N] how many of some objects [G] there are of each class in each picture."""
        images = len(self.starts) - 1
        flat = np.bincount((self.labels * images + self.images)[which], minlength=classes * images)
        return flat.reshape(classes, images)

    def overlaps(self, which: Ints, boxes: Floats) -> Floats:
        """[P] IoU of each object `which` [P] with the box [P, 4] beside it; of a crowd the share of the box in it."""
        others = self.boxes[which]
        sides = (np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])).clip(0)
        shared = sides[:, 0] * sides[:, 1]
        own = _areas(boxes)
        whole = np.where(self.crowd[which], own, own + _areas(others) - shared)
        overlaps: Floats = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
        return overlaps


@dataclass(frozen=True, slots=True)
class _Told:
    """The detections that count of all pictures and classes: by class, then by descending score; of equal scores the
    earlier picture comes first. As of `ClassMatches`, with their boxes [D, 4] in double precision."""

    labels: Ints
    images: Ints
    places: Ints
    scores: Floats
    ranks: Ints
    boxes: Floats

    @classmethod
    def of(cls, answers: Sequence[Detections]) -> "_Told":
        counts = np.array([len(one.labels) for one in answers], np.int64)
        images = np.repeat(np.arange(len(answers)), counts)
        places = np.arange(len(images)) - np.repeat(np.cumsum(counts) - counts, counts)
        labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in answers)])
        scores = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in answers)])
        order = np.lexsort((-scores, labels))
        ranks = _ranks((labels * len(answers) + images)[order])
        order, ranks = order[ranks < LIMIT], ranks[ranks < LIMIT]
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in answers)])
        return cls(
            labels=labels[order],
            images=images[order],
            places=places[order],
            scores=scores[order],
            ranks=ranks,
            boxes=boxes[order].astype(np.float64),
        )


@dataclass(frozen=True, slots=True)
class _Matched:
    """What detections find, as of `ClassMatches`, of all classes."""

    right: Bools
    ignored: Bools
    overlaps: Floats
    finds: Ints

    @classmethod
    def nothing(cls, told: _Told) -> "_Matched":
        """Before they are matched."""
        ignored = np.repeat(_outside(_areas(told.boxes)), len(IOUS), axis=0)
        count = len(told.boxes)
        return cls(np.zeros_like(ignored), ignored, np.zeros(count), np.full(count, -1))


def _areas(boxes: Floats) -> Floats:
    """[N] in double precision, since sizes are told apart at whole numbers."""
    areas: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)
    return areas


def _outside(areas: Floats) -> Bools:
    """[A, G]: not of that size."""
    return np.stack([(areas < low) | (areas > high) for low, high in AREAS])


def _ranks(keys: Ints) -> Ints:
    """[D] how many before each have its key."""
    order = np.argsort(keys, kind="stable")
    grouped = keys[order]
    first = np.searchsorted(grouped, grouped, side="left")
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = np.arange(len(keys)) - first
    return ranks


def pairs_in_blocks(counts: Ints) -> Iterator[tuple[slice, Ints, Ints]]:
    """Things [D] that have so many partners each: parts of them with few enough pairs, and in each part the thing of
    every pair (counted from the first of the part) and which of its partners it is."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + PAIRS, side="right")))
        own = counts[first:last]
        things = np.repeat(np.arange(last - first), own)
        yield slice(first, last), things, np.arange(len(things)) - np.repeat(np.cumsum(own) - own, own)
        first = last


class _Pairs(NamedTuple):
    """Detections and objects of the same class and picture that lie over one another.

    Attributes:
        detections, objects: [P] places; by detection.
        overlaps: [P] IoU.
    """

    detections: Ints
    objects: Ints
    overlaps: Floats

    @classmethod
    def of(cls, told: _Told, truths: Truths, images: int) -> "_Pairs":
        keys = truths.labels * images + truths.images
        by_key = np.argsort(keys, kind="stable")
        wanted = told.labels * images + told.images
        first, last = (np.searchsorted(keys[by_key], wanted, side=side) for side in ("left", "right"))
        parts = [cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
        for own, things, partners in pairs_in_blocks(last - first):
            detections = own.start + things
            objects = by_key[first[detections] + partners]
            overlaps = truths.overlaps(objects, told.boxes[detections])
            over = overlaps >= IOUS[0]
            parts.append(cls(detections[over], objects[over], overlaps[over]))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def at(self, places: Ints | slice) -> "_Pairs":
        """Some of them."""
        return _Pairs(self.detections[places], self.objects[places], self.overlaps[places])


def _match(found: _Matched, told: _Told, truths: Truths, images: int) -> None:
    """Write into `found` which objects detections take: by descending score, each the best one that is left.

    What happens in one picture and class does not touch another. So all of these go on at the same time: in each round
    the next detection of every one of them is served.
    """
    pairs = _Pairs.of(told, truths, images)
    candidates, own = np.unique(pairs.detections, return_inverse=True)
    if not len(candidates):
        return
    rounds = _ranks(told.labels[candidates] * images + told.images[candidates])
    served = np.argsort(rounds, kind="stable")
    turn = np.argsort(served)[own]
    candidates, rounds = candidates[served], rounds[served]
    ends = np.searchsorted(rounds, np.arange(rounds[-1] + 2))
    for area, aside in enumerate(truths.aside):
        # An object that counts beats one that does not; of equal overlaps the later one wins, as in COCO's loop.
        order = np.lexsort((-pairs.objects, -pairs.overlaps, aside[pairs.objects], turn))
        sorted_pairs = pairs.at(order)
        starts = np.searchsorted(turn[order], np.arange(len(candidates) + 1))
        free = np.ones((len(IOUS), len(aside)), np.bool_)
        for first, last in pairwise(ends.tolist()):
            block = sorted_pairs.at(slice(starts[first], starts[last]))
            _serve(found, block, starts[first:last] - starts[first], area, truths, free)


def _serve(found: _Matched, pairs: _Pairs, starts: Ints, area: int, truths: Truths, free: Bools) -> None:
    """One round: detections [K], each of another picture or class, take objects.

    Args:
        pairs: those of these detections, the best ones first.
        starts: [K] the first pair of each.
        free: [T, G] objects that are left at each IoU threshold; what is taken is struck out.
    """
    least = np.minimum(IOUS, 1 - 1e-10)[:, None]
    count = len(pairs.objects)
    fits = free[:, pairs.objects] & (pairs.overlaps >= least)
    first = np.minimum.reduceat(np.where(fits, np.arange(count), count), starts, axis=1)
    taken = first < count
    pair = np.minimum(first, count - 1)
    best, detections = pairs.objects[pair], pairs.detections[starts]
    aside = truths.aside[area][best]
    rules = slice(area * len(IOUS), (area + 1) * len(IOUS))
    found.right[rules, detections] = taken & ~aside
    found.ignored[rules, detections] = np.where(taken, aside, found.ignored[rules, detections])
    if area == 0:
        right = taken[0] & ~aside[0]
        found.overlaps[detections[right]] = pairs.overlaps[pair[0, right]]
        found.finds[detections[right]] = (best - truths.starts[truths.images[best]])[0, right]
    steps, places = np.nonzero(taken)
    free[steps, best[steps, places]] = truths.crowd[best[steps, places]]
