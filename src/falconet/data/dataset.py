"""A data set in memory: class names and records without pixels, and what is wrong with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from falconet.core.errors import DataError
from falconet.core.files import regular
from falconet.core.manifest import check_names
from falconet.core.terminal import one_line
from falconet.core.types import Record
from falconet.data.columns import LazyRecords, columns, relabelled

Format = Literal[
    "coco",
    "voc",
    "yolo",
    "darknet",
    "labelimg",
    "label-studio",
    "labelme",
    "createml",
    "csv",
    "open-images",
    "shards",
]
"""What a data set may be written in; `falconet.data.formats` has a row for each."""

Written = Literal["coco", "voc", "yolo"]
"""What `falconet.data.convert` writes."""


class Problem(NamedTuple):
    """One thing that is wrong with a data set.

    Attributes:
        where: file with line or id.
        what: what is wrong and what was expected.
        kind: one of `falconet.data.kinds.KINDS`.
        picture: the file of the picture it is about.
        boxes: x1, y1, x2, y2 in pixels of that picture: the box it is about, then those it is held against.
        other: another picture that `picture` is held against.
    """

    where: str
    what: str
    kind: str
    picture: str | None = None
    boxes: tuple[tuple[float, ...], ...] = ()
    other: str | None = None

    @classmethod
    def of_picture(cls, record: Record, what: str, kind: str, *, other: Record | None = None) -> "Problem":
        """That of a whole picture, on its own or beside another one."""
        beside = None if other is None else str(other.path)
        return cls(record.source, what, kind, str(record.path), (), beside)

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what}")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, or one split of it.

    Attributes:
        names: class names; a label indexes them.
        records: one per picture; pictures without boxes are part of it. Those of a large file are built when they are
            asked for, see `falconet.data.columns`.
        source: the annotation file or folder, for messages.
        format: how `source` is written; None for one that was made in memory or of folders.
        problems: what the reader had to leave out, each with its place.
        key_word: what a box is called in `source`, as in "annotation"; empty where `box_keys` are lines.

    Raises:
        DataError: a class name that is no single line of text.
    """

    names: tuple[str, ...]
    records: Sequence[Record]
    source: str
    format: Format | None = None
    problems: tuple[Problem, ...] = ()
    key_word: str = ""

    def __post_init__(self) -> None:
        try:
            check_names(self.names)
        except ValueError as error:
            raise DataError(f"{self.source}: {error}; rename the class") from error

    def __len__(self) -> int:
        return len(self.records)

    def refuse_same_names(self) -> None:
        """Raise DataError where two classes have the same name: nobody could tell what was learnt or found."""
        for name, count in Counter(self.names).items():
            if count > 1:
                raise DataError(
                    f"{self.source}: {count} classes are called '{name}'; give them different names, or their boxes "
                    "the same class"
                )

    def with_records(self, records: Sequence[Record]) -> "DataSet":
        """The same data set with other records and no problems."""
        kept = records if isinstance(records, LazyRecords) else tuple(records)
        return replace(self, records=kept, problems=())

    def only(self, names: Sequence[str]) -> tuple["DataSet", int]:
        """The same pictures with the boxes of these classes alone, labelled in this order; how many boxes went.

        Args:
            names: some of the data set's names, or all of them.
        """
        to_new = np.full(len(self.names), -1, np.int64)
        to_new[[self.names.index(name) for name in names]] = np.arange(len(names))
        chosen = relabelled(self.records, to_new)
        gone = sum(len(block.labels) for block in columns(self.records))
        gone -= sum(len(block.labels) for block in columns(chosen))
        return replace(self, names=tuple(names), records=chosen), gone

    def box_source(self, record: Record, index: int) -> str:
        """Where box `index` of `record` is written: "a.json (annotation 7)", "a.xml:23", "a.txt:2"."""
        if not record.box_keys:
            return f"{record.source}, box {index}"
        key = record.box_keys[index]
        if not self.key_word:
            return f"{record.source}:{key}"
        # A record's source is "a.json", or "a.json (image 7)" where one file describes many pictures.
        behind = record.source.lower().find(".json (")
        file = record.source if behind < 0 else record.source[: behind + len(".json")]
        return f"{file} ({self.key_word} {key})"

    def box_problem(self, record: Record, what: str, kind: str, *indices: int) -> Problem:
        """That of a box of `record`, and of others that it is held against; boxes that are not finite have no place."""
        corners = [tuple(record.boxes[index].tolist()) for index in indices]
        boxes = tuple(box for box in corners if np.isfinite(box).all())
        return Problem(self.box_source(record, indices[0]), what, kind, str(record.path), boxes)


def read_text(path: Path, *, limit: int | None = None) -> str:
    """The text of an annotation file (UTF-8, a byte-order mark is skipped).

    Raises:
        DataError: missing, unreadable, not UTF-8 or larger than `limit` bytes.
    """
    try:
        size = regular(path).stat().st_size
        if limit is not None and size > limit:
            raise DataError(f"{path}: has {size} bytes; an annotation file of this kind has at most {limit}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}); expected an annotation file") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def make_record(
    image_id: int | str,
    path: Path,
    size: tuple[int, int] | None,
    *,
    boxes: list[Any],
    labels: list[int],
    crowd: list[bool],
    areas: list[float] | None = None,
    source: str,
    box_keys: list[int | str],
) -> Record:
    """A record from the lists a reader collects; `size` is (height, width) where known."""
    with np.errstate(over="ignore"):
        # What float32 cannot hold becomes infinite, and is told as such.
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        sizes = None if areas is None else np.array(areas, np.float32)
    return Record(
        image_id=image_id,
        path=path,
        width=None if size is None else size[1],
        height=None if size is None else size[0],
        boxes=corners,
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd, np.bool_),
        areas=sizes,
        source=source,
        box_keys=tuple(box_keys),
    )
