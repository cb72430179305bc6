"""What boxes and splits look like as a whole: boxes drawn twice, too small ones, classes and splits of too few."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from falconet.core import boxes as box_math
from falconet.core.figures import plural
from falconet.core.suggest import listed
from falconet.core.types import Floats, Ints, Record
from falconet.data.dataset import DataSet, Problem
from falconet.data.records import Joined, joined

TWICE = 0.9
"""IoU from which on two boxes are of the same object."""

THIN = 25.0
"""How many times as long as wide a box hardly ever is."""

SLIVER, LINE = 0.01, 5.0
"""Share of a picture's side below which a box along the border shows next to nothing of its object, and how many times
as long it is; small objects are not meant."""

WHOLE = 0.98
"""Share of a picture from which on a box is all of it."""

TRAINED, LEAST_SIDE = 416, 4.0
"""Longer side of a usual input, and pixels that a box should have there."""

MANY_SMALL = 0.1
"""Share of a class's boxes that may be smaller."""

LEARN, MEASURE = 10, 5
"""Boxes of a class that are few to learn from, and to measure on."""

OTHER_SHARE, SURE = 3.0, 4.0
"""How many times as frequent a class is in another split where that is odd, and by how many deviations."""

SOURCE, SOURCE_SHARE = 10, 0.05
"""Pictures of a source, and their share of a split, from which on it is told that nothing is learnt from it."""

OTHER_SIZE = 1.5
"""How many times as large the pictures of another split are where that is odd."""

LARGEST = 1e6
"""Pixels beyond which no picture reaches."""

NOTHING = 10
"""Pictures from which on a split without any box is a mistake."""

EMPTY = 0.5
"""Share of pictures without boxes that is odd."""

PAIRS = 1_000_000
"""Of boxes that are held against each other at a time."""


def box_look_problems(dataset: DataSet) -> Iterator[Problem]:
    """Boxes of one split that are probably not meant so, and classes whose boxes are too small."""
    sized = [record for record in dataset.records if record.width and record.height]
    for place in np.flatnonzero(_maybe_odd(sized)).tolist():
        yield from _odd_boxes(dataset, sized[place])
    labels = [np.zeros(0, np.int64), *(record.labels for record in sized)]
    small = np.bincount(np.concatenate(labels)[_are_small(joined(sized))], minlength=len(dataset.names))
    every = [np.zeros(0, np.int64), *(record.labels for record in dataset.records)]
    count = np.bincount(np.concatenate(every), minlength=len(dataset.names))
    for name, few, all_boxes in zip(dataset.names, small.tolist(), count.tolist(), strict=True):
        if few > max(2, MANY_SMALL * all_boxes):
            what = (
                f"{few} of {all_boxes} boxes of '{name}' are narrower than {LEAST_SIDE:.0f} pixels at an input of "
                f"{TRAINED}; they need a larger one, or pictures cut into parts"
            )
            yield Problem(dataset.source, what, "small-boxes")


def _are_small(table: Joined) -> NDArray[np.bool_]:
    """[N] Boxes with a side too small at a usual input."""
    boxes = _finite(table.boxes)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).min(1) * TRAINED / table.limits.max(1) < LEAST_SIDE)


def _maybe_odd(records: Sequence[Record]) -> NDArray[np.bool_]:
    """[R] The records in which `_odd_boxes` may find something; those of whole data sets are told at once."""
    table = joined(records)
    boxes = _finite(table.boxes)
    return table.records_with(_are_thin(boxes) | _are_slivers(boxes, table.limits) | _cover(boxes, table.limits)) | (
        _maybe_twice(boxes, table.starts)
    )


