"""Anchors for a data set: the few widths and heights that are most like its boxes.

k-means with 1 - IoU as distance, as in YOLO9000 (arXiv:1612.08242, section 2), started from boxes that are spread
over all sizes; then every side of every anchor is moved up and down as long as that helps. Everything is deterministic;
time and memory grow with the number of boxes, up to a sample of `SAMPLE` for the search.

"Shape IoU" is the IoU of two boxes laid onto the same centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from falconet.core.errors import DataError
from falconet.core.manifest import Preprocess
from falconet.core.types import Record
from falconet.data.columns import columns

Sides = NDArray[np.float64]
"""[N, 2] widths and heights, network-input pixels."""

FOUND = 0.5
"""Shape IoU from which on an anchor counts as able to find a box."""

SMALLEST_SIDE = 1.0
"""Pixels; no anchor gets a shorter side."""

SAMPLE = 50_000
"""Boxes that the search looks at; of more, every n-th by area."""

_ROUNDS = 300
_STEPS = (1.15, 1.05, 1.02, 1.005)
"""Factors the refinement tries, coarse ones first."""
_SWEEPS = 30
"""Most passes over all sides, per factor."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well anchors fit boxes.

    Attributes:
        recall: best possible recall: share of the boxes whose best anchor has a shape IoU above `FOUND`, 0..1.
        likeness: mean shape IoU of the boxes with their best anchor, 0..1.
        boxes: how many there are.
    """

    recall: float
    likeness: float
    boxes: int


def widths_heights_in_input(records: Sequence[Record], preprocess: Preprocess) -> Sides:
    """Widths and heights of all boxes but crowds, as the network sees them.

    Args:
        records: with the sizes of their pictures (see `falconet.data.records.usable`).
        preprocess: input size and resize rule.
    """
    parts = [np.zeros((0, 2))]
    for block in columns(records):
        assert (block.sizes > 0).all(), "the sizes of usable pictures are known"
        scale = np.array([preprocess.width, preprocess.height]) / block.sizes[:, ::-1]
        if preprocess.resize == "letterbox":
            scale = np.repeat(scale.min(1, keepdims=True), 2, 1)
        counted = ~block.crowd
        boxes, scale = block.boxes[counted], scale[block.owners[counted]]
        parts.append((boxes[:, 2:] - boxes[:, :2]).astype(np.float64) * scale)
    sides = np.concatenate(parts)
    return sides[(sides > 0).all(1)]


def shape_iou(sides: Sides, anchors: Sides) -> NDArray[np.float64]:
    """IoU [N, K] of boxes [N, 2] and anchors [K, 2], on the same centre."""
    overlap = np.minimum(sides[:, None, 0], anchors[None, :, 0])
    overlap *= np.minimum(sides[:, None, 1], anchors[None, :, 1])
    return np.asarray(overlap / (sides.prod(1)[:, None] + anchors.prod(1)[None] - overlap))


def measure(sides: Sides, anchors: ArrayLike) -> Fit:
    """How well `anchors` [K, 2] (width, height) fit the boxes with `sides`; no boxes fit perfectly."""
    if not len(sides):
        return Fit(1.0, 1.0, 0)
    best = _best(sides, np.asarray(anchors, np.float64))
    return Fit(float((best > FOUND).mean()), float(best.mean()), len(sides))


def find_anchors(sides: Sides, count: int) -> Sides:
    """`count` anchors [count, 2] for boxes of these sides, smallest area first.

    Raises:
        DataError: there are fewer different boxes than anchors.
    """
    sides = sides[_by_area(sides)][:: -(-len(sides) // SAMPLE) or 1]
    different = np.unique(sides, axis=0)
    if len(different) < count:
        raise DataError(
            f"{count} anchors need at least as many boxes of different shapes, but there are {len(different)}"
        )
    start = different[_by_area(different)][((np.arange(count) + 0.5) / count * len(different)).astype(int)]
    anchors = _refine(sides, _k_means(sides, start))
    return anchors[_by_area(anchors)]


def _best(sides: Sides, anchors: Sides) -> NDArray[np.float64]:
    """Shape IoU of each box with its best anchor, without a table of all pairs."""
    best = np.zeros(len(sides))
    for anchor in anchors:
        np.maximum(best, shape_iou(sides, anchor[None])[:, 0], out=best)
    return best


def _by_area(sides: Sides) -> NDArray[np.int64]:
    return np.lexsort((sides[:, 0], sides.prod(1)))


def _k_means(sides: Sides, anchors: Sides) -> Sides:
    owner = np.full(len(sides), -1)
    for _ in range(_ROUNDS):
        now = shape_iou(sides, anchors).argmax(1)
        if (now == owner).all():
            break
        owner = now
        counts = np.bincount(owner, minlength=len(anchors))
        sums = [np.bincount(owner, weights=sides[:, axis], minlength=len(anchors)) for axis in (0, 1)]
        means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
        anchors = np.where(counts[:, None] > 0, means, anchors)
    return np.maximum(anchors, SMALLEST_SIDE)


def _refine(sides: Sides, anchors: Sides) -> Sides:
    """Anchors whose mean shape IoU with the boxes no single step makes larger."""
    anchors = anchors.copy()
    table = shape_iou(sides, anchors)
    reached = table.max(1).mean()
    for step in _STEPS:
        for _ in range(_SWEEPS):
            before = reached
            for index in range(len(anchors)):
                others = np.delete(table, index, axis=1).max(1, initial=0.0)
                for axis in (0, 1):
                    for factor in (step, 1 / step):
                        moved = anchors[index].copy()
                        moved[axis] = max(SMALLEST_SIDE, moved[axis] * factor)
                        column = shape_iou(sides, moved[None])[:, 0]
                        value = np.maximum(others, column).mean()
                        if value > reached + 1e-9:
                            anchors[index], table[:, index], reached = moved, column, value
            if reached <= before:
                break
    return anchors
