"""CSV with one box per line: Pascal-like tables, and Open Images.

* Pascal-like: a first line with the names `filename, class, xmin, ymin, xmax, ymax` and, perhaps, `width, height`, in
  any order (the tables of TensorFlow's object detection tutorials and of Roboflow). Pixels; a line without class and
  corners is a picture without boxes.
* Open Images (storage.googleapis.com/openimages/web, "box annotations"): `ImageID, LabelName, XMin, XMax, YMin, YMax,
  ...`, fractions of the picture; the picture of `ImageID` is a `.jpg`. `IsGroupOf` becomes a crowd. Names come from
  `*class-descriptions*.csv` beside the file or one folder up, else the codes are the names.

Files are read line by line.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from falconet.core.errors import DataError
from falconet.core.files import regular
from falconet.data.dataset import DataSet, Problem
from falconet.data.image_paths import locate
from falconet.data.listing import files_in, impossible
from falconet.data.named_boxes import Corners, NamedBoxes, build, by_path
from falconet.data.voc import class_names

CsvKind = Literal["csv", "open-images"]

_ALIASES = {
    "file": ("filename", "file_name", "file", "image", "image_path", "image_name", "path", "img"),
    "class": ("class", "label", "class_name", "classname", "category", "name"),
    "x1": ("xmin", "x_min", "x1"),
    "y1": ("ymin", "y_min", "y1"),
    "x2": ("xmax", "x_max", "x2"),
    "y2": ("ymax", "y_max", "y2"),
    "width": ("width", "image_width", "img_width"),
    "height": ("height", "image_height", "img_height"),
}
_OPEN_IMAGES = {"file": "imageid", "class": "labelname", "x1": "xmin", "y1": "ymin", "x2": "xmax", "y2": "ymax"}
_CORNERS = ("x1", "y1", "x2", "y2")
_NEEDED = ("file", "class", *_CORNERS)
_EXPECTED = "expected a first line with the names filename, class, xmin, ymin, xmax, ymax, or those of Open Images"


class _Table(NamedTuple):
    """How a file is to be read."""

    kind: CsvKind
    delimiter: str
    columns: dict[str, int]
    """position of each of the names in `_ALIASES`, and of "group"."""


def csv_kind(path: Path) -> CsvKind | None:
    """Which kind of table of boxes a CSV file is; None where it is none."""
    try:
        table = _table(path)
    except DataError:
        return None
    return None if table is None else table.kind


def read_csv(path: Path, images: Path | None = None) -> DataSet:
    """The data set in the CSV file `path`.

    Class names are those of all tables of the kind in the folder, sorted, so that every split has the same;
    `classes.txt` or `labels.txt` beside them fixes their order instead.

    Args:
        images: folder of the pictures; None looks beside the file, see `falconet.data.image_paths`.

    Raises:
        DataError: no such table, not UTF-8, not CSV, or the pictures are not found.
    """
    table = _table(path)
    if table is None:
        raise DataError(f"{path}: is not a table of boxes; {_EXPECTED}")
    problems: list[Problem] = []
    found = _collect(path, table, problems)
    located = locate(path, list(found), images)
    beside = [file for file in files_in(path.parent) if file.suffix.lower() == path.suffix.lower() and file != path]
    classes = {name for boxes in found.values() for name in boxes.classes}
    for file in beside:
        other = _table(file) if csv_kind(file) == table.kind else None
        classes |= set() if other is None else _classes(file, other)
    if table.kind == "open-images":
        called = _descriptions(path)
        classes = {called.get(code, code) for code in classes}
        for boxes in found.values():
            boxes.classes = [called.get(code, code) for code in boxes.classes]
    names = class_names(path.parent, iter(classes))
    problems += located.problems
    pictures = by_path(found, located.paths, problems)
    return build(path, table.kind, pictures, names, problems, relative=table.kind == "open-images")


def _table(path: Path) -> _Table | None:
    header = next(_rows(path, None), (0, []))[1]
    line = header[0] if header else ""
    delimiter = max(",;\t|", key=line.count)
    names = [name.strip().strip('"').lower() for name in line.split(delimiter)]
    if all(name in names for name in _OPEN_IMAGES.values()):
        columns = {key: names.index(name) for key, name in _OPEN_IMAGES.items()}
        if "isgroupof" in names:
            columns["group"] = names.index("isgroupof")
        return _Table("open-images", delimiter, columns)
    columns = {}
    for key, known in _ALIASES.items():
        found = next((name for name in known if name in names), None)
        if found is not None:
            columns[key] = names.index(found)
    return _Table("csv", delimiter, columns) if all(key in columns for key in _NEEDED) else None


def _rows(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of a file; without `delimiter` a line is one field."""
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as stream:
            if delimiter is None:
                yield 1, [stream.readline(1 << 16)]
                return
            rows = csv.reader(stream, delimiter=delimiter)
            for row in rows:
                yield rows.line_num, row
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; expected a table of boxes") from error
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: is not valid CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _body(path: Path, table: _Table) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) behind the header, without empty lines."""
    rows = _rows(path, table.delimiter)
    next(rows, None)
    yield from ((line, row) for line, row in rows if any(field.strip() for field in row))


def _collect(path: Path, table: _Table, problems: list[Problem]) -> dict[str, NamedBoxes]:
    found: dict[str, NamedBoxes] = {}
    columns = table.columns
    ending = ".jpg" if table.kind == "open-images" else ""
    for line, row in _body(path, table):
        if len(row) <= max(columns.values()):
            what = f"the line has {len(row)} fields; expected {max(columns.values()) + 1} or more. Left out"
            problems.append(Problem(f"{path}:{line}", what, "bad-annotation"))
            continue
        values = {key: row[position].strip() for key, position in columns.items()}
        file = values["file"].replace("\\", "/")
        bad = "is empty" if not file else impossible(file)
        if bad is not None:
            problems.append(Problem(f"{path}:{line}", f"the picture's name {bad}; left out", "bad-annotation"))
            continue
        boxes = found.setdefault(file + ending, NamedBoxes(str(path), _size(values)))
        if not any(values[key] for key in ("class", *_CORNERS)):
            continue
        corners = _corners(values)
        if corners is None or not values["class"]:
            shown = ", ".join(f"{key} '{values[key]}'" for key in ("class", *_CORNERS))
            what = f"has {shown}; expected a class and four numbers. Left out"
            problems.append(Problem(f"{path}:{line}", what, "bad-annotation"))
            continue
        boxes.add(corners, values["class"], line, crowd=values.get("group") == "1")
    return found


def _classes(path: Path, table: _Table) -> set[str]:
    column = table.columns["class"]
    return {row[column].strip() for _, row in _body(path, table) if len(row) > column} - {""}


def _corners(values: dict[str, str]) -> Corners | None:
    try:
        x1, y1, x2, y2 = (float(values[key]) for key in _CORNERS)
    except ValueError:
        return None
    return x1, y1, x2, y2


def _size(values: dict[str, str]) -> tuple[int, int] | None:
    try:
        height, width = (round(float(values[side])) for side in ("height", "width"))
    except (KeyError, ValueError, OverflowError):
        return None
    return (height, width) if 0 < height < 2**31 and 0 < width < 2**31 else None


def _descriptions(path: Path) -> dict[str, str]:
    """Class names by code."""
    for folder in (path.parent, path.parent.parent):
        for file in files_in(folder):
            if "class-descriptions" in file.name and file.suffix.lower() == ".csv":
                rows = (row for _, row in _rows(file, ","))
                return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
    return {}
