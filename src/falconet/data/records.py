"""Opening data sets of any format, and choosing what of them can be used."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from falconet.core import boxes as box_math
from falconet.core.errors import DataError
from falconet.core.images import check_complete
from falconet.core.types import Record
from falconet.data.coco import read_coco
from falconet.data.dataset import DataSet, Format, Problem
from falconet.data.voc import is_voc_root, read_voc, voc_splits
from falconet.data.yolo import find_yolo_yaml, read_yolo, yolo_splits

__all__ = ["DataSet", "Problem", "drop_invalid", "open_dataset", "splits_of"]

TOLERANCE = 0.5
"""Pixels a box may stick out of its picture without mention: rounding of the annotation."""


def drop_invalid(dataset: DataSet) -> tuple[DataSet, list[Problem]]:
    """What training and evaluation can use of a data set, and everything left out or changed, with why.

    Left out are pictures that are missing, truncated or no pictures (seen from header and end of the file, in a
    fraction of a millisecond each; damage in the middle shows only when decoding, see `falconet data check`), and
    boxes that are not finite, have no area or lie wholly outside. Boxes partly outside are cut to the picture. A
    picture that loses its boxes stays, as a picture without boxes. Sizes in the records are those of the files.

    Raises:
        DataError: nothing usable is left.
    """
    problems = list(dataset.problems)
    records: list[Record] = []
    for record, size in zip(dataset.records, sizes_of_files(dataset.records), strict=True):
        if isinstance(size, DataError):
            problems.append(Problem(record.source, f"{size} (picture left out)", file_kind(record)))
            continue
        problems.extend(size_problems(record, size))
        sized = replace(record, height=size[0], width=size[1])
        record_problems, kept = _usable_boxes(dataset, sized)
        problems.extend(record_problems)
        records.append(kept)
    if not records:
        why = f"; the first problem: {problems[0]}" if problems else ""
        raise DataError(f"{dataset.source}: no usable picture{why}. 'falconet data check' lists all problems")
    return dataset.with_records(records), problems


def sizes_of_files(records: Sequence[Record]) -> list[tuple[int, int] | DataError]:
    """(height, width) of each picture as displayed after the cheap check of its file, or what is wrong with it."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_size_of_file, records))


def file_kind(record: Record) -> str:
    """The kind of problem a picture file has that cannot be read."""
    return "broken-file" if record.path.exists() else "missing-file"


def size_problems(record: Record, size: tuple[int, int]) -> list[Problem]:
    """The difference between the annotated size and the file's (height, width) as displayed, if any."""
    if record.height is None or record.width is None or (record.height, record.width) == size:
        return []
    hint = "boxes may belong to another version of the picture"
    if (record.width, record.height) == size:
        hint = "the sides are swapped: boxes may belong to the picture before its EXIF rotation"
    what = f"{record.path.name} is annotated as {record.width} x {record.height} pixels, the file has "
    return [Problem(record.source, f"{what}{size[1]} x {size[0]}; {hint}", "wrong-size")]


def box_problems(dataset: DataSet, record: Record) -> list[tuple[int, Problem]]:
    """(index of the box, problem) for boxes that are not finite, of no area or not inside the picture."""
    found: list[tuple[int, Problem]] = []
    suspects = _suspects(record)
    for index in np.flatnonzero(suspects).tolist():
        kind, what = _what_is_wrong(record, index)
        found.append((index, Problem(dataset.box_source(record, index), what, kind)))
    return found


def _size_of_file(record: Record) -> tuple[int, int] | DataError:
    try:
        return check_complete(record.path)
    except DataError as error:
        return error


def _suspects(record: Record) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    boxes = record.boxes
    with np.errstate(invalid="ignore"):
        good = np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        good &= (boxes[:, :2] >= -TOLERANCE).all(1)
        if record.width is not None and record.height is not None:
            limit = np.array([record.width, record.height], np.float32) + TOLERANCE
            good &= (boxes[:, 2:] <= limit).all(1) & (boxes[:, :2] < limit - TOLERANCE).all(1)
        good &= (boxes[:, 2:] > 0).all(1)
    return np.logical_not(good)


def _what_is_wrong(record: Record, index: int) -> tuple[str, str]:
    x1, y1, x2, y2 = record.boxes[index].tolist()
    text = f"image {record.path.name} has box [{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
    if not np.isfinite(record.boxes[index]).all():
        return "not-finite", f"{text}; expected finite numbers"
    if not (x1 < x2 and y1 < y2):
        return "no-area", f"{text} of no area; expected x1 < x2 and y1 < y2"
    size = "" if record.width is None else f" of {record.width} x {record.height} pixels"
    inside = record.width is None or record.height is None or (x1 < record.width and y1 < record.height)
    if inside and x2 > 0 and y2 > 0:
        return "out-of-image", f"{text} partly outside the picture{size}"
    return "out-of-image", f"{text} wholly outside the picture{size}"


