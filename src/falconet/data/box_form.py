"""Boxes that seem to be written in another form than their format's, and boxes that are mostly crowds.

Told from all boxes together: of a single one nobody knows.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats, Record
from falconet.data.columns import Columns, class_counts, columns
from falconet.data.dataset import DataSet, Format, Problem
from falconet.data.usable_boxes import fractions

Form = Literal["fractions", "percent", "thousandths", "pixels", "corners", "sides"]
"""Forms that are taken for one another: of YOLO, pixels for fractions; elsewhere, fractions, hundredths or thousandths
of the picture for pixels; x1, y1, x2, y2 for x1, y1, width, height, or the other way round."""

PARTS: dict[Form, int] = {"fractions": 1, "percent": 100, "thousandths": 1000}
"""Of a side, by the form that counts in them."""

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
    every, few = 0, 0
    for block in columns(dataset.records):
        every += len(block.boxes)
        few += int(np.count_nonzero(fractions(block.boxes)))
    if form in _PIXELS and every and few >= _FITTING * every:
        which = f"all {few}" if few == every else f"{few} of {every}"
        what = f"its boxes seem to be fractions of the picture: {which} lie between 0 and 1; expected pixels"
        return Believed("fractions", f"{what}: multiply by width and height")
    if form in _PIXELS and (found := _in_parts(dataset)) is not None:
        return found
    if form not in _CORNERS | _SIDES | _CENTRES:
        return None
    other: Form = "sides" if form in _CORNERS else "corners"
    counts = sum((_possible(block, form) for block in columns(dataset.records)), _Possible())
    if not counts.boxes:
        return None
    if form in _CENTRES and counts.in_pixels >= _FITTING * counts.boxes:
        what = f"its boxes seem to be in pixels: {counts.boxes} have numbers of pictures' sides; expected fractions"
        return Believed("pixels", f"{what}: divide by width and height")
    wrong = counts.wrong
    if form in _CENTRES and counts.slightly >= max(_LEAST, _MOST_OUTSIDE * counts.boxes):
        wrong = counts.slightly
    if form in _CORNERS:
        written, expected = "left, top, width, height", "left, top, right, bottom (xmin, ymin, xmax, ymax)"
    else:
        written = "left, top, right, bottom"
        expected = "left, top, width, height" if form in _SIDES else "centre x, centre y, width, height"
    if counts.fits >= _FITTING * counts.boxes and wrong >= max(_LEAST, _SHARE * counts.boxes):
        what = (
            f"its boxes seem to be {written}: {counts.fits} of {counts.boxes} are possible so, and {wrong} are not as "
        )
        return Believed(other, f"{what}{expected}, which the format asks for; convert them")
    return None


_ENOUGH = 20
"""Boxes from which on what all of them have in common is believed."""


def _in_parts(dataset: DataSet) -> Believed | None:
    """Boxes that reach from 0 to 100, or to 1,000, in both directions, whatever sizes the pictures have."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    count = larger = outside = 0
    for block in columns(dataset.records):
        known = np.isfinite(block.limits).all(1) & np.isfinite(block.boxes).all(1)
        boxes, limits = block.boxes[known], block.limits[known]
        if not len(boxes):
            continue
        count += len(boxes)
        low, high = np.minimum(low, boxes[:, :2].min(0)), np.maximum(high, boxes[:, 2:].max(0))
        larger += int((limits >= 200).all(1).sum())
        outside += int((boxes[:, 2:] > 1.1 * limits).any(1).sum())
    if count < _ENOUGH or (low < 0).any():
        return None
    if larger >= _FITTING * count and (high > 90).all() and (high <= 100.5).all():
        what = f"its boxes seem to be percent of the picture: all {count} lie between 0 and 100, and reach up to it"
        return Believed("percent", f"{what}; expected pixels: multiply by width and height, divide by 100")
    if outside >= _SHARE * count and (high > 900).all() and (high <= 1005).all():
        what = f"its boxes seem to be thousandths of the picture: all {count} lie between 0 and 1,000, and {outside}"
        what += " of them outside of their pictures; expected pixels"
        return Believed("thousandths", f"{what}: multiply by width and height, divide by 1,000")
    return None


