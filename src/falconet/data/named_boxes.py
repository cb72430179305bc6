"""Annotations that call pictures and classes by name: from what a reader collects to a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.images import image_size
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Format, Problem, make_record
from falconet.data.listing import unused_beside

Corners = tuple[float, float, float, float]


@dataclass(slots=True)
class NamedBoxes:
    """What is collected for one picture.

    Attributes:
        source: "file", or "file (image name)" where one file describes many pictures.
        size: (height, width), None where it is not said.
        boxes: x1, y1, x2, y2.
        classes, keys, crowd: one per box; keys are lines, or ids in the file.
    """

    source: str
    size: tuple[int, int] | None = None
    boxes: list[Corners] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    keys: list[int | str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)

    def add(self, corners: Corners, name: str, key: int | str, *, crowd: bool = False) -> None:
        """One more box."""
        self.boxes.append(corners)
        self.classes.append(name)
        self.keys.append(key)
        self.crowd.append(crowd)


def by_path(
    found: Mapping[str, NamedBoxes], paths: Mapping[str, Path], problems: list[Problem]
) -> dict[Path, NamedBoxes]:
    """What was collected by name, by file; of two names that mean one file the second is left out and said."""
    pictures: dict[Path, NamedBoxes] = {}
    for name, boxes in found.items():
        if paths[name] in pictures:
            what = f"'{name}' is {paths[name]}, which has annotations under another name already; left out"
            problems.append(Problem(boxes.source, what, "duplicate-file"))
        else:
            pictures[paths[name]] = boxes
    return pictures


def build(
    path: Path,
    form: Format,
    pictures: Mapping[Path, NamedBoxes],
    names: tuple[str, ...],
    problems: Iterable[Problem],
    *,
    key_word: str = "",
    relative: bool = False,
    used: Iterable[Path] = (),
) -> DataSet:
    """The data set of `pictures`; boxes of classes that are not in `names` are left out and said.

    Args:
        path: the data set's file or folder.
        relative: boxes are fractions of the picture, whose size is read from its header.
        used: files beside the pictures that belong to the data set.

    Raises:
        DataError: there are no pictures.
    """
    found = list(problems)
    if not pictures:
        why = f"; the first problem: {found[0]}" if found else ""
        raise DataError(f"{path}: names no pictures{why}")
    data_set = DataSet(names, (), str(path), form, (), key_word)
    index_of = {name: index for index, name in enumerate(names)}
    records = []
    for picture, boxes in pictures.items():
        record = _record(picture, boxes, index_of, relative=relative)
        known = np.array([name in index_of for name in boxes.classes], np.bool_)
        # A picture that cannot be read has lost its boxes already.
        for index in np.flatnonzero(~known).tolist() if len(record.boxes) else []:
            what = f"class '{boxes.classes[index]}' is not in the list of classes ({', '.join(names)}); left out"
            found.append(data_set.box_problem(record, what, "unknown-class", index))
        records.append(record.take(known) if len(record.boxes) else record)
    everything = {*pictures, *used}
    found += unused_beside({picture.parent for picture in pictures}, everything, path)
    return DataSet(names, tuple(records), str(path), form, tuple(found), key_word)


def _record(picture: Path, found: NamedBoxes, index_of: Mapping[str, int], *, relative: bool) -> Record:
    boxes, size, count = np.array(found.boxes, np.float64).reshape(-1, 4), found.size, len(found.boxes)
    if relative and count:
        try:
            size = image_size(picture)
            boxes = boxes * ([size[1], size[0]] * 2)
        except DataError:
            # Whoever uses or checks the data set reports the picture itself.
            size, boxes, count = None, boxes[:0], 0
    return make_record(
        picture.as_posix(),
        picture,
        size,
        boxes=list(boxes),
        labels=[index_of.get(name, 0) for name in found.classes[:count]],
        crowd=found.crowd[:count],
        source=found.source,
        box_keys=found.keys[:count],
    )
