"""Boxes that seem to be written in another form than their format's, and boxes that are mostly crowds.

Told from all boxes together: of a single one nobody knows.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats, Record
from falconet.data.dataset import DataSet, Format, Problem

Form = Literal["fractions", "pixels", "corners", "sides"]
"""Forms that are taken for one another: of YOLO, pixels for fractions; elsewhere, fractions for pixels; x1, y1, x2, y2
for x1, y1, width, height, or the other way round."""

_PIXELS = frozenset({"coco", "voc", "csv", "createml", "labelme", "shards"})
_CORNERS = frozenset({"voc", "csv"})
"""Formats that write x1, y1, x2, y2."""
_SIDES = frozenset({"coco", "shards"})
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
    found = believed_form(dataset)
    if found is not None:
        yield Problem(dataset.source, found.what, "box-form")


class Believed(NamedTuple):
    """The form that a data set's boxes seem to be written in, and why."""

    form: Form
    what: str


def believed_form(dataset: DataSet) -> Believed | None:
    """The form that the boxes seem to be written in; None where it is the format's own, or cannot be told."""
    form = dataset.format
    every = np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in dataset.records)])
    few = np.count_nonzero(fractions(every))
    if form in _PIXELS and len(every) and few >= _FITTING * len(every):
        which = f"all {few}" if few == len(every) else f"{few} of {len(every)}"
        what = f"its boxes seem to be fractions of the picture: {which} lie between 0 and 1; expected pixels"
        return Believed("fractions", f"{what}: multiply by width and height")
    if form not in _CORNERS | _SIDES | _CENTRES:
        return None
    boxes, sizes = _boxes_and_sizes(dataset)
    if not len(boxes):
        return None
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    width, height = sizes.T
    if form in _CORNERS:
        # Read as corners, sides that are shorter than x1 or y1 leave no area.
        wrong = (x2 <= x1) | (y2 <= y1)
        fits = (x2 > 0) & (y2 > 0) & (x1 + x2 <= width + 1) & (y1 + y2 <= height + 1)
        other: Form = "sides"
        written, expected = "left, top, width, height", "left, top, right, bottom (xmin, ymin, xmax, ymax)"
    else:
        first, second, third, fourth = as_written(boxes, form).T
        if form in _CENTRES and np.mean(np.maximum(first / width, second / height) > _PIXELS_FROM) >= _FITTING:
            what = f"its boxes seem to be in pixels: {len(boxes)} have numbers of pictures' sides; expected fractions"
            return Believed("pixels", f"{what}: divide by width and height")
        wrong = _sticks_out(x1, x2, width) | _sticks_out(y1, y2, height)
        slightly = _sticks_out(x1, x2, width, by=0.01) | _sticks_out(y1, y2, height, by=0.01)
        if form in _CENTRES and np.count_nonzero(slightly) >= max(_LEAST, _MOST_OUTSIDE * len(boxes)):
            wrong = slightly
        fits = (third > first) & (fourth > second) & (third <= width + 1) & (fourth <= height + 1)
        other, written = "corners", "left, top, right, bottom"
        expected = "left, top, width, height" if form in _SIDES else "centre x, centre y, width, height"
    count = int(np.count_nonzero(wrong))
    fitting = int(np.count_nonzero(fits))
    if fitting >= _FITTING * len(boxes) and count >= max(_LEAST, _SHARE * len(boxes)):
        what = f"its boxes seem to be {written}: {fitting} of {len(boxes)} are possible so, and {count} are not as "
        return Believed(other, f"{what}{expected}, which the format asks for; convert them")
    return None


def as_written(boxes: Floats, form: Format | None) -> _Column:
    """[N, 4] The four numbers that the format has for corners in pixels; YOLO's in pixels."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    if form in _SIDES:
        return np.stack([x1, y1, x2 - x1, y2 - y1], 1)
    if form in _CENTRES:
        return np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)
    return np.stack([x1, y1, x2, y2], 1)


def read_in_form(record: Record, written: Format | None, form: Form) -> Floats:
    """[N, 4] The corners of a record's boxes, had they been read in `form` instead of the format's own.

    Args:
        record: its width and height are those of the picture.
    """
    assert record.width is not None
    assert record.height is not None
    side = np.array([record.width, record.height] * 2, np.float64)
    if form == "fractions":
        return np.asarray(record.boxes.astype(np.float64) * side, np.float32)
    if form == "pixels":  # the reader has multiplied by the sides
        return np.asarray(record.boxes.astype(np.float64) / side, np.float32)
    numbers = as_written(record.boxes, written)
    if form == "sides":
        numbers = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]], 1)
    return np.asarray(numbers, np.float32)


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


def _sticks_out(low: _Column, high: _Column, side: _Column, *, by: float = 0.1) -> NDArray[np.bool_]:
    """Whether a box leaves the picture by more than a share of its side; a tenth is more than carelessness."""
    return np.asarray((high > side * (1 + by)) | (low < -side * by))
