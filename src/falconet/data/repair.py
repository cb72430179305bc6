"""What a repaired copy of a data set has: which pictures, which boxes with which corners and classes.

Repaired is only what nobody can want otherwise. What needs a look at the picture or a decision (two classes of one
box, dark pictures, classes with few boxes, ...) is left as it is; `falconet.data.criteria` says which is which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core import boxes as box_math
from falconet.core.errors import DataError
from falconet.core.terminal import one_line
from falconet.core.types import Floats, Ints, Record
from falconet.data.box_form import believed_form, read_in_form
from falconet.data.check import equal_boxes
from falconet.data.dataset import DataSet, Problem
from falconet.data.exif_boxes import turned_boxes, upright_boxes
from falconet.data.records import box_problems, file_kind, sizes_of_files
from falconet.data.repair_classes import Classes, repaired_classes
from falconet.data.skew import drawn_twice

MOST = 0.5
"""Share of a split's pictures, or boxes, that a copy may lack; where it would lack more, something else is wrong."""

_INSIDE = 0.98
"""Share of the boxes that must lie in their pictures when they are read in another form."""

_YOLO = frozenset({"yolo", "darknet", "labelimg"})

READ_WITHOUT = {
    "bad-annotation": "not copied",
    "unknown-image": "not copied",
    "missing-file": "not copied",
    "duplicate-file": "listed once",
    "duplicate-annotation-id": "got a new id",
    "orphan-label": "not copied",
    "unused-files": "not copied",
    "other-path": "file names are those of the copy",
    "no-size": "written",
    "no-file-name": "written",
}
"""Kinds that readers report and a copy does not have, and what becomes of them."""


class Repair(NamedTuple):
    """One thing that was done."""

    kind: str
    """of the problem that is gone, one of `falconet.data.kinds.KINDS`."""
    where: str
    """file with line or id, in the original."""
    what: str
    """what was wrong, and what was done."""

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what}")


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture of the copy.

    Attributes:
        record: as it was read.
        boxes: [G, 4] xyxy in pixels of the picture as displayed, repaired.
        labels: [G] index into the names of the copy.
        keep: [G] boxes that the copy has.
        changed: [G] boxes whose corners are others than in the original.
        size: (height, width) that the annotation should say; None leaves what it says.
        turned: boxes were turned with the picture's EXIF orientation.
    """

    record: Record
    boxes: Floats
    labels: Ints
    keep: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    size: tuple[int, int] | None = None
    turned: bool = False

    @property
    def remaining(self) -> Record:
        """What the copy's record will be."""
        return replace(self.record, boxes=self.boxes, labels=self.labels).take(self.keep)


@dataclass(frozen=True, slots=True)
class Repaired:
    """A split of the copy.

    Attributes:
        dataset: as it was read.
        classes: those of the copy.
        pictures: those of the copy.
        reread: whether the numbers of all boxes are written anew, as they were in another form.
    """

    dataset: DataSet
    classes: Classes
    pictures: list[Kept]
    reread: bool = False

    @property
    def paths(self) -> list[Path]:
        """Files of the pictures."""
        return [one.record.path for one in self.pictures]


def repair(splits: Mapping[str, DataSet], problems: Sequence[Problem]) -> tuple[dict[str, Repaired], list[Repair]]:
    """What a copy of the splits should have, and what is done for it; pictures that occur twice are still in it.

    Args:
        problems: of all splits, from `falconet.data.check.check_splits`, which also knows the pictures that cannot be
            decoded.

    Raises:
        DataError: more than half of a split would be gone, or the boxes cannot be converted.
    """
    done: list[Repair] = []
    shifted = _shifted(splits)
    classes = repaired_classes(shifted)
    done += [Repair(kind, where, what) for kind, where, what in classes.changes]
    broken = {(problem.where, problem.picture) for problem in problems if problem.kind == "broken-file"}
    repaired = {}
    for split, dataset in shifted.items():
        done += [
            Repair(one.kind, one.where, _with(one.what, READ_WITHOUT[one.kind]))
            for one in dataset.problems
            if one.kind in READ_WITHOUT
        ]
        done += [
            Repair(one.kind, one.where, f"{one.what} (ids count as those of the list now)")
            for one in splits[split].problems
            if one.kind == "shifted-ids"
        ]
        repaired[split] = _repair_split(split, dataset, classes, broken, done)
    return repaired, done


