"""A COCO JSON of any size into a table on disk, in memory that hardly grows with the number of boxes.

The file is read once, entry by entry. What is said of boxes goes to columns on disk, since boxes may stand before the
pictures and classes they refer to; afterwards a stable sort by picture brings them into the order of the records.
In memory are, for each picture, its id and its name, and for each box some 20 bytes while they are sorted. Everything
is read, refused and told as `falconet.data.coco` does with whole files.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import DataError
from falconet.data.class_ids import shift_problem_text, shifted_by
from falconet.data.coco_entries import (
    annotation_key,
    area_of,
    class_names,
    corners_of,
    file_name,
    is_crowd,
    is_id,
    last_part,
    meant,
    not_used,
    size_of,
    whole,
    without_segmentation,
)
from falconet.data.dataset import Problem
from falconet.data.image_paths import PROBED, Place, find_place, refuse_shared
from falconet.data.json_files import short
from falconet.data.json_stream import entries
from falconet.data.listing import Names, impossible
from falconet.data.problem_list import Problems
from falconet.data.spill import Spill, SpiltTexts, Texts, TextSet, id_number, id_of, repeated
from falconet.data.table import ROWS, Rows, write_table

_BLOCK = 1 << 16
_KINDS = ("duplicate-annotation-id", "unknown-image", "unknown-class", "bad-annotation")

Told = Callable[[str, int, int], object]
"""Is told (what is being done, how much is done, of how much)."""


def convert_coco(path: Path, images: Path | None, target: Path, *, work: Path, told: Told) -> None:
    """Write the table of the COCO file `path`.

    Args:
        images: folder of the pictures; None looks beside the file.
        target: nothing is there.
        work: an empty folder for what does not fit into memory.
        told: see `Told`.

    Raises:
        DataError: as `falconet.data.coco.read_coco`.
        OSError: a file cannot be written.
    """
    spill = Spill(work)
    try:
        file = _CocoFile(path, spill)
        file.read(told)
        problems = Problems(path)
        names, labels = file.labels(problems)
        rows = file.owners(labels, problems)
        place, paths = _found(file, images, problems, told)
        problems.extend(file.pictures.size_problems)
        _not_used(file, place, paths, problems)
        head = {
            "names": names,
            "problems": [(problem.where, problem.what, problem.kind) for problem in problems.all()],
            "source": str(path),
            "probed": first_names(file.pictures.names),
            "cut": place.cut,
        }
        batches = _batches(file, rows, labels, paths, told)
        write_table(target, head, batches, key_texts=bool(file.key_texts))
    finally:
        spill.close()


class _Pictures:
    """The table of pictures.

    Attributes:
        codes: a number for each id that a picture has or a box refers to; what is no id counts by its text.
        row_of: by that number the row in the data set, -1 for none.
        ids, names: of each row; ids as numbers in `codes`.
        sizes: height and width of each row, -1 where unknown.
        last_parts: hashes of all names without folders, also of pictures that are left out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.codes: dict[Any, int] = {}
        self.row_of = array("i")
        self.ids, self.sizes, self.last_parts = array("i"), array("i"), array("q")
        self.names = Texts()
        self.problems, self.size_problems = Problems(path), Problems(path)

    def code(self, value: Any) -> int:
        """The number of an id."""
        code = _code(self.codes, value)
        if code == len(self.row_of):
            self.row_of.append(-1)
        return code

    def add(self, position: int, entry: dict[str, Any]) -> None:
        """An entry of 'images'."""
        key, name = whole(entry.get("id")), file_name(entry)
        bad = impossible(name)
        self.last_parts.append(hash(last_part(name)))
        if not is_id(key) or not name or bad is not None:
            what = f"is {short(entry)}; expected an 'id' and a 'file_name'{f', which {bad}' if bad else ''}. Left out"
            self.problems.add(Problem(f"{self._path}: images[{position}]", what, "bad-annotation"))
            return
        code = self.code(key)
        if (row := self.row_of[code]) >= 0:
            what = f"is used for {self.names[row]} and again for {name}; the second is left out"
            self.problems.add(Problem(f"{self._path} (image {key})", f"the image id {what}", "duplicate-image-id"))
            return
        self.row_of[code] = len(self.ids)
        self.ids.append(code)
        self.names.append(name)
        size, problem = size_of(entry, f"{self._path} (image {key})")
        self.sizes.extend(size or (-1, -1))
        if problem is not None:
            self.size_problems.add(problem)


