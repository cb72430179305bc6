"""The boxes of all records at once, block by block, however many records there are.

Whoever needs something of every record of a data set (counts of classes, sizes, paths) asks here instead of building
the records one by one: those that lie in a table on disk (`falconet.data.table`) are never all made.
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats, Ints, Record

_LARGEST = 2**62

BLOCK = 1 << 14
"""Records that are looked at together: some megabytes of boxes."""


class Columns(NamedTuple):
    """The boxes of some records in one table.

    Attributes:
        boxes: [N, 4] of all records, one after the other.
        labels: [N] their classes.
        crowd: [N] True where a box marks a crowd.
        starts: [R + 1] where the boxes of each record begin, and the end.
        sizes: [R, 2] (height, width) of the pictures, -1 where unknown.
    """

    boxes: Floats
    labels: Ints
    crowd: NDArray[np.bool_]
    starts: Ints
    sizes: Ints

    @property
    def owners(self) -> Ints:
        """[N] The record of each box, counted from the first one of the block."""
        return np.repeat(np.arange(len(self.sizes)), np.diff(self.starts))

    @property
    def limits(self) -> Floats:
        """[N, 2] Width and height of the picture of each box, infinite where unknown."""
        sides = self.sizes[:, ::-1].astype(np.float32)
        sides[(self.sizes < 0).any(1)] = np.inf
        return np.repeat(sides, np.diff(self.starts), 0)

    def records_with(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[R] The records of which a box is among the `chosen` [N]."""
        before = np.concatenate([[0], np.cumsum(chosen)])
        return np.asarray(before[self.starts[1:]] > before[self.starts[:-1]])


class LazyRecords(Sequence[Record]):
    """Records that are built when they are asked for; none is kept."""

    @abstractmethod
    def record(self, place: int) -> Record:
        """That at 0 <= place < len."""

    @abstractmethod
    def take(self, places: Ints) -> "LazyRecords":
        """Those at the places [R], all >= 0, in their order."""

    @abstractmethod
    def relabelled(self, to_new: Ints) -> "LazyRecords":
        """Those with the labels to_new[label], without boxes where that is below 0."""

    @abstractmethod
    def columns(self) -> Iterator[Columns]:
        """All of them in blocks."""

    @abstractmethod
    def paths(self) -> Iterator[Path]:
        """Their picture files."""

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "LazyRecords": ...
    def __getitem__(self, place: "int | slice") -> "Record | LazyRecords":
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self)), dtype=np.int64))
        index = int(place)
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self.record(index % len(self))


class JoinedRecords(LazyRecords):
    """Several sequences of records, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def record(self, place: int) -> Record:
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]

    def take(self, places: Ints) -> LazyRecords:
        """Neighbours of the same sequence stay together."""
        part = np.searchsorted(self._ends, places, side="right")
        begins = np.flatnonzero(np.diff(part, prepend=-1))
        starts = [0, *self._ends]
        return JoinedRecords(
            [take(self._parts[part[run[0]]], places[run] - starts[part[run[0]]]) for run in _runs(begins, len(places))]
        )

    def relabelled(self, to_new: Ints) -> LazyRecords:
        return JoinedRecords([relabelled(part, to_new) for part in self._parts])

    def columns(self) -> Iterator[Columns]:
        for part in self._parts:
            yield from columns(part)

    def paths(self) -> Iterator[Path]:
        for part in self._parts:
            yield from paths(part)


def columns(records: Sequence[Record]) -> Iterator[Columns]:
    """The boxes of the records in blocks, in order."""
    if isinstance(records, LazyRecords):
        yield from records.columns()
        return
    for start in range(0, len(records), BLOCK):
        yield _joined(records[start : start + BLOCK])


def paths(records: Sequence[Record]) -> Iterator[Path]:
    """The picture file of each record."""
    return records.paths() if isinstance(records, LazyRecords) else (record.path for record in records)


def take(records: Sequence[Record], places: Ints) -> Sequence[Record]:
    """The records at the places [R], in their order."""
    if isinstance(records, LazyRecords):
        return records.take(places)
    return tuple(records[place] for place in places.tolist())


def relabelled(records: Sequence[Record], to_new: Ints) -> Sequence[Record]:
    """The records with the labels to_new[label], without boxes where that is below 0."""
    if isinstance(records, LazyRecords):
        return records.relabelled(to_new)
    return tuple(_relabelled(record, to_new) for record in records)


def joined(parts: Sequence[Sequence[Record]]) -> Sequence[Record]:
    """The sequences one after the other; a tuple, unless one of them is lazy."""
    if any(isinstance(part, LazyRecords) for part in parts):
        return JoinedRecords([part for part in parts if len(part)])
    return tuple(record for part in parts for record in part)


def class_counts(records: Sequence[Record], count: int) -> tuple[Ints, Ints]:
    """([C] boxes of each class, [C] those of them that are crowds)."""
    every, crowds = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for block in columns(records):
        every += np.bincount(block.labels, minlength=count)
        crowds += np.bincount(block.labels[block.crowd], minlength=count)
    return every, crowds


def classes_of(records: Sequence[Record]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(picture, class) for each class that a picture shows in boxes that count, both [N]; -1 for a picture without.

    Pictures ascend, and classes within a picture.
    """
    found: list[NDArray[np.int32]] = []
    done = 0
    for block in columns(records):
        counted = ~block.crowd
        empty = np.flatnonzero(~block.records_with(counted))
        own = np.concatenate([block.owners[counted], empty])
        labels = np.concatenate([block.labels[counted], np.full(len(empty), -1)])
        base = int(labels.max(initial=0)) + 2
        pairs = np.unique(own * base + labels + 1)
        found.append(np.stack([pairs // base + done, pairs % base - 1]).astype(np.int32))
        done += len(block.sizes)
    every = np.concatenate([np.zeros((2, 0), np.int32), *found], 1)
    return every[0], every[1]


def _joined(records: Sequence[Record]) -> Columns:
    lengths = np.array([len(record.boxes) for record in records], np.int64)
    known = [record.height is not None and record.width is not None for record in records]
    sizes = [(record.height, record.width) if one else (-1, -1) for record, one in zip(records, known, strict=True)]
    try:
        sides = np.array(sizes, np.int64).reshape(-1, 2)
    except OverflowError:  # as an annotation may claim; no picture is as large
        sides = np.array([[min(side, _LARGEST) for side in one] for one in sizes], np.int64).reshape(-1, 2)  # type: ignore[type-var]
    return Columns(
        np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)]),
        np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)]),
        np.concatenate([np.zeros(0, np.bool_), *(record.crowd for record in records)]),
        np.concatenate([[0], np.cumsum(lengths)]),
        sides,
    )


def _relabelled(record: Record, to_new: Ints) -> Record:
    labels = to_new[record.labels]
    return replace(record.take(labels >= 0), labels=labels[labels >= 0])


def _runs(begins: Ints, count: int) -> Iterator[NDArray[np.int64]]:
    ends = [*begins[1:].tolist(), count]
    for begin, end in zip(begins.tolist(), ends, strict=True):
        yield np.arange(begin, end)


def in_blocks(records: Sequence[Record], size: int) -> Iterator[list[Record]]:
    """The records in lists of `size`, made one list at a time."""
    every = iter(records)
    while block := list(islice(every, size)):
        yield block
