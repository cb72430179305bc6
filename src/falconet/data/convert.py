"""Writing data sets as COCO JSON, Pascal VOC or YOLO.

What a format cannot say is lost: object areas outside COCO, ids of pictures (COCO keeps whole numbers, otherwise
they are numbered), crowd boxes in YOLO (left out and reported). Pictures are copied or linked as they are, never
encoded again.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.config import write_yaml
from falconet.core.errors import DataError
from falconet.core.files import new_folder, replace_file
from falconet.core.tar_index import copy_file, has_member
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, Written
from falconet.data.records import drop_invalid

Transfer = Literal["copy", "link"]
SPLITS = ("train", "val", "test")
_NAMES_FILE = "classes.txt"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def convert(
    splits: Mapping[str, DataSet], to: Written, out: Path, *, transfer: Transfer = "copy"
) -> dict[str, list[Problem]]:
    """Write the splits of a data set to the new folder `out`.

    * "coco": `train.json`, `training/`, `val.json`, `val/`, ...
    * "voc": `Annotations/`, `JPEGImages/`, `ImageSets/Main/train.txt`, ..., `classes.txt`
    * "yolo": `data.yaml`, `images/train/`, `labels/train/`, ...

    Only what is usable is written (see `falconet.data.records.usable`). The folder appears when it is complete.

    Args:
        transfer: "copy" the pictures, or "link" to them (symbolic links).

    Returns:
        For each split, what was left out or changed.

    Raises:
        DataError: `out` holds files already, splits with different classes, names the format cannot hold, nothing
            usable, or a file that cannot be written.
    """
    names = common_names(splits, to)
    written = list(splits) if to == "coco" else standard_names(list(splits))
    refuse_existing(out)
    problems: dict[str, list[Problem]] = {}
    with new_folder(out) as part:
        taken: set[str] = set()
        for (key, dataset), split in zip(splits.items(), written, strict=True):
            chosen, problems[key] = drop_invalid(dataset)
            if to != "voc":
                taken = set()
            files = [_file_name(record, split, taken) for record in chosen.records]
            _transfer_all(chosen, files, part / _image_folder(to, split), transfer)
            if to == "coco":
                _write_coco(chosen, split, files, part)
            elif to == "voc":
                _write_voc(chosen, split, files, part)
            else:
                problems[key] += _write_yolo(chosen, split, files, part)
        if to == "voc":
            replace_file(part / _NAMES_FILE, "".join(f"{name}\n" for name in names))
        elif to == "yolo":
            _write_yolo_yaml(names, written, part)
    return problems


def common_names(splits: Mapping[str, DataSet], to: Written) -> tuple[str, ...]:
    """The class names that all splits have. Raises DataError where they differ, or the format cannot hold them."""
    first, *others = splits.values()
    first.refuse_same_names()
    for other in others:
        if other.names != first.names:
            raise DataError(
                f"{other.source}: has the classes {list(other.names)}, but {first.source} has {list(first.names)}; "
                "convert the splits one by one"
            )
    for name in first.names:
        if to == "voc" and (not name or name != name.strip() or not name.isprintable()):
            raise DataError(f"{first.source}: the class name {name!r} cannot be written as Pascal VOC; rename it")
    return first.names


def standard_names(splits: list[str]) -> list[str]:
    """The splits as VOC and YOLO call them; a data set that is not split becomes "train"."""
    found = [next((known for known in SPLITS if split.startswith(known)), "") for split in splits]
    if len(splits) == 1:
        return [found[0] or "train"]
    if "" in found or len(set(found)) < len(found):
        raise DataError(f"the splits {', '.join(splits)} have no place in this format; convert them one by one")
    return found


def refuse_existing(out: Path) -> None:
    """Raise DataError where `out` is a file or holds any; an empty folder is taken away."""
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists():
        raise DataError(f"{out}: exists already; give a new or an empty folder")


def _file_name(record: Record, split: str, taken: set[str]) -> str:
    """A name no other picture of the folder has, compared without case and ending: labels go by the stem."""
    # Lists of VOC cannot hold blanks at the ends of a name or line ends.
    stem = _CONTROL.sub("_", record.path.stem).strip() or "_"
    own = stem + record.path.suffix.strip()
    candidates = [own, f"{split}_{own}"]
    number = 2
    while True:
        name = candidates.pop(0) if candidates else f"{stem}_{number}{record.path.suffix.strip()}"
        number += not candidates
        label = Path(name).stem.lower()
        if label not in taken:
            taken.add(label)
            return name


def _image_folder(to: Written, split: str) -> Path:
    return {"coco": Path(split), "voc": Path("JPEGImages"), "yolo": Path("images") / split}[to]


def _transfer_all(dataset: DataSet, files: list[str], folder: Path, transfer: Transfer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for record, name in zip(dataset.records, files, strict=True):
        if transfer == "copy":
            copy_file(record.path, folder / name)
        elif has_member(record.path):
            raise DataError(
                f"{record.path}: lies in a tar, so nothing can link to it; copy the pictures (without --link)"
            )
        else:
            (folder / name).symlink_to(os.path.realpath(record.path))


def written_number(value: float) -> float | int:
    """Millionths of a pixel are enough; whole numbers are written as such."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def _write_coco(dataset: DataSet, split: str, files: list[str], root: Path) -> None:
    replace_file(root / f"{split}.json", json.dumps(coco_tree(dataset, files), ensure_ascii=False))


