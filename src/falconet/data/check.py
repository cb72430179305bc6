"""Every problem of a data set, with the file and the line or id it has."""

import difflib
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.images import read_image
from falconet.core.tar_index import file_bytes, file_size
from falconet.core.types import Record
from falconet.data.box_form import crowd_problems, form_problems
from falconet.data.dataset import DataSet, Problem
from falconet.data.exif_boxes import exif_problems
from falconet.data.formats import open_dataset, splits_of
from falconet.data.kinds import HINTS
from falconet.data.looks import SHARP_SIDE, Look, look_problems
from falconet.data.records import box_problems, file_kind, size_problems, sizes_of_files, with_box_problems
from falconet.data.skew import box_look_problems, split_problems

RARE, FEW = 0.05, 3
"""Share of another class's boxes, or number of boxes, up to which a name that is almost the other's is a slip."""

MANY = 5
"""How many times as many boxes that other class has, at least."""

SHORT, LETTERS, ALIKE = 4, 2, 0.85
"""Length from which on names can be almost the same, by how many letters it may differ, and how much of both is then
the same (Ratcliff and Obershelp)."""

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


def open_splits(
    annotations: Path | str, images: Path | str | None = None, *, split: str | None = None
) -> dict[str, DataSet]:
    """All splits of a data set by name, or the one that is named; "all" where it has none.

    Raises:
        DataError: as `open_dataset`.
    """
    names = (split,) if split is not None else splits_of(annotations)
    if not names:
        return {"all": open_dataset(annotations, images)}
    return {name: open_dataset(annotations, images, split=name) for name in names}


def check_splits(
    splits: Mapping[str, DataSet], *, decode: bool = True, progress: Progress | None = None
) -> list[Problem]:
    """All problems of the splits of a data set, those between splits included; empty where all is well.

    Args:
        decode: also decode every picture (on all cores), which finds damage in the middle of a file. Without it
            the header and the end of each file are looked at.
        progress: told about the decoding.
    """
    problems: list[Problem] = []
    readable: dict[str, list[Record]] = {}
    sizes: dict[Path, tuple[int, int]] = {}
    for name, dataset in splits.items():
        problems.extend(form_problems(dataset))
        problems.extend(dataset.problems)
        problems.extend(crowd_problems(dataset))
        found, readable[name] = _check_records(dataset, sizes)
        problems.extend(found)
        problems.extend(box_look_problems(replace(dataset, records=tuple(readable[name]))))
    problems.extend(_class_problems(splits))
    problems.extend(split_problems(splits))
    copies = list(_same_pictures(readable))
    problems.extend(problem for _, problem in copies)
    if decode:
        broken, looks = _decode_all(readable, sizes, progress)
        problems.extend(broken)
        problems.extend(look_problems(looks, copies={path for path, _ in copies}))
    problems = list(dict.fromkeys(problems))
    return sorted(problems, key=lambda problem: problem.kind in HINTS)


def summary(problems: list[Problem]) -> dict[str, int]:
    """Number of problems by kind, most frequent first."""
    return dict(Counter(problem.kind for problem in problems).most_common())


def class_counts(dataset: DataSet) -> dict[str, int]:
    """Number of boxes of each class, in the order of the classes."""
    counts = np.zeros(len(dataset.names), np.int64)
    for record in dataset.records:
        counts += np.bincount(record.labels, minlength=len(counts))
    summed: dict[str, int] = {}
    for name, count in zip(dataset.names, counts.tolist(), strict=True):  # a name used twice is told as a problem
        summed[name] = summed.get(name, 0) + count
    return summed


def _check_records(dataset: DataSet, sizes: dict[Path, tuple[int, int]]) -> tuple[list[Problem], list[Record]]:
    """Problems of single records, and the records whose picture seems readable.

    Args:
        sizes: gets (height, width) as displayed of the files that seem readable.
    """
    problems: list[Problem] = []
    readable: list[Record] = []
    found = sizes_of_files(dataset.records)
    problems.extend(exif_problems(dataset, found))
    suspicious = with_box_problems(dataset.records).tolist()
    for record, size, suspect in zip(dataset.records, found, suspicious, strict=True):
        if isinstance(size, DataError):
            problems.append(Problem.of_picture(record, str(size), file_kind(record)))
        else:
            readable.append(record)
            sizes[record.path] = size
            problems.extend(size_problems(record, size))
        if suspect:
            problems.extend(problem for _, problem in box_problems(dataset, record))
        problems.extend(_duplicate_boxes(dataset, record))
    return problems, readable


def _duplicate_boxes(dataset: DataSet, record: Record) -> Iterator[Problem]:
    for original, index in equal_boxes(record):
        name = dataset.names[record.labels[index]]
        text = ", ".join(f"{value:g}" for value in record.boxes[index].tolist())
        what = f"image {record.path.name} has the box [{text}] of '{name}' twice, first at "
        what += dataset.box_source(record, original)
        yield dataset.box_problem(record, what, "duplicate-box", index)


def equal_boxes(record: Record) -> list[tuple[int, int]]:
    """Pairs (first, second) of equal boxes of one class, each second one once."""
    first: dict[tuple[float, ...], int] = {}
    pairs = []
    for index, (box, label) in enumerate(zip(record.boxes.tolist(), record.labels.tolist(), strict=True)):
        original = first.setdefault((label, *box), index)
        if original != index:
            pairs.append((original, index))
    return pairs


