"""Image folders: a folder per class, pictures inside. The data of classifiers.

A picture of a class is a record with one box of that class: the whole picture. So all that knows records (loader,
batches, evaluation) knows these as well.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.images import is_any_picture, is_picture
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem
from falconet.data.listing import files_in, unused, walk
from falconet.data.records import file_kind, sizes_of_files

_EXPECTED = (
    "expected a folder that holds one folder of pictures per class, as in FOLDER/apple/1.jpg ('falconet data crops' "
    "makes one of pictures with boxes)"
)


def open_image_folder(folder: Path) -> tuple[DataSet, list[Problem]]:
    """The pictures of each class, and what was left out, with why.

    Only the header and the end of each picture are read. Class names are the names of the folders, sorted (numbers
    by their value); folders inside a class's folder belong to that class. Hidden files and folders do not count; what
    is no picture is counted and named.

    Raises:
        DataError: not a folder of folders, or no picture can be used.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; {_EXPECTED}")
    problems = [
        Problem(str(path), "lies outside the classes' folders (left out)", "no-class")
        for path in files_in(folder)
        if is_any_picture(path)
    ]
    classes = sorted((path for path in folder.iterdir() if _is_class(path)), key=lambda path: natural(path.name))
    if not classes:
        raise DataError(f"{folder}: holds no folders; {_EXPECTED}")
    records: list[Record] = []
    rest: list[Path] = []
    for label, path in enumerate(classes):
        files = walk(path)
        pictures = [file for file in files if is_picture(file)]
        rest += [file for file in files if not is_picture(file)]
        if not pictures:
            problems.append(Problem(str(path), "holds no picture of this class", "unused-class"))
        records += [_record(picture, label) for picture in pictures]
    problems += unused(folder, rest)
    kept = []
    for record, size in zip(records, sizes_of_files(records), strict=True):
        if isinstance(size, DataError):
            problems.append(Problem.of_picture(record, f"{size} (left out)", file_kind(record)))
            continue
        height, width = size
        kept.append(replace(record, height=height, width=width, boxes=np.array([[0, 0, width, height]], np.float32)))
    if not kept:
        why = f"; the first problem: {problems[0]}" if problems else ""
        raise DataError(f"{folder}: no usable picture in the folders {_some(classes)}{why}; {_EXPECTED}")
    names = tuple(path.name for path in classes)
    return DataSet(names, tuple(kept), str(folder)), problems


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts "2" before "10", and numbers before letters."""
    return [(int(part), "") if part.isdecimal() else (10**18, part) for part in re.split(r"([0-9]+)", name) if part]


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _record(path: Path, label: int) -> Record:
    return Record(
        image_id=str(path),
        path=path,
        width=None,
        height=None,
        boxes=np.zeros((1, 4), np.float32),
        labels=np.array([label], np.int64),
        crowd=np.zeros(1, np.bool_),
        source=str(path),
    )


def _some(classes: list[Path]) -> str:
    return ", ".join(path.name for path in classes[:5]) + (", ..." if len(classes) > 5 else "")