def coco_tree(dataset: DataSet, files: Sequence[str]) -> dict[str, Any]:
    """A data set as a COCO file holds it.

    Args:
        files: name of each record's picture.
    """
    numbered = all(isinstance(record.image_id, int) for record in dataset.records)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position, (record, name) in enumerate(zip(dataset.records, files, strict=True), start=1):
        image_id = record.image_id if numbered else position
        size = {"width": record.width, "height": record.height}
        images.append({"id": image_id, "file_name": name, **size})
        areas = record.areas.tolist() if record.areas is not None else [None] * len(record.boxes)
        boxes, labels, crowd = record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist()
        for box, label, area, is_crowd in zip(boxes, labels, areas, crowd, strict=True):
            result = coco_result(image_id, label, box, digits=6)
            annotations.append(coco_annotation(len(annotations) + 1, result, area=area, crowd=is_crowd))
    return {"images": images, "annotations": annotations, "categories": coco_categories(dataset.names)}


def _write_voc(dataset: DataSet, split: str, files: list[str], root: Path) -> None:
    stems: list[str] = []
    for record, name in zip(dataset.records, files, strict=True):
        stems.append(Path(name).stem)
        replace_file(root / "Annotations" / f"{stems[-1]}.xml", _voc_text(dataset, record, name))
    replace_file(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _voc_text(dataset: DataSet, record: Record, name: str) -> str:
    lines = [
        "<annotation>",
        f"  <filename>{escape(name)}</filename>",
        f"  <size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>",
    ]
    boxes, labels, crowd = record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist()
    for box, label, is_crowd in zip(boxes, labels, crowd, strict=True):
        x1, y1, x2, y2 = (written_number(value) for value in box)
        lines += [
            "  <object>",
            f"    <name>{escape(dataset.names[label])}</name>",
            f"    <difficult>{int(is_crowd)}</difficult>",
            f"    <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _write_yolo(dataset: DataSet, split: str, files: list[str], root: Path) -> list[Problem]:
    problems: list[Problem] = []
    for record, name in zip(dataset.records, files, strict=True):
        assert record.width is not None
        assert record.height is not None
        lines: list[str] = []
        for index, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
            if record.crowd[index]:
                what = "a crowd box has no place in YOLO labels (box left out)"
                problems.append(dataset.box_problem(record, what, "not-expressible", index))
                continue
            centre = (x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height
            sides = (x2 - x1) / record.width, (y2 - y1) / record.height
            lines.append(" ".join([str(record.labels[index]), *(f"{value:.9g}" for value in (*centre, *sides))]))
        replace_file(root / "labels" / split / f"{Path(name).stem}.txt", "".join(f"{line}\n" for line in lines))
    return problems


def _write_yolo_yaml(names: tuple[str, ...], splits: list[str], root: Path) -> None:
    folders = {split: f"images/{split}" for split in splits}
    replace_file(root / "data.yaml", write_yaml({**folders, "names": dict(enumerate(names))}))
