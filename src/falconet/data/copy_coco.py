"""A repaired copy of a COCO file: the original's tree, in which only what was repaired is another."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from falconet.core.boxes import area
from falconet.core.files import replace_file
from falconet.core.images import image_size
from falconet.data.coco import Places, places_in
from falconet.data.coco_entries import annotation_key
from falconet.data.convert import coco_tree, written_number
from falconet.data.copy_files import Copier, by_name, is_below, once, relative_names
from falconet.data.json_files import is_number, read_json
from falconet.data.repair import Kept, Repaired

_DIGITS = 3
"""Of a pixel's fraction in numbers that are written anew; float32 has no more in pictures of some thousand pixels."""

_SAME_AREA = 0.01
"""Share by which an area may differ from the box's and still be that of the box."""


def write_coco_copy(repaired: Repaired, split: str, root: Path, copy: Copier) -> None:
    """Writes `SPLIT.json` and the pictures into the folder `SPLIT`.

    Everything in the file that was not repaired stays: segmentations, key points, licences and whatever else. An
    annotation whose box was turned loses its segmentation and key points, which would be wrong.

    Raises:
        DataError: as `read_coco`, or a file cannot be written.
    """
    source = Path(repaired.dataset.source)
    tree: dict[str, Any] = read_json(source)
    places = places_in(tree, source)
    entries = [places.images[one.record.image_id] for one in repaired.pictures]
    names = [str(entry["file_name"]).replace("\\", "/") for entry in entries]
    relative = relative_names(repaired.paths)
    targets = once([name if is_below(name) else own for name, own in zip(names, relative, strict=True)], by_name)
    unlisted = _of_unknown_classes(repaired, tree["annotations"])
    ids = _category_ids(repaired, places, [tree["annotations"][position] for position in unlisted])
    kept = {position: tree["annotations"][position] for position in unlisted}
    for one, entry, target in zip(repaired.pictures, entries, targets, strict=True):
        entry["file_name"] = target
        if one.size is not None:
            entry["height"], entry["width"] = one.size
        for index, position in enumerate(places.positions[one.record.image_id]):
            if one.keep[index]:
                kept[position] = _repaired_annotation(tree["annotations"][position], one, index, ids)
    tree["images"] = entries
    tree["annotations"] = _with_single_ids([kept[position] for position in sorted(kept)])
    if ids is not None:
        tree["categories"] = _category_table(repaired, tree["categories"], ids)
    copy.all(repaired.paths, targets, root / split)
    _write_json(root / f"{split}.json", tree)


def write_as_coco(repaired: Repaired, split: str, root: Path, copy: Copier) -> None:
    """As `write_coco_copy`, of a data set in a format that is not written here."""
    targets = once(relative_names(repaired.paths), by_name)
    records = []
    for one in repaired.pictures:
        height, width = one.size or image_size(one.record.path)
        records.append(dataclasses.replace(one.remaining, height=height, width=width))
    dataset = dataclasses.replace(repaired.dataset.with_records(records), names=repaired.classes.names)
    copy.all(repaired.paths, targets, root / split)
    _write_json(root / f"{split}.json", coco_tree(dataset, targets))


def _of_unknown_classes(repaired: Repaired, annotations: list[dict[str, Any]]) -> list[int]:
    """Positions of annotations whose class is not listed, of pictures that the copy has; they stay as they are."""
    source = repaired.dataset.source
    told = {one.where for one in repaired.dataset.problems if one.kind == "unknown-class"}
    pictures = {str(one.record.image_id) for one in repaired.pictures}
    return [
        position
        for position, entry in enumerate(annotations)
        if f"{source} (annotation {annotation_key(entry, position)})" in told and _id(entry["image_id"]) in pictures
    ]


def _id(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) else str(value)


def _category_ids(repaired: Repaired, places: Places, unlisted: list[dict[str, Any]]) -> list[int | str] | None:
    """Id of each class of the copy; None where every annotation keeps the one it has."""
    shifted = any(one.kind == "shifted-ids" for one in repaired.dataset.problems)
    if repaired.classes.names == repaired.dataset.names:
        return places.categories if shifted else None
    own: dict[str, int | str] = {}
    for name, key in zip(repaired.dataset.names, places.categories, strict=True):
        own.setdefault(repaired.classes.new_name[name], key)
    kept: list[Any] = [own[name] for name in repaired.classes.names if name in own]
    # Classes are read in the order of their ids.
    if len(kept) == len(repaired.classes.names) and all(low < high for low, high in pairwise(kept)):
        return kept
    # Annotations of a class that is not listed must not get one by chance.
    taken = [int(entry["category_id"]) for entry in unlisted if _id(entry["category_id"]).isdecimal()]
    return [max(taken, default=0) + index for index in range(1, len(repaired.classes.names) + 1)]


def _category_table(repaired: Repaired, before: list[dict[str, Any]], ids: list[int | str]) -> list[dict[str, Any]]:
    """The categories of the copy, each with what the original says of the first of that name."""
    entries: dict[str, dict[str, Any]] = {}
    for entry in before:
        entries.setdefault(repaired.classes.new_name[str(entry["name"])], entry)
    names = repaired.classes.names
    return [{**entries.get(name, {}), "id": key, "name": name} for name, key in zip(names, ids, strict=True)]


def _repaired_annotation(entry: dict[str, Any], one: Kept, index: int, ids: list[int | str] | None) -> dict[str, Any]:
    if ids is not None:
        entry["category_id"] = ids[one.labels[index]]
    if one.changed[index]:
        x1, y1, x2, y2 = (round(value, _DIGITS) for value in one.boxes[index].tolist())
        entry["bbox"] = [written_number(value) for value in (x1, y1, x2 - x1, y2 - y1)]
        before, after = area(one.record.boxes[index : index + 1]).item(), area(one.boxes[index : index + 1]).item()
        told = entry.get("area")
        # That of an outline stays, as far as it still fits into the box.
        if is_number(told) and (abs(told - before) <= _SAME_AREA * before or not 0 < told <= after):
            entry["area"] = written_number(round(after, _DIGITS))
        if one.turned:
            entry.pop("segmentation", None)
            entry.pop("keypoints", None)
            entry.pop("num_keypoints", None)
    return entry


def _with_single_ids(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The annotations, of which the later of two with one id gets a new one."""
    keys = [annotation_key(entry, position) for position, entry in enumerate(annotations)]
    highest = max((key for key in keys if isinstance(key, int)), default=0)
    seen: set[int | str] = set()
    for entry, key in zip(annotations, keys, strict=True):
        if key in seen:
            highest += 1
            entry["id"] = highest
        seen.add(key)
    return annotations


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    try:
        replace_file(path, text)
    except UnicodeEncodeError:  # halves of characters, which JSON can say in ASCII only
        replace_file(path, json.dumps(tree))