def _with(what: str, done: str) -> str:
    """What was wrong and what was done, which some readers have said already."""
    return what if "left out" in what.lower() else f"{what} ({done})"


def _shifted(splits: Mapping[str, DataSet]) -> dict[str, DataSet]:
    """The splits; of YOLO, where the ids of one count from 1, those of the others are taken so, too."""
    told = {split for split, one in splits.items() if any(problem.kind == "shifted-ids" for problem in one.problems)}
    result = dict(splits)
    for split, dataset in splits.items():
        if not told or split in told or dataset.format not in _YOLO:
            continue
        if any((record.labels == 0).any() for record in dataset.records):
            raise DataError(
                f"{dataset.source}: the class ids of split '{split}' count from 0, those of {', '.join(sorted(told))} "
                "seem to count from 1; correct one of both, or add the class that the list of names lacks"
            )
        result[split] = replace(
            dataset, records=tuple(replace(record, labels=record.labels - 1) for record in dataset.records)
        )
    return result


def _repair_split(
    split: str, dataset: DataSet, classes: Classes, broken: set[tuple[str, str | None]], done: list[Repair]
) -> Repaired:
    sizes = [
        DataError(f"{record.path}: cannot be decoded") if (record.source, str(record.path)) in broken else size
        for record, size in zip(dataset.records, sizes_of_files(dataset.records), strict=True)
    ]
    converted = _in_own_form(dataset, sizes, done)
    turned = turned_boxes(converted, sizes)
    if turned is not None:
        what = f"the boxes of {len(turned.orientations)} pictures did not follow their EXIF rotation (turned)"
        done.append(Repair("exif-boxes", dataset.source, what))
    pictures = []
    for place, (record, moved, size) in enumerate(zip(dataset.records, converted.records, sizes, strict=True)):
        if isinstance(size, DataError):
            what = f"{size} (picture left out, with {len(record.boxes)} boxes)"
            done.append(Repair(file_kind(record), record.source, what))
            continue
        turn = 1 if turned is None else turned.orientations.get(place, 1)
        boxes = moved.boxes if turn == 1 else upright_boxes(moved.boxes, turn, size[::-1] if turn >= 5 else size)
        changed = np.full(len(boxes), turn != 1 or converted is not dataset)
        kept = Kept(
            record,
            boxes,
            classes.to_new(dataset.names)[record.labels],
            np.ones(len(boxes), np.bool_),
            changed,
            size=_corrected_size(dataset, record, size, turn, done),
            turned=turn != 1,
        )
        pictures.append(_repair_boxes(dataset, kept, size, done))
    _refuse_most(split, dataset, pictures)
    for kept in pictures:
        _once(dataset, kept, done)
    return Repaired(dataset, classes, pictures, reread=converted is not dataset)


def _in_own_form(dataset: DataSet, sizes: Sequence[tuple[int, int] | DataError], done: list[Repair]) -> DataSet:
    """The data set, its boxes read in the form they seem to have."""
    believed = believed_form(dataset)
    if believed is None:
        return dataset
    records, count, inside = [], 0, 0
    for record, size in zip(dataset.records, sizes, strict=True):
        if isinstance(size, DataError):
            records.append(record)
            continue
        sized = replace(record, height=size[0], width=size[1])
        records.append(replace(sized, boxes=read_in_form(sized, dataset.format, believed.form)))
        corners, limit = records[-1].boxes, np.array([size[1], size[0]])
        possible = (corners[:, :2] >= -1) & (corners[:, 2:] <= limit + 1) & (corners[:, :2] < corners[:, 2:])
        count += len(corners)
        inside += int(possible.all(1).sum())
    if inside < _INSIDE * count:
        raise DataError(
            f"{dataset.source}: {believed.what}, but only {inside} of {count} boxes lie in their pictures then; "
            "nothing is written, as it cannot be told what they are. Convert them with the tool that wrote them"
        )
    done.append(Repair("box-form", dataset.source, f"{believed.what} (converted: {count} boxes)"))
    return dataset.with_records(records)


