"""COCO JSON (cocodataset.org, "data format": object detection).

Ids are arbitrary; class indices follow the order of the category ids, whatever gaps those have. A `bbox` is left,
top, width, height in pixels. `iscrowd` becomes `Record.crowd`, `area` becomes `Record.areas`; segmentations are
skipped while reading.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, make_record, read_text

_PROBED = 20


class _Boxes(NamedTuple):
    """What is collected for one picture."""

    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    crowd: list[bool]
    areas: list[float]
    keys: list[int | str]


def read_coco(path: Path, images: Path | None = None) -> DataSet:
    """The data set in the COCO file `path`.

    Args:
        images: folder of the pictures. None looks for the first picture beside the file: in a folder of the
            file's name without "instances_" (`train.json`, `train/`), in `images/` and in the file's own folder;
            then likewise one folder up.

    Raises:
        DataError: not JSON (with line and column), not a COCO detection file, or the pictures are not found.
    """
    tree = _read_json(path)
    tables = {key: _table(tree, key, path) for key in ("images", "annotations", "categories")}
    problems: list[Problem] = []
    names, index_of = _categories(tables["categories"], path, problems)
    listed = _images(tables["images"], path, problems)
    collected = {image_id: _Boxes([], [], [], [], []) for image_id in listed}
    _collect(tables["annotations"], collected, index_of, path, problems)
    folder = images if images is not None else _find_images(path, [_file_name(image) for image in listed.values()])
    records = [
        _record(image_id, image, collected[image_id], folder, path, problems) for image_id, image in listed.items()
    ]
    return DataSet(names, tuple(records), str(path), "coco", tuple(problems))


def _read_json(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        tree = json.loads(text, object_hook=_without_segmentation)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON: {error}") from error
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
        found = "is missing" if table is None else f"is a {type(table).__name__}"
        raise DataError(f"{path}: '{key}' {found}; expected a list, as in every COCO detection file")
    for position, entry in enumerate(table):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {key}[{position}] is {_short(entry)}; expected an object with an 'id'")
    return table


def _categories(
    table: list[dict[str, Any]], path: Path, problems: list[Problem]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    names: dict[Any, str] = {}
    for position, entry in enumerate(table):
        key, name = entry.get("id"), entry.get("name")
        if not _is_id(key) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: categories[{position}] is {_short(entry)}; expected an 'id' and a 'name'")
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
        key = entry.get("id")
        if not _is_id(key) or not _file_name(entry):
            what = f"is {_short(entry)}; expected an 'id' and a 'file_name'. Left out"
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
    for position, entry in enumerate(table):
        key, image_id, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
        if not _is_id(key):
            key = f"at position {position}"
        where = f"{path} (annotation {key})"
        if key in seen:
            problems.append(Problem(where, "the annotation id is used twice", "duplicate-annotation-id"))
        seen.add(key)
        if not _is_id(image_id) or image_id not in collected:
            what = f"refers to image id {image_id}, which is not listed under 'images'; left out"
            problems.append(Problem(where, what, "unknown-image"))
            continue
        if not _is_id(category) or category not in index_of:
            what = f"refers to category id {category}, which is not listed under 'categories'; left out"
            problems.append(Problem(where, what, "unknown-class"))
            continue
        corners = _corners(entry.get("bbox"))
        if corners is None:
            what = f"'bbox' is {_short(entry.get('bbox'))}; expected [left, top, width, height]. Left out"
            problems.append(Problem(where, what, "bad-annotation"))
            continue
        target = collected[image_id]
        target.boxes.append(corners)
        target.labels.append(index_of[category])
        target.crowd.append(entry.get("iscrowd") in (1, True))
        target.areas.append(_area(entry.get("area"), corners))
        target.keys.append(key)


def _record(
    image_id: Any, image: dict[str, Any], found: _Boxes, folder: Path, path: Path, problems: list[Problem]
) -> Record:
    width, height = image.get("width"), image.get("height")
    size = None
    if _is_side(width) and _is_side(height):
        size = (int(height), int(width))
    elif (width, height) != (None, None):
        what = f"size is {_short(width)} x {_short(height)}; expected positive whole numbers. Read from the file"
        problems.append(Problem(f"{path} (image {image_id})", what, "wrong-size"))
    return make_record(
        image_id,
        folder / _file_name(image),
        size,
        boxes=found.boxes,
        labels=found.labels,
        crowd=found.crowd,
        areas=found.areas,
        source=f"{path} (image {image_id})",
        box_keys=found.keys,
    )


def _find_images(path: Path, names: list[str]) -> Path:
    folders = list(dict.fromkeys(_image_folders(path)))
    for name in names[:_PROBED]:
        for folder in folders:
            if (folder / name).is_file():
                return folder
    if not names:
        return path.parent
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(
        f"{path}: its pictures are not found ({names[0]} is in none of {looked}); "
        "say where they are with the 'images' folder"
    )


def _image_folders(path: Path) -> Iterator[Path]:
    stems = dict.fromkeys([path.stem, path.stem.removeprefix("instances_"), path.stem.partition("_")[2]])
    for folder in (path.parent, path.parent.parent):
        for stem in filter(None, stems):
            yield folder / stem
            yield folder / "images" / stem
        yield folder / "images"
        yield folder


def _file_name(image: dict[str, Any]) -> str:
    name = image.get("file_name")
    return name.replace("\\", "/") if isinstance(name, str) else ""


def _corners(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(number) for number in value):
        return None
    left, top, width, height = (float(number) for number in value)
    return left, top, left + width, top + height


def _area(value: Any, corners: tuple[float, float, float, float]) -> float:
    if _is_number(value) and 0 < value < float("inf"):
        return float(value)
    return max(0.0, corners[2] - corners[0]) * max(0.0, corners[3] - corners[1])


def _is_number(value: Any) -> TypeGuard[float]:
    # Larger whole numbers do not fit into a float.
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def _is_id(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_side(value: Any) -> TypeGuard[float]:
    return _is_number(value) and 0 < value < 2**31 and value == int(value)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
