"""Boxes that seem to be written in another form than their format's, and boxes that are mostly crowds.

Told from all boxes together: of a single one nobody knows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats
from falconet.data.dataset import DataSet, Problem

_PIXELS = frozenset({"coco", "voc", "csv", "createml", "labelme"})
_CORNERS = frozenset({"voc", "csv"})
"""Formats that write x1, y1, x2, y2."""
_SIDES = frozenset({"coco"})
"""Formats that write x1, y1, width, height."""
_CENTRES = frozenset({"yolo", "darknet", "labelimg"})
"""Formats that write centre x, centre y, width, height, as fractions."""

_SHARE = 0.2
_LEAST = 3
"""Boxes that cannot be what the format says, as share of all and as number, before another form is believed."""

_MOST_OUTSIDE = 0.5
"""Share of boxes that are careless by a hundredth of the side, above which it is not carelessness either."""

_PIXELS_FROM = 1.5
"""Of a centre as a fraction: no careless box has it there."""

_FITTING = 0.98
"""Share of the boxes that the other form must fit."""

_Column = NDArray[np.float64]


def fractions(boxes: Floats) -> NDArray[np.bool_]:
    """[N] Where a box has less than a pixel and lies where fractions of the picture would."""
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        small = ((sides > 0) & (sides <= 1)).all(1) & (sides < 1).any(1)
        return np.asarray(small & (boxes >= 0).all(1) & (boxes[:, :2] <= 1).all(1))


def form_problems(dataset: DataSet) -> Iterator[Problem]:
    """At most one problem: the boxes are believed to be written in another form than the format's."""
    form = dataset.format
    every = np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in dataset.records)])
    if form in _PIXELS and len(every) and fractions(every).all():
        what = f"its boxes seem to be fractions of the picture: all {len(every)} lie between 0 and 1; expected pixels"
        yield Problem(dataset.source, f"{what}: multiply by width and height", "box-form")
        return
    if form not in _CORNERS | _SIDES | _CENTRES:
        return
    boxes, sizes = _boxes_and_sizes(dataset)
    if not len(boxes):
        return
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    width, height = sizes.T
    if form in _CORNERS:
        # Read as corners, sides that are shorter than x1 or y1 leave no area.
        wrong = (x2 <= x1) | (y2 <= y1)
        fits = (x2 > 0) & (y2 > 0) & (x1 + x2 <= width + 1) & (y1 + y2 <= height + 1)
        written, expected = "left, top, width, height", "left, top, right, bottom (xmin, ymin, xmax, ymax)"
    else:
        first, second, third, fourth = (x1, y1, x2 - x1, y2 - y1) if form in _SIDES else _centres(x1, y1, x2, y2)
        if form in _CENTRES and np.mean(np.maximum(first / width, second / height) > _PIXELS_FROM) >= _FITTING:
            what = f"its boxes seem to be in pixels: {len(boxes)} have numbers of pictures' sides; expected fractions"
            yield Problem(dataset.source, f"{what}: divide by width and height", "box-form")
            return
        wrong = _sticks_out(x1, x2, width) | _sticks_out(y1, y2, height)
        slightly = _sticks_out(x1, x2, width, by=0.01) | _sticks_out(y1, y2, height, by=0.01)
        if form in _CENTRES and np.count_nonzero(slightly) >= max(_LEAST, _MOST_OUTSIDE * len(boxes)):
            wrong = slightly
        fits = (third > first) & (fourth > second) & (third <= width + 1) & (fourth <= height + 1)
        written = "left, top, right, bottom"
        expected = "left, top, width, height" if form in _SIDES else "centre x, centre y, width, height"
    count = int(np.count_nonzero(wrong))
    fitting = int(np.count_nonzero(fits))
    if fitting >= _FITTING * len(boxes) and count >= max(_LEAST, _SHARE * len(boxes)):
        what = f"its boxes seem to be {written}: {fitting} of {len(boxes)} are possible so, and {count} are not as "
        yield Problem(dataset.source, f"{what}{expected}, which the format asks for; convert them", "box-form")


def crowd_problems(dataset: DataSet) -> Iterator[Problem]:
    """Where more than half of all boxes, or all boxes of a class, are crowds."""
    count = len(dataset.names)
    every, crowds = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for record in dataset.records:
        every += np.bincount(record.labels, minlength=count)
        crowds += np.bincount(record.labels[record.crowd], minlength=count)
    flag = "'difficult'" if dataset.format == "voc" else "'iscrowd' 1" if dataset.format == "coco" else "flagged so"
    if crowds.sum() * 2 > every.sum():
        what = f"{crowds.sum()} of {every.sum()} boxes are crowds ({flag}): neither learnt nor counted"
        yield Problem(dataset.source, what, "crowds")
        return
    for label in np.flatnonzero((crowds > 0) & (crowds == every)).tolist():
        what = f"all {every[label]} boxes of '{dataset.names[label]}' are crowds ({flag}): neither learnt nor counted"
        yield Problem(dataset.source, what, "crowds")


def _boxes_and_sizes(dataset: DataSet) -> tuple[Floats, _Column]:
    """Finite boxes [N, 4] of pictures whose size is known, and (width, height) [N, 2] of these."""
    boxes, sizes = [np.zeros((0, 4), np.float32)], [np.zeros((0, 2))]
    for record in dataset.records:
        if record.width is not None and record.height is not None and len(record.boxes):
            finite = record.boxes[np.isfinite(record.boxes).all(1)]
            boxes.append(finite)
            sizes.append(np.tile(np.array([record.width, record.height], np.float64), (len(finite), 1)))
    return np.concatenate(boxes), np.concatenate(sizes)


def _centres(x1: _Column, y1: _Column, x2: _Column, y2: _Column) -> tuple[_Column, _Column, _Column, _Column]:
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _sticks_out(low: _Column, high: _Column, side: _Column, *, by: float = 0.1) -> NDArray[np.bool_]:
    """Whether a box leaves the picture by more than a share of its side; a tenth is more than carelessness."""
    return np.asarray((high > side * (1 + by)) | (low < -side * by))
