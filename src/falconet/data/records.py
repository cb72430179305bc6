"""What of a data set can be used."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from falconet.core import boxes as box_math
from falconet.core.errors import DataError
from falconet.core.figures import duration
from falconet.core.files import exists
from falconet.core.images import check_complete
from falconet.core.types import Floats, Ints, Record
from falconet.data.box_form import crowd_problems, form_problems
from falconet.data.columns import BLOCK, paths
from falconet.data.dataset import DataSet, Problem
from falconet.data.exif_boxes import Size, exif_problems
from falconet.data.shard_samples import checked_size
from falconet.data.table import TableRecords
from falconet.data.usable_boxes import fractions, suspects

SHOWN = 1000
"""Pictures of a table whose problems are listed one by one."""

EVERY = 15.0
"""Seconds between lines that tell how many files of a table have been looked at."""

_THREADS = 8

_log = logging.getLogger(__name__)


def drop_invalid(dataset: DataSet) -> tuple[DataSet, list[Problem]]:
    """What training and evaluation can use of a data set, and everything left out or changed, with why.

    Left out are pictures that are missing, truncated or no pictures (seen from header and end of the file, in a
    fraction of a millisecond each; damage in the middle shows only when decoding, see `falconet data check`), and
    boxes that are not finite, have no area, are fractions or lie wholly outside. Boxes partly outside are cut to the
    picture. A picture that loses its boxes stays, as a picture without boxes. Sizes in the records are those of the
    files.

    Raises:
        DataError: nothing usable is left, or the boxes seem to be written in another form than the format's, or their
            class ids to count from another number than the list of classes.
    """
    shifted = (problem for problem in dataset.problems if problem.kind == "shifted-ids")
    for problem in (*form_problems(dataset), *shifted):
        raise DataError(f"{problem}. 'falconet data check PATH --fix FOLDER' writes a repaired copy")
    if isinstance(dataset.records, TableRecords):
        return _drop_from_table(dataset, dataset.records)
    sizes = sizes_of_files(dataset.records)
    problems = [*dataset.problems, *exif_problems(dataset, sizes), *crowd_problems(dataset)]
    records: list[Record] = []
    for record, size in zip(dataset.records, sizes, strict=True):
        found, kept = _usable(dataset, record, size)
        problems += found
        if kept is not None:
            records.append(kept)
    _refuse_none(dataset, records, problems)
    return dataset.with_records(records), problems


def _usable(dataset: DataSet, record: Record, size: Size | DataError) -> tuple[list[Problem], Record | None]:
    """What is wrong with a record whose picture has this size, and what of it can be used."""
    if isinstance(size, DataError):
        return [Problem.of_picture(record, f"{size} (picture left out)", file_kind(record))], None
    sized = replace(record, height=size[0], width=size[1])
    problems, kept = _usable_boxes(dataset, sized)
    return size_problems(record, size) + problems, kept


def _refuse_none(dataset: DataSet, records: Sequence[Record], problems: Sequence[Problem]) -> None:
    if not records:
        why = f"; the first problem: {problems[0]}" if problems else ""
        raise DataError(f"{dataset.source}: no usable picture{why}. 'falconet data check' lists all problems")


def _drop_from_table(dataset: DataSet, records: TableRecords) -> tuple[DataSet, list[Problem]]:
    """`drop_invalid` for records that are never all made: those alone that have a problem are looked at one by one,
    and of more than `SHOWN` of these the number is told."""
    sizes = SizesOfFiles(records)
    problems = [*dataset.problems, *exif_problems(dataset, sizes), *crowd_problems(dataset)]
    wrong = np.flatnonzero(np.concatenate([np.zeros(0, np.bool_), *_wrong(records, sizes)]))
    for place in wrong[:SHOWN].tolist():
        problems += _usable(dataset, records[place], sizes[place])[0]
    if len(wrong) > SHOWN:
        what = f"{len(wrong) - SHOWN} more pictures have problems with their file, size or boxes; these are not listed"
        problems.append(Problem(dataset.source, what, "bad-annotation"))
    kept = records.cut_to(sizes.table).take(np.flatnonzero(sizes.readable))
    _refuse_none(dataset, kept, problems)
    return dataset.with_records(kept), problems


def _wrong(records: TableRecords, sizes: "SizesOfFiles") -> Iterator[NDArray[np.bool_]]:
    """For each block [R] the records of which `_usable` tells a problem."""
    done = 0
    for block in records.columns():
        own = sizes.table[sizes.rows[done : done + len(block.sizes)]]
        readable = (own >= 0).all(1)
        changed = (block.sizes >= 0).all(1) & (block.sizes != own).any(1)
        odd = block.records_with(suspects(block.boxes, block._replace(sizes=own.astype(np.int64)).limits))
        yield ~readable | changed | odd
        done += len(block.sizes)


class SizesOfFiles(Sequence[Size | DataError]):
    """What `sizes_of_files` returns, for the records of a table and without an object for each.

    Attributes:
        rows: [R] the rows of the records in their table.
        table: [T, 2] (height, width) by row, -1 where the picture cannot be read, or was not asked for.
    """

    def __init__(self, records: TableRecords) -> None:
        self._records = records
        self.rows = records.rows
        self.table = np.full((len(records.table), 2), -1, np.int32)
        started = told = time.monotonic()
        done = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            every = records.paths()
            while block := list(islice(every, BLOCK)):
                for place, size in enumerate(pool.map(_size_or_none, block, chunksize=64)):
                    if size is not None:
                        self.table[self.rows[done + place]] = size
                done += len(block)
                if (now := time.monotonic()) - told >= EVERY:
                    told = now
                    left = duration((now - started) / done * (len(records) - done))
                    _log.info("looked at %d of %d picture files, about %s left", done, len(records), left)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """[R] Whether each picture can be read."""
        return np.asarray((self.table[self.rows] >= 0).all(1))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Size | DataError: ...
    @overload
    def __getitem__(self, place: slice) -> list[Size | DataError]: ...
    def __getitem__(self, place: int | slice) -> Size | DataError | list[Size | DataError]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        height, width = self.table[self.rows[place]].tolist()
        return (height, width) if height >= 0 else _size_of_file(self._records[place].path)


def sizes_of_files(records: Sequence[Record]) -> list[tuple[int, int] | DataError]:
    """(height, width) of each picture as displayed after the cheap check of its file, or what is wrong with it."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_size_of_file, paths(records)))