def _maybe_twice(boxes: Floats, starts: Ints) -> NDArray[np.bool_]:
    """[R] The records of which two boxes have an IoU of `TWICE`, by records with as many boxes each."""
    lengths = np.diff(starts)
    found = np.zeros(len(lengths), np.bool_)
    for length in np.unique(lengths[lengths > 1]).tolist():
        places = np.flatnonzero(lengths == length)
        step = max(1, PAIRS // length**2)
        for chosen in (places[begin : begin + step] for begin in range(0, len(places), step)):
            own = boxes[starts[chosen][:, None] + np.arange(length)]
            found[chosen] = (np.triu(box_math.pairwise_iou(own, own), k=1) >= TWICE).any((1, 2))
    return found


def _finite(boxes: Floats) -> Floats:
    """Boxes without NaN, and not so large that areas overflow; those are told elsewhere."""
    if np.abs(boxes).max(initial=0.0) <= LARGEST:  # not so where one is NaN
        return boxes
    return np.asarray(np.clip(np.nan_to_num(boxes), -LARGEST, LARGEST), np.float32)


def _are_thin(boxes: Floats) -> NDArray[np.bool_]:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    return np.asarray((sides.max(1) > THIN * sides.min(1)) & (sides.min(1) > 1e-3))


def _cover(boxes: Floats, limits: Floats) -> NDArray[np.bool_]:
    """[N] Boxes of the whole picture, whose width and height is [N, 2] or [2]."""
    return np.asarray(box_math.area(boxes) >= WHOLE * limits[..., 0] * limits[..., 1])


def _are_slivers(boxes: Floats, limits: Floats) -> NDArray[np.bool_]:
    """[N] Boxes that touch the border and are hardly wider than a line: leftovers of pictures that were cut."""
    touching = (boxes[:, :2] <= 1) | (boxes[:, 2:] >= limits - 1)
    sides = boxes[:, 2:] - boxes[:, :2]
    thin = touching & (sides > 0) & (sides < SLIVER * limits) & (LINE * sides <= sides[:, ::-1])
    return np.asarray(thin.any(1))


def _odd_boxes(dataset: DataSet, record: Record) -> Iterator[Problem]:
    boxes, counts = _finite(record.boxes), ~record.crowd
    limits = np.array([record.width, record.height], np.float32)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    for index in np.flatnonzero(counts & _are_thin(boxes)).tolist():
        width, height = sides[index].tolist()
        what = f"image {record.path.name} has a box of {width:g} x {height:g} pixels; hardly any object is so thin"
        yield dataset.box_problem(record, what, "thin-box", index)
    for index in np.flatnonzero(counts & _are_slivers(boxes, limits)).tolist():
        width, height = (boxes[index, 2:] - boxes[index, :2]).tolist()
        name = dataset.names[record.labels[index]]
        what = (
            f"image {record.path.name}: a box of '{name}' along the border has {width:g} x {height:g} pixels; little "
            "of the object can be seen"
        )
        yield dataset.box_problem(record, what, "border-sliver", index)
    if len(boxes) > 1:  # a single object may fill its picture
        for index in np.flatnonzero(counts & _cover(boxes, limits)).tolist():
            name = dataset.names[record.labels[index]]
            what = f"image {record.path.name}: a box of '{name}' is the whole picture, beside other boxes"
            yield dataset.box_problem(record, what, "whole-picture", index)
    for first, second in drawn_twice(record):
        one, other = (dataset.names[record.labels[place]] for place in (first, second))
        where = dataset.box_source(record, first)
        if one != other:
            what = f"image {record.path.name} has one box as '{other}' and, at {where}, as '{one}'"
            yield dataset.box_problem(record, what, "two-classes", second, first)
        elif (boxes[first] != boxes[second]).any():  # equal ones are told as duplicate-box
            what = f"image {record.path.name} has an object of '{one}' twice, first at {where}"
            yield dataset.box_problem(record, what, "drawn-twice", second, first)


def drawn_twice(record: Record) -> list[tuple[int, int]]:
    """Pairs (first, second) of boxes of one object, each second one once; crowds are none.

    Where a box has the same object as several, the first of its own class counts, then any.
    """
    if len(record.boxes) < 2:
        return []
    boxes, counts = _finite(record.boxes), ~record.crowd
    overlap = np.triu(box_math.pairwise_iou(boxes, boxes), k=1)
    pairs: dict[int, int] = {}
    for first, second in np.argwhere((overlap >= TWICE) & counts[:, None] & counts[None]).tolist():
        same = record.labels[first] == record.labels[second]
        if second not in pairs or (same and record.labels[pairs[second]] != record.labels[second]):
            pairs[second] = first
    return [(first, second) for second, first in pairs.items()]


def split_problems(splits: Mapping[str, DataSet]) -> Iterator[Problem]:
    """Classes that have too few boxes, and splits that differ from the first one, which is learnt from."""
    for split, dataset in splits.items():
        empty = sum(len(record.boxes) == 0 for record in dataset.records)
        if not len(dataset) or (empty == len(dataset) >= NOTHING):
            pictures = "no picture" if not empty else f"{plural(empty, 'picture')} and no box at all"
            where = "" if split == "all" else f"split '{split}' has "
            yield Problem(dataset.source, f"{where or 'has '}{pictures}; are annotations missing?", "empty-split")
        elif empty > EMPTY * len(dataset):
            what = f"{empty} of {len(dataset)} pictures have no box; are annotations missing?"
            yield Problem(dataset.source, what, "many-empty")
    counts = {split: _counts(dataset) for split, dataset in splits.items()}
    (first, learnt), *others = counts.items()
    if first in ("train", "all"):
        few = {name: count for name, count in learnt.items() if 0 < count < LEARN}
        if few:
            what = f"few boxes to learn from: {_listed(few)}; expected {LEARN} at least, better hundreds"
            yield Problem(splits[first].source, what, "few-to-learn")
    for split, own in others:
        source = splits[split].source
        if absent := [name for name, count in learnt.items() if count and not own.get(name)]:
            what = f"split '{split}' has no box of {listed(absent, 10)}, so nothing tells how well these are found"
            yield Problem(source, what, "not-measured")
        if strange := [name for name, count in own.items() if count and not learnt.get(name)]:
            what = (
                f"split '{split}' has boxes of {listed(strange, 10)}, of which split '{first}' has none to learn from"
            )
            yield Problem(source, what, "not-learnt")
        few = {name: count for name, count in own.items() if 0 < count < MEASURE and learnt.get(name)}
        if few:
            yield Problem(source, f"few boxes to measure on in split '{split}': {_listed(few)}", "few-to-measure")
        yield from _other_shares(first, learnt, split, own, source)
        yield from _other_sizes(splits[first], splits[split], first, split)
        yield from _other_sources(splits[first], splits[split], first, split)


def _counts(dataset: DataSet) -> dict[str, int]:
    labels = [record.labels[~record.crowd] for record in dataset.records]
    found = np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(dataset.names))
    return dict(zip(dataset.names, found.tolist(), strict=True))


