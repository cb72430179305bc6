"""From pictures with boxes to pictures of classes: one crop per box, in a folder per class."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.files import new_folder
from falconet.core.images import read_image, write_image
from falconet.core.types import Record
from falconet.data.check import Progress
from falconet.data.dataset import DataSet, Problem
from falconet.data.records import drop_invalid, file_kind

_FORBIDDEN = '/\\:*?"<>|'
"""Characters that no folder's name may have on one system or another."""

_LONGEST = 255
"""Bytes of a folder's name."""


@dataclass(frozen=True, slots=True)
class Cropped:
    """What was written of one split.

    Attributes:
        counts: crops by class name, in the order of the data set.
        problems: boxes and pictures that were left out or cut, with why.
    """

    counts: dict[str, int]
    problems: list[Problem]


def write_crops(
    splits: Mapping[str, DataSet],
    out: Path,
    *,
    margin: float = 0.0,
    min_side: int = 8,
    progress: Progress | None = None,
) -> dict[str, Cropped]:
    """Write each box as a picture: `out/CLASS/PICTURE-BOX.jpg`, with several splits `out/SPLIT/CLASS/...`.

    The same data give the same bytes. Every class gets its folder, also one without boxes. Boxes that are broken (see
    `falconet.data.records.usable`), mark a crowd, or have a side below `min_side` are left out.

    Args:
        out: new folder; it appears when it is complete.
        margin: added on each side, share of the box's side; cut at the picture's border.
        min_side: of a box, pixels of the picture.

    Returns:
        For each split, what was written and what was left out.

    Raises:
        DataError: `out` holds files already, class names that are no two folders' names, nothing usable, or a file
            that cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already; crops are written to a new folder")
    done: dict[str, Cropped] = {}
    with new_folder(out) as part:
        for name, dataset in splits.items():
            target = part if len(splits) == 1 else part / name
            done[name] = _write_split(dataset, target, margin=margin, min_side=min_side, progress=progress)
    return done


def folder_names(names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """The folder of each class: its name, where a character no folder may have becomes an underscore.

    Raises:
        DataError: two classes would share a folder, or a name is longer than a folder's.
    """
    table = str.maketrans(dict.fromkeys([*_FORBIDDEN, *map(chr, range(32)), "\x7f"], "_"))
    folders = tuple(name.strip().translate(table).strip(".") or "_" for name in names)
    for name, folder in zip(names, folders, strict=True):
        if len(folder.encode()) > _LONGEST:
            raise DataError(f"{source}: the class {name[:60]!r}... is longer than a folder's name may be; rename it")
    twice = [folder for folder, number in Counter(folder.casefold() for folder in folders).items() if number > 1]
    if twice:
        same = [name for name, folder in zip(names, folders, strict=True) if folder.casefold() == twice[0]]
        raise DataError(f"{source}: the classes {' and '.join(same)} would share one folder; rename one of them")
    return folders


def _write_split(dataset: DataSet, target: Path, *, margin: float, min_side: int, progress: Progress | None) -> Cropped:
    chosen, problems = drop_invalid(dataset)
    folders = folder_names(chosen.names, chosen.source)
    for folder in folders:
        (target / folder).mkdir(parents=True, exist_ok=True)
    counts: Counter[int] = Counter()
    for number, (record, stem) in enumerate(zip(chosen.records, _stems(chosen.records), strict=True), start=1):
        if progress is not None:
            progress(number, len(chosen.records))
        if not len(record.boxes):
            continue
        try:
            image, _ = read_image(record.path)
        except DataError as error:
            problems.append(Problem.of_picture(record, f"{error} (picture left out)", file_kind(record)))
            continue
        for index, box in _boxes(chosen, record, min_side, problems):
            x1, y1, x2, y2 = _widened(box, margin, height=image.shape[0], width=image.shape[1])
            label = int(record.labels[index])
            write_image(target / folders[label] / f"{stem}-{index:03d}.jpg", image[y1:y2, x1:x2])
            counts[label] += 1
    return Cropped({name: counts[label] for label, name in enumerate(chosen.names)}, problems)


def _boxes(
    dataset: DataSet, record: Record, min_side: int, problems: list[Problem]
) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.float32]]]]:
    """(index, box) of those that are large enough and no crowd; the others join the problems."""
    for index, box in enumerate(record.boxes):
        width, height = float(box[2] - box[0]), float(box[3] - box[1])
        if record.crowd[index]:
            problems.append(dataset.box_problem(record, "marks a crowd (box left out)", "no-crop", index))
        elif min(width, height) < min_side:
            what = f"box of {width:.1f} x {height:.1f} pixels; expected sides of {min_side} or more (box left out)"
            problems.append(dataset.box_problem(record, what, "no-crop", index))
        else:
            yield index, box


def _widened(
    box: np.ndarray[tuple[int], np.dtype[np.float32]], margin: float, *, height: int, width: int
) -> tuple[int, int, int, int]:
    """Whole pixels x1, y1, x2, y2 that hold the box and its margin inside the picture."""
    x1, y1, x2, y2 = (float(value) for value in box)
    across, down = margin * (x2 - x1), margin * (y2 - y1)
    return (
        max(0, int(np.floor(x1 - across))),
        max(0, int(np.floor(y1 - down))),
        min(width, int(np.ceil(x2 + across))),
        min(height, int(np.ceil(y2 + down))),
    )


def _stems(records: Sequence[Record]) -> list[str]:
    """A name for each picture: that of its file, with a number where another one has the same."""
    seen: Counter[str] = Counter()
    stems = []
    for record in records:
        stem = record.path.stem
        stems.append(stem if not seen[stem] else f"{stem}~{seen[stem]}")
        seen[stem] += 1
    return stems