class _Possible:
    """Of how many boxes the form is possible, as numbers that add up.

    Attributes:
        boxes: finite ones of pictures whose size is known.
        wrong: that cannot be in the format's form.
        slightly: that leave the picture by a hundredth of its side.
        fits: that can be in the other form.
        in_pixels: whose centre is far beyond fractions.
    """

    def __init__(self, *counts: int) -> None:
        self.counts = counts or (0, 0, 0, 0, 0)
        self.boxes, self.wrong, self.slightly, self.fits, self.in_pixels = self.counts

    def __add__(self, other: "_Possible") -> "_Possible":
        return _Possible(*(one + two for one, two in zip(self.counts, other.counts, strict=True)))


def _possible(block: Columns, form: Format | None) -> _Possible:
    """Counts of a block; of those that the form does not need, 0."""
    sizes = np.repeat(block.sizes[:, ::-1], np.diff(block.starts), 0)
    known = (sizes >= 0).all(1) & np.isfinite(block.boxes).all(1)
    boxes, (width, height) = block.boxes[known], sizes[known].astype(np.float64).T
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    if form in _CORNERS:
        # Read as corners, sides that are shorter than x1 or y1 leave no area.
        wrong = (x2 <= x1) | (y2 <= y1)
        fits = (x2 > 0) & (y2 > 0) & (x1 + x2 <= width + 1) & (y1 + y2 <= height + 1)
        return _Possible(len(boxes), int(wrong.sum()), 0, int(fits.sum()), 0)
    first, second, third, fourth = as_written(boxes, form).T
    wrong = _sticks_out(x1, x2, width) | _sticks_out(y1, y2, height)
    slightly = _sticks_out(x1, x2, width, by=0.01) | _sticks_out(y1, y2, height, by=0.01)
    fits = (third > first) & (fourth > second) & (third <= width + 1) & (fourth <= height + 1)
    pixels = np.maximum(first / width, second / height) > _PIXELS_FROM if form in _CENTRES else np.zeros(0)
    return _Possible(len(boxes), *(int(np.count_nonzero(one)) for one in (wrong, slightly, fits, pixels)))


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
    if form in PARTS:
        return np.asarray(record.boxes.astype(np.float64) * side / PARTS[form], np.float32)
    if form == "pixels":  # the reader has multiplied by the sides
        return np.asarray(record.boxes.astype(np.float64) / side, np.float32)
    numbers = as_written(record.boxes, written)
    if form == "sides":
        numbers = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]], 1)
    return np.asarray(numbers, np.float32)


def crowd_problems(dataset: DataSet) -> Iterator[Problem]:
    """Where more than half of all boxes, or all boxes of a class, are crowds."""
    every, crowds = class_counts(dataset.records, len(dataset.names))
    flag = "'difficult'" if dataset.format == "voc" else "'iscrowd' 1" if dataset.format == "coco" else "flagged so"
    if crowds.sum() * 2 > every.sum():
        what = f"{crowds.sum()} of {every.sum()} boxes are crowds ({flag}): neither learnt nor counted"
        yield Problem(dataset.source, what, "crowds")
        return
    for label in np.flatnonzero((crowds > 0) & (crowds == every)).tolist():
        what = f"all {every[label]} boxes of '{dataset.names[label]}' are crowds ({flag}): neither learnt nor counted"
        yield Problem(dataset.source, what, "crowds")


def _sticks_out(low: _Column, high: _Column, side: _Column, *, by: float = 0.1) -> NDArray[np.bool_]:
    """Whether a box leaves the picture by more than a share of its side; a tenth is more than carelessness."""
    return np.asarray((high > side * (1 + by)) | (low < -side * by))