def _listed(counts: Mapping[str, int]) -> str:
    return listed([f"{name} ({count})" for name, count in counts.items()], 10)


def _other_shares(
    first: str, learnt: Mapping[str, int], split: str, own: Mapping[str, int], source: str
) -> Iterator[Problem]:
    totals = max(1, sum(learnt.values())), max(1, sum(own.values()))
    for name, count in own.items():
        shares = learnt.get(name, 0) / totals[0], count / totals[1]
        if not min(shares):
            continue
        pooled = (learnt[name] + count) / sum(totals)
        deviation = (pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1])) ** 0.5
        if max(shares) > OTHER_SHARE * min(shares) and abs(shares[0] - shares[1]) > SURE * deviation:
            what = (
                f"'{name}' makes {shares[1]:.1%} of the boxes in split '{split}', but {shares[0]:.1%} in split "
                f"'{first}': was the data split at random?"
            )
            yield Problem(source, what, "split-skew")


def _other_sizes(learnt: DataSet, other: DataSet, first: str, split: str) -> Iterator[Problem]:
    medians = []
    for dataset in (learnt, other):
        sizes = [max(r.width, r.height) for r in dataset.records if r.width is not None and r.height is not None]
        if not sizes:
            return
        medians.append(float(np.median(sizes)))
    if max(medians) > OTHER_SIZE * min(medians):
        what = (
            f"pictures have {medians[1]:.0f} pixels in their longer side in split '{split}', but {medians[0]:.0f} in "
            f"split '{first}' (medians): objects will have other sizes than those learnt"
        )
        yield Problem(other.source, what, "split-skew")


def _other_sources(learnt: DataSet, other: DataSet, first: str, split: str) -> Iterator[Problem]:
    """Pictures of another source than any that is learnt from, as far as file names tell sources apart.

    They do where both splits have pictures of one: names of a split's own, as in val_0001.jpg, say nothing.
    """
    known = {_source(record) for record in learnt.records}
    own = Counter(_source(record) for record in other.records)
    if not known & own.keys():
        return
    for name, count in own.items():
        if name not in known and count >= max(SOURCE, SOURCE_SHARE * len(other)):
            what = (
                f"{count} of {len(other)} pictures in split '{split}' are called '{name}', as none in split '{first}': "
                "they seem to come from another source than those learnt"
            )
            yield Problem(other.source, what, "split-skew")


def _source(record: Record) -> str:
    """A picture's name without its last number: cam2_0017.jpg is of cam2_#; what begins with a number, of #."""
    return "#" if record.path.stem[:1].isdigit() else re.sub(r"\d+(?!.*\d)", "#", record.path.stem)