def _corrected_size(
    dataset: DataSet, record: Record, size: tuple[int, int], turn: int, done: list[Repair]
) -> tuple[int, int] | None:
    """The size to write: where the annotation has none or a wrong one, and no box depends on it."""
    if record.width is None or record.height is None:
        if dataset.format == "voc":  # told of all files together
            return size
        told = next((one for one in dataset.problems if (one.kind, one.where) == ("wrong-size", record.source)), None)
        if told is not None:
            done.append(Repair("wrong-size", record.source, f"{told.what} ({size[1]} x {size[0]} is written)"))
        return size if told is not None else None
    if (record.height, record.width) == size or (len(record.boxes) and turn == 1):
        return None
    told_size = f"is annotated as {record.width} x {record.height} pixels"
    what = f"{record.path.name} {told_size} (corrected: {size[1]} x {size[0]})"
    done.append(Repair("wrong-size", record.source, what))
    return size


def _repair_boxes(dataset: DataSet, kept: Kept, size: tuple[int, int], done: list[Repair]) -> Kept:
    """Without boxes that cannot be learnt from, and with those that reach out of the picture cut."""
    record, boxes = kept.record, np.array(kept.boxes)
    keep, changed = kept.keep.copy(), kept.changed.copy()
    known = record.width is None or kept.size is not None or (record.height, record.width) == size
    moved = replace(record, boxes=boxes, labels=kept.labels, height=size[0], width=size[1])
    while True:
        found = [(index, one) for index, one in box_problems(dataset, moved) if keep[index]]
        if not known:  # the boxes may belong to a picture of another size
            found = [(index, one) for index, one in found if one.kind != "out-of-image"]
        for index, problem in found:
            cut = " partly " in problem.what
            if cut:
                boxes[index] = box_math.clip(boxes[index : index + 1], height=size[0], width=size[1])[0]
                changed[index] = True
            else:
                keep[index] = False
            what = f"{problem.what} ({'cut to it' if cut else 'box taken out'})"
            done.append(Repair(problem.kind, problem.where, what))
        if not found:
            break
        moved = replace(moved, boxes=boxes)
    return replace(kept, boxes=boxes, keep=keep, changed=changed)


def _once(dataset: DataSet, kept: Kept, done: list[Repair]) -> None:
    """Take boxes out of `kept.keep` that an object has beside its first one; what is no crowd comes first."""
    record, keep = kept.record, kept.keep
    order = np.array(sorted(np.flatnonzero(keep).tolist(), key=lambda index: bool(record.crowd[index])), np.int64)
    for kind, pairs in (("duplicate-box", equal_boxes), ("drawn-twice", drawn_twice)):
        order = order[keep[order]]
        taken = replace(
            record, boxes=kept.boxes[order], labels=kept.labels[order], crowd=record.crowd[order], areas=None,
            box_keys=(),
        )  # fmt: skip
        gone: set[int] = set()
        for first, second in pairs(taken):
            if taken.labels[first] != taken.labels[second] or first in gone:
                continue
            gone.add(second)
            index, original = int(order[second]), int(order[first])
            keep[index] = False
            first_place = dataset.box_source(record, original)
            what = f"image {record.path.name} has this object twice, first at {first_place} (box taken out)"
            done.append(Repair(kind, dataset.box_source(record, index), what))


def _refuse_most(split: str, dataset: DataSet, pictures: Sequence[Kept]) -> None:
    """Raise DataError where so little is left that something else must be wrong."""
    before = sum(len(one.record.boxes) for one in pictures)
    after = sum(int(one.keep.sum()) for one in pictures)
    lost = next((one for one in dataset.problems if one.kind == "bad-annotation"), None)
    bad = sum(one.kind == "bad-annotation" for one in dataset.problems)
    advice = (
        "nothing is written; 'falconet data check' lists what is wrong, which needs to be mended where it comes from"
    )
    if len(pictures) < (1 - MOST) * len(dataset):
        raise DataError(
            f"{dataset.source}: {len(dataset) - len(pictures)} of {len(dataset)} pictures of split '{split}' cannot be "
            f"read; {advice}. Where the pictures lie elsewhere, say so with --images"
        )
    if after < (1 - MOST) * before:
        raise DataError(f"{dataset.source}: {before - after} of {before} boxes of split '{split}' would go; {advice}")
    if lost is not None and bad > max(before, len(dataset)):
        raise DataError(f"{dataset.source}: {bad} annotations of split '{split}' cannot be read ({lost}); {advice}")