def file_kind(record: Record) -> str:
    """The kind of problem a picture file has that cannot be read."""
    return "broken-file" if exists(record.path) else "missing-file"


def size_problems(record: Record, size: tuple[int, int]) -> list[Problem]:
    """The difference between the annotated size and the file's (height, width) as displayed, if any."""
    if record.height is None or record.width is None or (record.height, record.width) == size:
        return []
    hint = "boxes may belong to another version of the picture"
    if (record.width, record.height) == size:
        hint = "the sides are swapped: boxes may belong to the picture before its EXIF rotation"
    what = f"{record.path.name} is annotated as {record.width} x {record.height} pixels, the file has "
    return [Problem.of_picture(record, f"{what}{size[1]} x {size[0]}; {hint}", "wrong-size")]


class Joined(NamedTuple):
    """The boxes of many records in one table: NumPy is slow on a few boxes at a time.

    Attributes:
        boxes: [N, 4] of all records, one after the other.
        limits: [N, 2] width and height of their pictures as annotated, infinite where unknown.
        starts: [R + 1] where the boxes of each record begin, and the end.
    """

    boxes: Floats
    limits: Floats
    starts: Ints

    def records_with(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[R] The records of which a box is among the `chosen` [N]."""
        before = np.concatenate([[0], np.cumsum(chosen)])
        return np.asarray(before[self.starts[1:]] > before[self.starts[:-1]])


def joined(records: Sequence[Record]) -> Joined:
    """The boxes of all `records`."""
    lengths = np.array([len(record.boxes) for record in records], np.int64)
    sides = np.array([_sides(record) for record in records], np.float32).reshape(-1, 2)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)])
    return Joined(boxes, np.repeat(sides, lengths, 0), np.concatenate([[0], np.cumsum(lengths)]))


def with_box_problems(records: Sequence[Record]) -> NDArray[np.bool_]:
    """[R] The records for which `box_problems` has any."""
    table = joined(records)
    return table.records_with(suspects(table.boxes, table.limits))


def box_problems(dataset: DataSet, record: Record) -> list[tuple[int, Problem]]:
    """(index of the box, problem) for boxes that are not finite, of no area or not inside the picture."""
    found: list[tuple[int, Problem]] = []
    for index in np.flatnonzero(suspects(record.boxes, np.array(_sides(record), np.float32))).tolist():
        kind, what = _what_is_wrong(record, index)
        found.append((index, dataset.box_problem(record, what, kind, index)))
    return found


def _size_of_file(path: Path) -> Size | DataError:
    try:
        # Pictures in shards were looked at when these were counted.
        return checked_size(path) or check_complete(path)
    except DataError as error:
        return error


def _size_or_none(path: Path) -> Size | None:
    size = _size_of_file(path)
    return None if isinstance(size, DataError) else size


def _sides(record: Record) -> tuple[float, float]:
    """(width, height) as annotated, infinite where unknown."""
    known = record.width is not None and record.height is not None
    return (float(record.width or 0), float(record.height or 0)) if known else (np.inf, np.inf)


def _what_is_wrong(record: Record, index: int) -> tuple[str, str]:
    x1, y1, x2, y2 = record.boxes[index].tolist()
    text = f"image {record.path.name} has box [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
    if not np.isfinite(record.boxes[index]).all():
        return "not-finite", f"{text}; expected finite numbers"
    if not (x1 < x2 and y1 < y2):
        return "no-area", f"{text} of no area; expected x1 < x2 and y1 < y2"
    if fractions(record.boxes)[index]:
        return "not-pixels", f"{text} smaller than a pixel; expected pixels, not fractions of the picture"
    size = "" if record.width is None else f" of {record.width} x {record.height} pixels"
    inside = record.width is None or record.height is None or (x1 < record.width and y1 < record.height)
    if inside and x2 > 0 and y2 > 0:
        return "out-of-image", f"{text} partly outside the picture{size}"
    return "out-of-image", f"{text} wholly outside the picture{size}"


def _usable_boxes(dataset: DataSet, record: Record) -> tuple[list[Problem], Record]:
    problems: list[Problem] = []
    keep = np.ones(len(record.boxes), np.bool_)
    for index, problem in box_problems(dataset, record):
        cut = " partly " in problem.what
        keep[index] = cut
        what = f"{problem.what} ({'cut to it' if cut else 'box left out'})"
        problems.append(problem._replace(what=what))
    if not keep.all():
        record = record.take(keep)
    assert record.height is not None
    assert record.width is not None
    return problems, replace(record, boxes=box_math.clip(record.boxes, height=record.height, width=record.width))
