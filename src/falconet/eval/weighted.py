"""Average precision of detections that count several times or not at all, in many draws at once.

All tables have a row for each detection and a column for each draw, and mostly one for each of several rules between
them, so that sums and maxima over detections are those of whole rows, which NumPy takes several numbers at a time; its
own `accumulate` goes number by number.
"""

from itertools import pairwise
from math import isqrt

import numpy as np
from numpy.typing import NDArray

POINTS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads precision."""

BLOCK = 1024
"""Detections whose running sums are held at once: with some hundred draws they stay in the processor's cache."""

FEW = 2048
"""Numbers up to which NumPy's `accumulate` is faster than whole rows."""

Table = NDArray[np.float32]
Places = NDArray[np.int64]


class Objects:
    """How many objects there are in some draws, and which recalls are reached with so many of them.

    Args:
        number: [r].
    """

    def __init__(self, number: NDArray[np.float32]) -> None:
        self.number = number
        numbers, own = np.unique(np.maximum(number, 1).astype(np.int64), return_inverse=True)
        width = int(numbers[-1]) + 1 if len(numbers) else 1
        needed = width * np.arange(len(numbers))[:, None] + _needed(numbers)
        reached = np.bincount(needed.ravel(), minlength=width * len(numbers)).reshape(-1, width)
        self._points = np.cumsum(reached, axis=1).astype(np.float32)
        self._starts = (width * own).astype(np.int32)

    def points(self, hits: Table) -> Table:
        """[..., r] how many of `POINTS` are reached by as many hits [..., r]."""
        places = hits.astype(np.int32)
        places += self._starts
        return self._points.take(places)


def _needed(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n, 101] the fewest hits of so many objects [n] whose share is as high as each of `POINTS`, as doubles are."""
    needed = np.ceil(POINTS * numbers[:, None]).astype(np.int64)
    needed -= (needed - 1) / numbers[:, None] >= POINTS  # rounding the product may have made it one too many
    needed += needed / numbers[:, None] < POINTS  # or too few
    return needed


class Weighted:
    """The detections of one class in some draws, by descending score.

    Args:
        drawn: [N, r] how often each picture is drawn.
        images: [D] the picture of each detection.
    """

    def __init__(self, drawn: Table, images: Places) -> None:
        self._drawn = drawn
        self._images = images

    def number(self, which: Places) -> NDArray[np.float32]:
        """[r] how many of some detections there are."""
        number: NDArray[np.float32] = self._drawn.take(self._images[which], axis=0).sum(0)
        return number

    def told(self, kept: Places, places: Places, rules: NDArray[np.bool_] | None = None) -> Table:
        """[P, T, r] how many of the detections `kept` there are up to each place; both ascend.

        Args:
            kept: [K].
            places: [P].
            rules: [K, T] by which rules each is kept; None: by the only one.
        """
        number = np.searchsorted(kept, places, side="right")
        rules = np.ones((len(kept), 1), np.bool_) if rules is None else rules
        before = np.zeros((rules.shape[1], self._drawn.shape[1]), np.float32)
        told = np.zeros((len(places), *before.shape), np.float32)
        for first in range(0, int(number.max(initial=0)), BLOCK):
            own = slice(first, first + BLOCK)
            sums = self._running(kept[own], rules[own])
            inside = slice(*np.searchsorted(number, (first + 1, first + BLOCK + 1)).tolist())
            np.add(sums.take(number[inside] - (first + 1), axis=0), before, out=told[inside])
            before += sums[-1]
        return told

    def average_precision(
        self, found: Places, told: Table, objects: Objects, rules: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """[T, r] the mean of the precision at 101 recalls; NaN where there are no objects.

        Args:
            found: [U] detections that find an object, ascending.
            told: [U, T, r] detections that count up to each of them; or [U, 1, r], where these are the same.
            objects: that there are.
            rules: [U, T] by which rules each finds one; None: by the only one.
        """
        rules = np.ones((len(found), 1), np.bool_) if rules is None else rules
        if not len(found):
            return np.where(objects.number > 0, 0.0, np.full((rules.shape[1], 1), np.nan))
        hits = self._running(found, rules)
        best: Table = np.divide(hits, np.maximum(told, 1), dtype=np.float32)
        # What is reached at this recall or a higher one. What finds nothing by a rule lies below what did before it.
        accumulate(np.maximum, best[::-1])
        reached = objects.points(hits)
        gained = np.subtract(reached[1:], reached[:-1], out=hits[1:])
        precision = np.einsum("utr,utr->tr", best[1:], gained, dtype=np.float64)
        precision += np.multiply(best[0], reached[0], dtype=np.float64)
        return np.where(objects.number > 0, precision / len(POINTS), np.nan)

    def _running(self, which: Places, rules: NDArray[np.bool_]) -> Table:
        """[K, T, r] how many of some detections [K] there are up to each by each rule [K, T]."""
        drawn = self._drawn.take(self._images[which], axis=0)[:, None]
        sums: Table = drawn if rules.shape[1] == 1 and rules.all() else drawn * rules[..., None]
        accumulate(np.add, sums)
        return sums


def accumulate(combine: np.ufunc, rows: Table) -> None:
    """What `combine` makes of each row and all before it, in place.

    Rows lie in about as many groups as each group has rows: first all groups go on by a row at once, then each takes
    over what the one before it came to. So it takes twice the root of so many steps, and two passes.

    Args:
        combine: associative in the numbers at hand.
        rows: [P, ...].
    """
    if rows.size <= FEW:
        combine.accumulate(rows, axis=0, out=rows)
        return
    size = isqrt(len(rows))
    count = len(rows) // size
    groups = rows[: size * count].reshape(count, size, *rows.shape[1:])
    for before, after in pairwise(groups.swapaxes(0, 1)):
        combine(after, before, out=after)
    for group, after in pairwise(groups):
        combine(after, group[-1], out=after)
    for before, after in pairwise(rows[size * count - 1 :]):
        combine(after, before, out=after)