def _class_problems(splits: Mapping[str, DataSet]) -> Iterator[Problem]:
    used: Counter[str] = Counter()
    for dataset in splits.values():
        used.update(class_counts(dataset))
    for name, count in used.items():
        if count == 0:
            where = ", ".join(dict.fromkeys(part.source for part in splits.values() if name in part.names))
            yield Problem(where, f"the class '{name}' has no box", "unused-class")
    for name in dict.fromkeys(name for part in splits.values() for name in part.names):
        if name != name.strip():
            where = ", ".join(dict.fromkeys(part.source for part in splits.values() if name in part.names))
            what = f"the class {name!r} begins or ends with a blank; other files will spell it in another way"
            yield Problem(where, what, "blank-class")
    for name, usual in spelt_twice(used):
        where = ", ".join(dict.fromkeys(part.source for part in splits.values() if name in part.names))
        what = (
            f"the class {name!r} ({plural(used[name], 'box', 'boxes')} in all splits) is spelt almost as {usual!r} "
            f"({used[usual]}); to a model these "
            "are two classes"
        )
        yield Problem(where, what, "spelt-twice")
    first, *others = splits.values()
    for other in others:
        if other.names != first.names:
            what = f"classes are {_list(other.names)}, but {_list(first.names)} in {first.source}"
            yield Problem(other.source, what, "different-classes")


def spelt_twice(boxes: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs (rarer, more frequent) of names that are probably meant to be one class.

    They differ in upper and lower case, blanks, hyphens and underscores alone; or in a letter or two, where the rarer
    one is so rare that it is more likely a slip than a class. Names with digits are told apart by these.

    Args:
        boxes: how many each class has.
    """
    pairs = []
    order = sorted((name for name in boxes if boxes[name]), key=lambda name: (-boxes[name], name))
    plain = {name: re.sub(r"[\s_-]+", "", name.casefold()) for name in order}
    for place, name in enumerate(order):
        for usual in order[:place]:
            one, other = plain[name], plain[usual]
            rare = boxes[name] <= max(FEW, RARE * boxes[usual]) and boxes[usual] >= MANY * boxes[name]
            if one == other or (rare and _almost(one, other)):
                pairs.append((name, usual))
                break
    return pairs


def _almost(one: str, other: str) -> bool:
    """Whether one of these words may be a slip of the other."""
    if abs(len(one) - len(other)) > LETTERS or min(len(one), len(other)) < SHORT or re.search(r"\d", one + other):
        return False
    return difflib.SequenceMatcher(None, one, other).ratio() >= ALIKE


def _list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(name if name == name.strip() else repr(name) for name in names) + "]"


def _same_pictures(readable: Mapping[str, list[Record]]) -> Iterator[tuple[Path, Problem]]:
    """Pictures that occur twice, the same file or files of the same content, by their file."""
    for group in same_content(readable):
        original_split, original = group[0]
        for split, record in group[1:]:
            same = "the same file" if _same_file(original.path, record.path) else "the same content"
            if split == original_split:
                listed = record.path == original.path
                what = f"{record.path} is listed twice" if listed else f"{record.path} has {same} as {original.path}"
                yield record.path, Problem.of_picture(record, what, "duplicate-file", other=original)
            else:
                what = f"{record.path} in split '{split}' has {same} as {original.path} in split '{original_split}'"
                yield record.path, Problem.of_picture(record, what, "shared-picture", other=original)


def same_content(readable: Mapping[str, Sequence[Record]]) -> Iterator[list[tuple[str, Record]]]:
    """Groups of two or more records, each with its split, whose picture files are byte by byte the same."""
    by_size: defaultdict[int, list[tuple[str, Record]]] = defaultdict(list)
    for split, records in readable.items():
        for record in records:
            by_size[file_size(record.path)].append((split, record))
    for candidates in by_size.values():
        if len(candidates) == 1:
            continue
        # Only files of the same size can be equal, so few are read.
        groups: defaultdict[bytes, list[tuple[str, Record]]] = defaultdict(list)
        for split, record in candidates:
            groups[hashlib.sha256(file_bytes(record.path)).digest()].append((split, record))
        yield from (group for group in groups.values() if len(group) > 1)


def _same_file(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _decode_all(
    readable: Mapping[str, list[Record]], sizes: Mapping[Path, tuple[int, int]], progress: Progress | None
) -> tuple[list[Problem], dict[str, list[tuple[Record, Look]]]]:
    """Problems of the pictures' files, and by split what those that can be read look like."""
    unique = {record.path: (split, record) for split, records in reversed(list(readable.items())) for record in records}
    problems: list[Problem] = []
    looks: dict[str, list[tuple[Record, Look]]] = {split: [] for split in readable}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        seen = pool.map(_look_at, unique, [sizes[path] for path in unique])
        for done, ((split, record), look) in enumerate(zip(unique.values(), seen, strict=True), start=1):
            if isinstance(look, DataError):
                problems.append(Problem.of_picture(record, str(look), "broken-file"))
            else:
                looks[split].append((record, look))
            if progress is not None:
                progress(done, len(unique))
    return problems, looks


def _look_at(path: Path, size: tuple[int, int]) -> Look | DataError:
    """What the picture of `size` (height, width) looks like; all of its bytes are read, not all pixels made of them."""
    longer = max(size)
    try:
        image, _ = read_image(path, at_least=(size[0] * SHARP_SIDE // longer, size[1] * SHARP_SIDE // longer))
    except DataError as error:
        return error
    return Look.of(image)