class _CocoFile:
    """What a COCO file says, the boxes on disk.

    Attributes:
        pictures: the table of pictures.
        key_texts: ids of annotations that are no numbers, see `falconet.data.spill.id_number`.
        count: annotations in the file.
    """

    def __init__(self, path: Path, spill: Spill) -> None:
        self.path, self.spill = path, spill
        self.pictures = _Pictures(path)
        self.key_texts, self._bad = SpiltTexts(spill, "key-texts"), SpiltTexts(spill, "bad")
        self.count = 0
        self._classes: dict[Any, int] = {}
        self._categories: list[dict[str, Any]] = []
        self._block: list[tuple[Any, ...]] = []

    def read(self, told: Told) -> None:
        """Read the file once."""
        tables: dict[str, Any] = {}
        stream = entries(
            self.path,
            hook=without_segmentation,
            told=lambda done, size: told("read", done, size),
        )
        for key, position, entry in stream:
            if position < 0:
                if not key:
                    raise DataError(
                        f"{self.path}: expected a COCO object with 'images', 'annotations' and 'categories' at the top"
                    )
                tables[key] = entry
            elif key not in ("images", "annotations", "categories"):
                continue
            elif not isinstance(entry, dict):
                raise DataError(f"{self.path}: {key}[{position}] is {short(entry)}; expected an object with an 'id'")
            elif key == "annotations":
                self._add(position, entry)
            elif key == "images":
                self.pictures.add(position, entry)
            else:
                self._categories.append(entry)
        for key in ("images", "annotations", "categories"):
            if not isinstance(table := tables.get(key), list):
                found = "is missing" if table is None else f"is {short(table)}"
                raise DataError(f"{self.path}: '{key}' {found}; expected a list, as in every COCO detection file")
        self._flush()

    def labels(self, problems: Problems) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Class names, and the label of each class id that boxes refer to, -1 for none."""
        told: list[Problem] = []
        names, index_of = class_names(self._categories, self.path, told)
        for problem in told:
            problems.add(problem)
        problems.extend(self.pictures.problems)
        # In Python, True is 1: as in a whole file, it counts as an id that is used.
        used = {key for key in self._classes if isinstance(key, int)}
        used.update(number for number, text in ((1, "true"), (0, "false")) if (text,) in self._classes)
        if shift := shifted_by(index_of, used):
            what = shift_problem_text(shift, min(index_of), max(index_of))
            problems.add(Problem(str(self.path), what, "shifted-ids"))
            index_of = {key + shift: index for key, index in index_of.items()}
        found = [None if isinstance(key, tuple) else meant(key, index_of) for key in self._classes]
        return names, np.array([-1 if key is None else index_of[key] for key in found], np.int32)

    def owners(self, labels: NDArray[np.int32], problems: Problems) -> NDArray[np.int32]:
        """[N] The row of the picture of each annotation, -1 where it is left out.

        Args:
            labels: by the number of the class id.
            problems: gets what is wrong with annotations.
        """
        rows = self._rows_of_codes()
        pictures, classes = self.column("images"), self.column("classes")
        twice = repeated(self.column("keys"), self.key_texts)
        found = np.full(self.count, -1, np.int32)
        for start in range(0, self.count, _BLOCK):
            end = min(start + _BLOCK, self.count)
            own = rows[pictures[start:end]]
            no_picture = own < 0
            no_class = ~no_picture & (labels[classes[start:end]] < 0)
            no_box = ~no_picture & ~no_class & self._bad.present(start, end)
            wrong = np.stack([twice[start:end], no_picture, no_class, no_box], 1)
            found[start:end] = np.where(wrong[:, 1:].any(1), -1, own)
            for place in np.flatnonzero(wrong.any(1)).tolist():
                if problems.full:
                    for kind, number in zip(_KINDS, wrong[place:].sum(0).tolist(), strict=True):
                        problems.count(kind, number)
                    break
                for number in np.flatnonzero(wrong[place]).tolist():
                    problems.add(self._problem(start + place, _KINDS[number]))
        return found

    def column(self, name: str) -> NDArray[Any]:
        """A column of the annotations."""
        kinds = {"boxes": np.float32, "areas": np.float32, "crowd": np.uint8, "keys": np.int64}
        return self.spill.column(name, kinds.get(name, np.int32), 4 if name == "boxes" else 1)

    def _rows_of_codes(self) -> NDArray[np.int32]:
        """The row that each id of a picture means, also where it is written in another form."""
        rows = np.array(self.pictures.row_of, np.int32)
        if (rows < 0).any():
            keys = list(self.pictures.codes)
            listed = {keys[code]: row for row, code in enumerate(self.pictures.ids)}
            for code in np.flatnonzero(rows < 0).tolist():
                key = None if isinstance(keys[code], tuple) else meant(keys[code], listed)
                rows[code] = -1 if key is None else listed[key]
        return rows

    def _problem(self, place: int, kind: str) -> Problem:
        key = id_of(int(self.column("keys")[place]), self.key_texts[place])
        where = f"{self.path} (annotation {key})"
        if kind == "duplicate-annotation-id":
            return Problem(where, "the annotation id is used twice", kind)
        if kind == "bad-annotation":
            what = f"'bbox' is {self._bad[place]}; expected [left, top, width, height]. Left out"
            return Problem(where, what, kind)
        word, table = ("image", "images") if kind == "unknown-image" else ("category", "categories")
        if kind == "unknown-image":
            given = _nth(self.pictures.codes, int(self.column("images")[place]))
        else:
            given = _nth(self._classes, int(self.column("classes")[place]))
        shown = given[0] if isinstance(given, tuple) else short(given)
        return Problem(where, f"refers to {word} id {shown}, which is not listed under '{table}'; left out", kind)

    def _add(self, position: int, entry: dict[str, Any]) -> None:
        """An entry of 'annotations'."""
        key, text = entry.get("id"), ""
        if type(key) is not int or not -(2**63) <= key < 2**63:
            key, text = id_number(annotation_key(entry, position))
        bbox, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd")
        corners, bad = corners_of(bbox), ""
        if corners is None:
            corners, bad = _NO_BOX, short(bbox)
        picture, kind = self.pictures.code(entry.get("image_id")), _code(self._classes, entry.get("category_id"))
        # One tuple for each is many times faster than as many lists as there are columns.
        self._block.append((picture, kind, key, is_crowd(crowd), area_of(area, corners), text, bad, corners))
        if len(self._block) == _BLOCK:
            self._flush()

    def _flush(self) -> None:
        block, self._block = self._block, []
        if not block:
            return
        pictures, classes, keys, crowd, areas, texts, bad, corners = zip(*block, strict=True)
        with np.errstate(over="ignore"):
            # What float32 cannot hold becomes infinite, and is told as such.
            self.spill.write("boxes", np.array(corners, np.float32))
            self.spill.write("areas", np.array(areas, np.float32))
        self.spill.write("images", np.array(pictures, np.int32))
        self.spill.write("classes", np.array(classes, np.int32))
        self.spill.write("crowd", np.array(crowd, np.uint8))
        self.spill.write("keys", np.array(keys, np.int64))
        self.key_texts.write(list(texts))
        self._bad.write(list(bad))
        self.count += len(block)


_NO_BOX = (0.0, 0.0, 0.0, 0.0)


def _code(codes: dict[Any, int], value: Any) -> int:
    """The number of an id, a new one where it is new; what is no id counts by its text."""
    if type(value) is not int:
        value = whole(value)
        if not is_id(value):
            value = (short(value),)
    return codes.setdefault(value, len(codes))


def _nth(codes: dict[Any, int], code: int) -> Any:
    return next(islice(codes, code, None))


def _found(file: _CocoFile, images: Path | None, problems: Problems, told: Told) -> tuple[Place, Texts]:
    """Below which folder the pictures lie, and the path of each row below it, as `falconet.data.image_paths.locate`."""
    names, files = file.pictures.names, Names()
    place = find_place(file.path, first_names(names), images, files=files)
    if place.cut:
        _refuse_shared(file.path, names, place)
        changed = (name for name in names if place.rest(name) != name)
        problems.add(place.problem(file.path, next(changed)))
    paths = Texts()
    for row in range(len(names)):
        rest = place.rest(names[row])
        whole_path = place.folder / rest
        found = files.find(whole_path) or whole_path
        if found != whole_path:
            rest = str(found.relative_to(place.folder)) if found.is_relative_to(place.folder) else str(found)
        paths.append(rest)
        if row % 1000 == 0:
            told("find", row, len(names))
    return place, paths


def first_names(names: Iterable[str]) -> list[str]:
    """Different names, as many as `find_place` looks at."""
    found: dict[str, None] = {}
    for name in names:
        found.setdefault(name)
        if len(found) == PROBED:
            break
    return list(found)


def _refuse_shared(path: Path, names: Texts, place: Place) -> None:
    """As `falconet.data.image_paths.refuse_shared`, which gets those alone that share their rest with others."""
    rests = np.fromiter((hash(place.rest(name)) for name in names), np.int64, len(names))
    order = np.argsort(rests, kind="stable")
    same = np.flatnonzero(rests[order[1:]] == rests[order[:-1]])
    shared = np.unique(np.concatenate([order[same], order[same + 1]]))
    refuse_shared(path, {names[row]: place.rest(names[row]) for row in shared.tolist()})


def _not_used(file: _CocoFile, place: Place, paths: Texts, problems: Problems) -> None:
    folders: set[Path] = set()

    def used() -> Iterator[int]:
        for rest in paths:
            picture = place.folder / rest
            folders.add(picture.parent)
            yield hash(os.path.normpath(picture))

    taken = TextSet(used())
    for problem in not_used(file.path, folders, taken, TextSet(file.pictures.last_parts)):
        problems.add(problem)


def _batches(
    file: _CocoFile, rows: NDArray[np.int32], labels: NDArray[np.int32], paths: Texts, told: Told
) -> Iterator[Rows]:
    """What is written, the boxes of a picture in the order of the file."""
    pictures, count = file.pictures, len(paths)
    order = np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[order], minlength=count))])
    keys, sizes = list(pictures.codes), np.array(pictures.sizes, np.int32).reshape(-1, 2)
    for first in range(0, count, ROWS):
        told("write", first, count)
        end = min(first + ROWS, count)
        own = order[starts[first] : starts[end]]
        ids = [id_number(keys[code]) for code in pictures.ids[first:end]]
        yield Rows(
            np.array([number for number, _ in ids], np.int64),
            [text for _, text in ids],
            [paths[row] for row in range(first, end)],
            sizes[first:end],
            starts[first : end + 1] - starts[first],
            file.column("boxes")[own],
            labels[file.column("classes")[own]],
            file.column("crowd")[own],
            file.column("areas")[own],
            file.column("keys")[own],
            [file.key_texts[place] for place in own.tolist()] if file.key_texts else None,
        )
