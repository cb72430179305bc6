"""COCO JSON (cocodataset.org, "data format": object detection).

Ids are arbitrary; class indices follow the order of the category ids, whatever gaps those have. An id written as a
text in one table and as a number in another (`"1"`, 1, 1.0) is the same, where that is unambiguous. A `bbox` is left,
top, width, height in pixels. `iscrowd` becomes `Record.crowd`, `area` becomes `Record.areas`; segmentations are
skipped while reading.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.data.class_ids import shift_problem_text, shifted_by
from falconet.data.dataset import DataSet, Problem, make_record
from falconet.data.image_paths import locate
from falconet.data.json_files import is_number, is_side, is_text, json_kind, read_json, short
from falconet.data.listing import composed, files_in, impossible, unused_beside

_CHUNK = 1 << 22
_OVERLAP = 1 << 13
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){1,4096}")')
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


class _Boxes(NamedTuple):
    """What is collected for one picture."""

    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    crowd: list[bool]
    areas: list[float]
    keys: list[int | str]
    positions: list[int]
    """in the table of annotations."""


def read_coco(path: Path, images: Path | None = None) -> DataSet:
    """The data set in the COCO file `path`.

    Args:
        images: folder of the pictures; None looks beside the file, see `falconet.data.image_paths`.

    Raises:
        DataError: not JSON (with line and column), not a COCO detection file, or the pictures are not found.
    """
    tree = _read_tree(path)
    tables = {key: _table(tree, key, path) for key in ("images", "annotations", "categories")}
    problems: list[Problem] = []
    names, listed, collected = _read_tables(tables, path, problems)
    names_of = {image_id: _file_name(image) for image_id, image in listed.items()}
    located = locate(path, list(dict.fromkeys(names_of.values())), images)
    problems += located.problems
    records = [
        _record(image_id, image, collected[image_id], located.paths[names_of[image_id]], path, problems)
        for image_id, image in listed.items()
    ]
    problems += _not_used(path, records, {_last(_file_name(image)) for image in tables["images"]})
    return DataSet(names, tuple(records), str(path), "coco", tuple(problems), "annotation")


class Places(NamedTuple):
    """What of a whole COCO tree the records come from, by the id of the picture.

    Attributes:
        images: entries of the table of pictures.
        positions: of its boxes in the table of annotations, in the record's order.
        categories: ids in the order of the class names.
    """

    images: dict[Any, dict[str, Any]]
    positions: dict[Any, list[int]]
    categories: list[int | str]


def places_in(tree: dict[str, Any], path: Path) -> Places:
    """Where in a COCO tree, as the file `path` holds it, pictures and boxes stand.

    Raises:
        DataError: as `read_coco`.
    """
    tables = {key: _table(tree, key, path) for key in ("images", "annotations", "categories")}
    _, listed, collected = _read_tables(tables, path, [])
    categories = sorted(_whole(entry["id"]) for entry in tables["categories"])
    return Places(listed, {key: boxes.positions for key, boxes in collected.items()}, categories)


def annotation_key(entry: dict[str, Any], position: int) -> int | str:
    """What messages call an annotation: its id, or its place in the table."""
    key = _whole(entry.get("id"))
    return key if _is_id(key) else f"at position {position}"


def _read_tables(
    tables: dict[str, list[dict[str, Any]]], path: Path, problems: list[Problem]
) -> tuple[tuple[str, ...], dict[Any, dict[str, Any]], dict[Any, _Boxes]]:
    """Class names, and by id the pictures and their boxes."""
    names, index_of = _categories(tables["categories"], path, problems)
    listed = _images(tables["images"], path, problems)
    used = {key for entry in tables["annotations"] if isinstance(key := _whole(entry.get("category_id")), int)}
    if shift := shifted_by(index_of, used):
        what = shift_problem_text(shift, min(index_of), max(index_of))
        problems.append(Problem(str(path), what, "shifted-ids"))
        index_of = {key + shift: index for key, index in index_of.items()}
    collected = {image_id: _Boxes([], [], [], [], [], []) for image_id in listed}
    _collect(tables["annotations"], collected, index_of, path, problems)
    return names, listed, collected


def _read_tree(path: Path) -> dict[str, Any]:
    tree = read_json(path, hook=_without_segmentation)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected a COCO object with 'images', 'annotations' and 'categories' at the top")
    return tree


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    # Polygons are most of a large file; dropping each at once keeps the peak of memory low.
    entry.pop("segmentation", None)
    return entry


def _table(tree: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    table = tree.get(key)
    if not isinstance(table, list):
        found = "is missing" if table is None else f"is {short(table)}"
        raise DataError(f"{path}: '{key}' {found}; expected a list, as in every COCO detection file")
    for position, entry in enumerate(table):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}[{position}] is {short(entry)}; expected an object with an 'id'")
    return table


def _categories(
    table: list[dict[str, Any]], path: Path, problems: list[Problem]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    names: dict[Any, str] = {}
    for position, entry in enumerate(table):
        key, name = _whole(entry.get("id")), entry.get("name")
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not _is_id(key) or not is_text(name) or not name:
            raise DataError(f"{path}: categories[{position}] is {short(entry)}; expected an 'id' and a 'name'")
        if key in names:
            raise DataError(f"{path}: category id {key} is used for '{names[key]}' and for '{name}'; make ids unique")
        if name in names.values():
            problems.append(Problem(f"{path} (category {key})", f"the name '{name}' is used twice", "duplicate-class"))
        names[key] = name
    if len({type(key) for key in names}) > 1:
        raise DataError(f"{path}: category ids are numbers and texts mixed; expected one kind")
    ordered = sorted(names)
    return tuple(names[key] for key in ordered), {key: index for index, key in enumerate(ordered)}


def _images(table: list[dict[str, Any]], path: Path, problems: list[Problem]) -> dict[Any, dict[str, Any]]:
    listed: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(table):
        key, bad = _whole(entry.get("id")), impossible(_file_name(entry))
        if not _is_id(key) or not _file_name(entry) or bad is not None:
            what = f"is {short(entry)}; expected an 'id' and a 'file_name'{f', which {bad}' if bad else ''}. Left out"
            problems.append(Problem(f"{path}: images[{position}]", what, "bad-annotation"))
        elif key in listed:
            what = f"is used for {_file_name(listed[key])} and again for {_file_name(entry)}; the second is left out"
            problems.append(Problem(f"{path} (image {key})", f"the image id {what}", "duplicate-image-id"))
        else:
            listed[key] = entry
    return listed


def _collect(
    table: list[dict[str, Any]],
    collected: dict[Any, _Boxes],
    index_of: dict[Any, int],
    path: Path,
    problems: list[Problem],
) -> None:
    seen: set[int | str] = set()
    images, classes = _by_either(collected), _by_either(index_of)
    for position, entry in enumerate(table):
        image_id, category = (_whole(entry.get(name)) for name in ("image_id", "category_id"))
        key = annotation_key(entry, position)
        where = f"{path} (annotation {key})"
        if key in seen:
            problems.append(Problem(where, "the annotation id is used twice", "duplicate-annotation-id"))
        seen.add(key)
        if not _is_id(image_id) or image_id not in images:
            what = f"refers to image id {short(image_id)}, which is not listed under 'images'; left out"
            problems.append(Problem(where, what, "unknown-image"))
            continue
        if not _is_id(category) or category not in classes:
            what = f"refers to category id {short(category)}, which is not listed under 'categories'; left out"
            problems.append(Problem(where, what, "unknown-class"))
            continue
        corners = _corners(entry.get("bbox"))
        if corners is None:
            what = f"'bbox' is {short(entry.get('bbox'))}; expected [left, top, width, height]. Left out"
            problems.append(Problem(where, what, "bad-annotation"))
            continue
        target = collected[images[image_id]]
        target.boxes.append(corners)
        target.labels.append(index_of[classes[category]])
        target.crowd.append(_is_crowd(entry.get("iscrowd")))
        target.areas.append(_area(entry.get("area"), corners))
        target.keys.append(key)
        target.positions.append(position)


def _is_crowd(value: Any) -> bool:
    """Some tools write 1 as a text."""
    return value not in (None, "", "0", "false", "False") and bool(value)


def _record(
    image_id: Any, image: dict[str, Any], found: _Boxes, picture: Path, path: Path, problems: list[Problem]
) -> Record:
    width, height = image.get("width"), image.get("height")
    size = None
    if is_side(width) and is_side(height):
        size = (int(height), int(width))
    elif (width, height) != (None, None):
        what = f"size is {short(width)} x {short(height)}; expected positive whole numbers. Read from the file"
        problems.append(Problem(f"{path} (image {image_id})", what, "wrong-size"))
    return make_record(
        image_id,
        picture,
        size,
        boxes=found.boxes,
        labels=found.labels,
        crowd=found.crowd,
        areas=found.areas,
        source=f"{path} (image {image_id})",
        box_keys=found.keys,
    )


def _not_used(path: Path, records: list[Record], listed: set[str]) -> list[Problem]:
    """Files in the pictures' folders that neither this file nor another COCO file beside it lists.

    Args:
        listed: names in this file, without folders, also of pictures that were left out.
    """
    used = {record.path for record in records}
    folders = {picture.parent for picture in used}
    why = ", being listed in no annotation file"
    problems = list(unused_beside(folders, used, path, why, others=listed))
    beside = [file for file in files_in(path.parent) if file.suffix.lower() == ".json" and file != path]
    if problems and (beside := [file for file in beside if json_kind(file) == "coco"]):
        others = listed.union(*map(_listed_names, beside))
        problems = list(unused_beside(folders, used, path, why, others=others))
    return problems


def _listed_names(path: Path) -> Iterator[str]:
    """The names of the pictures that a COCO file lists, without folders; the file is searched, not held."""
    with path.open("rb") as stream:
        rest = b""
        while chunk := stream.read(_CHUNK):
            data = rest + chunk
            for match in _FILE_NAME.finditer(data):
                with suppress(ValueError):
                    yield _last(json.loads(match[1]).replace("\\", "/"))
            rest = data[-_OVERLAP:]


def _last(name: str) -> str:
    return composed(name.rpartition("/")[2])


def _whole(key: Any) -> Any:
    """An id, where whole numbers are written as 1.0 as 1."""
    return int(key) if isinstance(key, float) and key.is_integer() else key


def _by_either(keys: Iterable[int | str]) -> dict[int | str, int | str]:
    """The ids, each also by its text or its number where no other id has that."""
    found: dict[int | str, int | str] = {key: key for key in keys}
    for key in list(found):
        if isinstance(key, int):
            found.setdefault(str(key), key)
        elif _WHOLE.fullmatch(key):
            found.setdefault(int(key), key)
    return found


def _file_name(image: dict[str, Any]) -> str:
    name = image.get("file_name")
    return name.replace("\\", "/") if isinstance(name, str) else ""


def _corners(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4 or not all(is_number(number) for number in value):
        return None
    left, top, width, height = (float(number) for number in value)
    return left, top, left + width, top + height


def _area(value: Any, corners: tuple[float, float, float, float]) -> float:
    if is_number(value) and 0 < value < float("inf"):
        return float(value)
    return max(0.0, corners[2] - corners[0]) * max(0.0, corners[3] - corners[1])


def _is_id(value: Any) -> TypeGuard[int | str]:
    return (isinstance(value, int) and not isinstance(value, bool)) or is_text(value)
