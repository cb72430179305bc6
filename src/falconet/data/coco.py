"""COCO JSON (cocodataset.org, "data format": object detection).

Ids are arbitrary; class indices follow the order of the category ids, whatever gaps those have. An id written as a
text in one table and as a number in another (`"1"`, 1, 1.0) is the same, where that is unambiguous. A `bbox` is left,
top, width, height in pixels. `iscrowd` becomes `Record.crowd`, `area` becomes `Record.areas`; segmentations are
skipped while reading.
"""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from falconet.core.errors import DataError
from falconet.core.memory import free_memory
from falconet.core.types import Record
from falconet.data.class_ids import shift_problem_text, shifted_by
from falconet.data.coco_entries import (
    annotation_key,
    area_of,
    by_either,
    class_names,
    corners_of,
    file_name,
    is_crowd,
    is_id,
    last_part,
    not_used,
    size_of,
    whole,
    without_segmentation,
)
from falconet.data.dataset import DataSet, Problem, make_record
from falconet.data.image_paths import locate
from falconet.data.json_files import read_json, short
from falconet.data.listing import impossible

LARGE = 256 << 20
"""Bytes from which on a file is not read into memory but converted into a table. Below, reading takes some seconds and
at most some two gigabytes; a table would save little of either, and takes room on the disk."""

MEMORY = 11
"""Bytes of memory that reading takes for each byte of a file, at its peak."""

_log = logging.getLogger(__name__)


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
    if _as_table(path):
        from falconet.data.annotation_tables import read_as_table

        return read_as_table(path, images)
    tree = _read_tree(path)
    tables = {key: _table(tree, key, path) for key in ("images", "annotations", "categories")}
    problems: list[Problem] = []
    names, listed, collected = _read_tables(tables, path, problems)
    names_of = {image_id: file_name(image) for image_id, image in listed.items()}
    located = locate(path, list(dict.fromkeys(names_of.values())), images)
    problems += located.problems
    records = [
        _record(image_id, image, collected[image_id], located.paths[names_of[image_id]], path, problems)
        for image_id, image in listed.items()
    ]
    used = {record.path for record in records}
    listed_parts = {last_part(file_name(image)) for image in tables["images"]}
    taken = {os.path.normpath(file) for file in used}
    problems += not_used(path, {file.parent for file in used}, taken, listed_parts)
    return DataSet(names, tuple(records), str(path), "coco", tuple(problems), "annotation")


def _as_table(path: Path) -> bool:
    """Whether a file is read as a table; without pyarrow a large one is not, and that is said, or refused."""
    size = path.stat().st_size if path.is_file() else 0
    if size < LARGE:
        return False
    if find_spec("pyarrow") is not None:
        return True
    needed, free = MEMORY * size, free_memory()
    how = "with pyarrow it is converted once into a table on disk: pip install 'falconet[batch]'"
    if free is not None and needed > free:
        raise DataError(
            f"{path}: has {size >> 20} MB, for which reading takes about {needed / 2**30:.1f} GB of memory, but "
            f"{free / 2**30:.1f} GB are free; {how}"
        )
    _log.warning("%s: has %d MB, and is read into memory; %s", path, size >> 20, how)
    return False


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
    categories = sorted(whole(entry["id"]) for entry in tables["categories"])
    return Places(listed, {key: boxes.positions for key, boxes in collected.items()}, categories)


def _read_tables(
    tables: dict[str, list[dict[str, Any]]], path: Path, problems: list[Problem]
) -> tuple[tuple[str, ...], dict[Any, dict[str, Any]], dict[Any, _Boxes]]:
    """Class names, and by id the pictures and their boxes."""
    names, index_of = class_names(tables["categories"], path, problems)
    listed = _images(tables["images"], path, problems)
    used = {key for entry in tables["annotations"] if isinstance(key := whole(entry.get("category_id")), int)}
    if shift := shifted_by(index_of, used):
        what = shift_problem_text(shift, min(index_of), max(index_of))
        problems.append(Problem(str(path), what, "shifted-ids"))
        index_of = {key + shift: index for key, index in index_of.items()}
    collected = {image_id: _Boxes([], [], [], [], [], []) for image_id in listed}
    _collect(tables["annotations"], collected, index_of, path, problems)
    return names, listed, collected


def _read_tree(path: Path) -> dict[str, Any]:
    tree = read_json(path, hook=without_segmentation)
    if not isinstance(tree, dict):
        raise DataError(f"{path}: expected a COCO object with 'images', 'annotations' and 'categories' at the top")
    return tree


def _table(tree: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    table = tree.get(key)
    if not isinstance(table, list):
        found = "is missing" if table is None else f"is {short(table)}"
        raise DataError(f"{path}: '{key}' {found}; expected a list, as in every COCO detection file")
    for position, entry in enumerate(table):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}[{position}] is {short(entry)}; expected an object with an 'id'")
    return table


def _images(table: list[dict[str, Any]], path: Path, problems: list[Problem]) -> dict[Any, dict[str, Any]]:
    listed: dict[Any, dict[str, Any]] = {}
    for position, entry in enumerate(table):
        key, bad = whole(entry.get("id")), impossible(file_name(entry))
        if not is_id(key) or not file_name(entry) or bad is not None:
            what = f"is {short(entry)}; expected an 'id' and a 'file_name'{f', which {bad}' if bad else ''}. Left out"
            problems.append(Problem(f"{path}: images[{position}]", what, "bad-annotation"))
        elif key in listed:
            what = f"is used for {file_name(listed[key])} and again for {file_name(entry)}; the second is left out"
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
    images, classes = by_either(collected), by_either(index_of)
    for position, entry in enumerate(table):
        image_id, category = (whole(entry.get(name)) for name in ("image_id", "category_id"))
        key = annotation_key(entry, position)
        where = f"{path} (annotation {key})"
        if key in seen:
            problems.append(Problem(where, "the annotation id is used twice", "duplicate-annotation-id"))
        seen.add(key)
        if not is_id(image_id) or image_id not in images:
            what = f"refers to image id {short(image_id)}, which is not listed under 'images'; left out"
            problems.append(Problem(where, what, "unknown-image"))
            continue
        if not is_id(category) or category not in classes:
            what = f"refers to category id {short(category)}, which is not listed under 'categories'; left out"
            problems.append(Problem(where, what, "unknown-class"))
            continue
        corners = corners_of(entry.get("bbox"))
        if corners is None:
            what = f"'bbox' is {short(entry.get('bbox'))}; expected [left, top, width, height]. Left out"
            problems.append(Problem(where, what, "bad-annotation"))
            continue
        target = collected[images[image_id]]
        target.boxes.append(corners)
        target.labels.append(index_of[classes[category]])
        target.crowd.append(is_crowd(entry.get("iscrowd")))
        target.areas.append(area_of(entry.get("area"), corners))
        target.keys.append(key)
        target.positions.append(position)


def _record(
    image_id: Any, image: dict[str, Any], found: _Boxes, picture: Path, path: Path, problems: list[Problem]
) -> Record:
    size, problem = size_of(image, f"{path} (image {image_id})")
    if problem is not None:
        problems.append(problem)
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