def _usable_boxes(dataset: DataSet, record: Record) -> tuple[list[Problem], Record]:
    problems: list[Problem] = []
    keep = np.ones(len(record.boxes), np.bool_)
    for index, problem in box_problems(dataset, record):
        cut = " partly " in problem.what
        keep[index] = cut
        what = f"{problem.what} ({'cut to it' if cut else 'box left out'})"
        problems.append(problem._replace(what=what))
    if not keep.all():
        record = record.take(keep)
    assert record.height is not None
    assert record.width is not None
    return problems, replace(record, boxes=box_math.clip(record.boxes, height=record.height, width=record.width))


def open_dataset(annotations: Path | str, images: Path | str | None = None, *, split: str | None = None) -> DataSet:
    """The data set that `annotations` describes, in whatever of the three formats it has.

    Args:
        annotations: a COCO `.json` file, or a folder with such files; a Pascal VOC root, its `Annotations` folder
            or a list `ImageSets/Main/x.txt`; a YOLO `.yaml` file or the folder that holds it.
        images: folder of the pictures, where it is not found beside the annotations.
        split: which part: a list in `ImageSets/Main`, a key of the YAML file, or `train` for `train.json` or
            `instances_train*.json` in a folder. None takes all of a VOC or YOLO data set.

    Raises:
        DataError: nothing of the kind is there, or it cannot be read.
    """
    path = Path(annotations)
    folder = None if images is None else Path(images)
    if folder is not None and not folder.exists():
        raise DataError(f"{folder}: no such folder; expected the pictures of {path}")
    kind, path = _find(path, split)
    if kind == "coco":
        return read_coco(path, folder)
    if kind == "voc":
        return read_voc(path, folder, split=split)
    return read_yolo(path, folder, split=split)


def splits_of(annotations: Path | str) -> tuple[str, ...]:
    """Names of the splits that `open_dataset` can take from `annotations`; empty where there is nothing to choose."""
    path = Path(annotations)
    if path.is_dir() and is_voc_root(path):
        return voc_splits(path)
    yaml = find_yolo_yaml(path) if path.is_dir() else path
    if yaml is not None and yaml.suffix.lower() in (".yaml", ".yml"):
        return yolo_splits(yaml)
    return tuple(_coco_files(path)) if path.is_dir() else ()


def _find(path: Path, split: str | None) -> tuple[Format, Path]:
    """The format of the data set at `path`, and the file or folder its reader takes."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a data set in COCO, Pascal VOC or YOLO format")
    if path.is_dir():
        return _find_in_folder(path, split)
    suffix = path.suffix.lower()
    if suffix == ".json":
        if split is not None and split not in path.stem:
            raise DataError(f"{path}: is one split already; give its folder to choose the split '{split}'")
        return "coco", path
    if suffix in (".yaml", ".yml"):
        return "yolo", path
    if suffix == ".txt" and path.parent.name == "Main":
        return "voc", path
    raise DataError(
        f"{path}: not a data set; expected a COCO .json file, a Pascal VOC folder or list in ImageSets/Main, "
        "or a YOLO .yaml file"
    )


def _find_in_folder(folder: Path, split: str | None) -> tuple[Format, Path]:
    if is_voc_root(folder) or next(folder.glob("*.xml"), None) is not None:
        return "voc", folder
    yaml = find_yolo_yaml(folder)
    if yaml is not None:
        return "yolo", yaml
    files = _coco_files(folder)
    if split is not None and split in files:
        return "coco", files[split]
    if split is None and len(files) == 1:
        return "coco", next(iter(files.values()))
    if files:
        wanted = "one of several data sets" if split is None else f"no split '{split}'"
        raise DataError(f"{folder}: holds {wanted}; choose a split: {', '.join(files)}")
    raise DataError(
        f"{folder}: no data set found; expected a COCO .json file, a folder 'Annotations' with Pascal VOC .xml files, "
        "or a YOLO .yaml file with 'names'"
    )


def _coco_files(folder: Path) -> dict[str, Path]:
    """Annotation files in `folder` or its `annotations`, by the name of the split."""
    files = sorted(folder.glob("*.json")) or sorted((folder / "annotations").glob("*.json"))
    files = [file for file in files if file.stem.startswith("instances_")] or files
    names = {file: file.stem.removeprefix("instances_") for file in files}
    short = Counter(name.rstrip("0123456789") for name in names.values())
    # "train" for "instances_train2017.json", unless 2014 lies beside it.
    return {
        name.rstrip("0123456789") if short[name.rstrip("0123456789")] == 1 else name: file
        for file, name in names.items()
    }
