"""The formats of data sets: how each is recognised, which splits it has, and what reads it. A format is one row."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from falconet.core.errors import DataError
from falconet.core.tar_members import PACKED
from falconet.core.terminal import printable
from falconet.data.coco import read_coco
from falconet.data.columns import LazyRecords
from falconet.data.csv_files import CsvKind, csv_kind, read_csv
from falconet.data.dataset import DataSet, Format, Problem
from falconet.data.format_titles import TITLES
from falconet.data.json_files import JsonKind, json_kind
from falconet.data.label_tools import read_createml, read_label_studio, read_labelme
from falconet.data.listing import files_in, first_below, impossible
from falconet.data.shard_names import are_shards, shard_groups
from falconet.data.shards import read_shards
from falconet.data.voc import is_voc_root, is_xml_folder, read_voc, voc_splits
from falconet.data.yolo import (
    darknet_splits,
    find_class_list,
    find_darknet_data,
    find_yolo_yaml,
    labelimg_splits,
    read_darknet,
    read_labelimg,
    read_yolo,
    yolo_splits,
)

Found = Mapping[str, Path]
"""What a reader takes, by the name of the split; under "" where it holds all of them, or cannot be split."""

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PEEKED = 20
"""JSON files of a folder that are looked into; in a folder with a file per picture, these tell."""


class Row(NamedTuple):
    """A format.

    Attributes:
        title: how messages call what can be given.
        find: the data sets of this format in a file or folder; empty where there is none.
        splits: the splits within what `find` found under "".
        read: takes that, the pictures' folder and a split.
    """

    title: str
    find: Callable[[Path], Found]
    splits: Callable[[Path], tuple[str, ...]]
    read: Callable[[Path, Path | None, str | None], DataSet]


def open_dataset(annotations: Path | str, images: Path | str | None = None, *, split: str | None = None) -> DataSet:
    """The data set that `annotations` describes, in whatever format of `FORMATS` it has.

    Args:
        annotations: a file or a folder, see docs/data.md.
        images: folder of the pictures, where it is not found beside the annotations.
        split: which part: a list in `ImageSets/Main`, a key of the YAML file, `train` for `train.json` or
            `instances_train*.json` in a folder, or a folder of that name. None takes all of a VOC or YOLO data set.

    Raises:
        DataError: nothing of the kind is there, or it cannot be read.
    """
    path = Path(annotations)
    folder = None if images is None else Path(images)
    if folder is not None and not folder.exists():
        raise DataError(f"{folder}: no such folder; expected the pictures of {path}")
    row, found = _find(path)
    if "" in found:
        return _with_others(path, row, _nameable(row.read(found[""], folder, split)))
    if split is None and len(found) == 1:
        split = next(iter(found))
    name = split if split is not None and split in found else _SPLITS.get(split or "", "")
    if name not in found:
        wanted = "several data sets" if split is None else f"no split '{split}'"
        how = "(--split, in training data.train.split)"
        raise DataError(f"{path}: holds {wanted}; choose one {how}: {', '.join(found)}")
    return _with_others(path, row, _nameable(row.read(found[name], folder, None)))


def _nameable(dataset: DataSet) -> DataSet:
    """Without pictures whose names are no text: old archives leave such names, and no format can hold them."""
    if isinstance(dataset.records, LazyRecords):  # whoever made the table has looked at the names
        return dataset
    bad = {record.path: why for record in dataset.records if (why := impossible(str(record.path))) is not None}
    if not bad:
        return dataset
    problems = [
        Problem(printable(str(path)), f"the file's name is not UTF-8 ({why}); rename it. Left out", "bad-annotation")
        for path, why in bad.items()
    ]
    kept = tuple(record for record in dataset.records if record.path not in bad)
    return replace(dataset, records=kept, problems=(*dataset.problems, *problems))


def splits_of(annotations: Path | str) -> tuple[str, ...]:
    """Names of the splits that `open_dataset` can take from `annotations`, train first, then val, test and all others;
    empty where there is nothing to choose."""
    path = Path(annotations)
    try:
        row, found = _find(path)
    except DataError:
        # Whoever opens it is told.
        return ()
    return tuple(sorted(row.splits(found[""]) if "" in found else found, key=_order))


def _order(split: str) -> int:
    """What is learnt from comes first, then what decides on weights, then what is only measured on."""
    known = list(dict.fromkeys(_SPLITS.values()))
    name = _SPLITS.get(split, split)
    return known.index(name) if name in known else len(known)


def _find(path: Path) -> tuple[Row, Found]:
    """The row of the data set at `path`, and what its reader takes."""
    titles = f"expected one of: {', '.join(row.title for row in FORMATS.values())}"
    if not path.exists() and not are_shards(path):
        raise DataError(f"{path}: no such file or folder; expected a data set")
    for row in FORMATS.values():
        if found := row.find(path):
            return row, found
    if not path.is_dir():
        raise DataError(f"{path}: not a data set; {titles}")
    if inside := _splits_below(path):
        return inside
    if is_xml_folder(path):
        return FORMATS["voc"], {"": path}
    first = first_below(path, [".json"])
    if first is not None and json_kind(first) == "labelme":
        return FORMATS["labelme"], {"": path}
    if files := _json_files(path):
        # The COCO reader says what it expected.
        return FORMATS["coco"], _by_split(files)
    hint = ""
    if (path / "labels").is_dir() or next(path.glob("*.txt"), None) is not None:
        hint = ". If it holds YOLO label files, write a classes.txt with the names of the classes beside them"
    raise DataError(f"{path}: no data set found; {titles}{hint}")


def _splits_below(path: Path) -> tuple[Row, Found] | None:
    """The row, and the data sets in folders called train, val (valid, validation) and test; None where none holds any.

    Raises:
        DataError: they have different formats, or one holds several.
    """
    inside: dict[str, tuple[Row, Path]] = {}
    for name in _SPLITS:
        found = next(((row, whole) for row in FORMATS.values() if (whole := row.find(path / name))), None)
        if not (path / name).is_dir() or found is None:
            continue
        row, whole = found
        if len(whole) > 1:
            raise DataError(f"{path / name}: holds several data sets ({', '.join(whole)}); give one of them")
        # Where both "val" and "valid" are there, both keep their names.
        inside[_SPLITS[name] if _SPLITS[name] not in inside else name] = (row, next(iter(whole.values())))
    rows = list(dict.fromkeys(row for row, _ in inside.values()))
    if len(rows) > 1:
        raise DataError(f"{path}: its splits have different formats: {', '.join(row.title for row in rows)}; give one")
    return (rows[0], {split: whole for split, (_, whole) in inside.items()}) if rows else None


def _with_others(path: Path, used: Row, dataset: DataSet) -> DataSet:
    """The data set, and a word about annotations of other formats in its folder."""
    if not path.is_dir():
        return dataset
    # A list of classes belongs to any of them.
    rows = [row for form, row in FORMATS.items() if row is not used and form != "labelimg" and _holds(row, path)]
    if not rows or not used.find(path):
        return dataset
    what = f"holds annotations of another format, too, which are not used: {', '.join(row.title for row in rows)}"
    return replace(dataset, problems=(*dataset.problems, Problem(str(path), what, "unused-files")))


def _holds(row: Row, path: Path) -> bool:
    try:
        return bool(row.find(path))
    except DataError:
        # Several, or a broken one: there is something.
        return True


def _whole(path: Path | None) -> Found:
    return {} if path is None else {"": path}


def _voc(path: Path) -> Found:
    if path.is_file():
        return _whole(path if path.suffix.lower() == ".txt" and path.parent.name == "Main" else None)
    xml = any(file.suffix.lower() == ".xml" for file in files_in(path))
    inside = path.name == "Annotations" and is_xml_folder(path)
    return _whole(path if is_voc_root(path) or xml or inside else None)


def _described(*suffixes: str, inside: Callable[[Path], Path | None]) -> Callable[[Path], Found]:
    """Finds files of these endings, and in a folder what `inside` finds there."""

    def find(path: Path) -> Found:
        if path.is_dir():
            return _whole(inside(path))
        return _whole(path if path.suffix.lower() in suffixes or path.name in suffixes else None)

    return find


def _json(kind: JsonKind) -> Callable[[Path], Found]:
    def find(path: Path) -> Found:
        if path.is_file():
            # Of a file that is none of them, the COCO reader says what it expected.
            return _whole(path if path.suffix.lower() == ".json" and (json_kind(path) or "coco") == kind else None)
        files = _json_files(path)
        kinds = {file: json_kind(file) for file in files[:_PEEKED]}
        if kind == "labelme" or (kind == "createml" and len(files) > len(_SPLITS)):
            return _whole(path if kind in kinds.values() else None)
        kinds.update({file: json_kind(file) for file in files[_PEEKED:] if "labelme" not in kinds.values()})
        known = [file for file, found in kinds.items() if found == kind]
        if known and kind == "coco":  # one called like a split, of which nothing can be made out, is no file of others
            known += [file for file, found in kinds.items() if found is None and file.stem in _SPLITS]
        return _by_split([file for file in known if file.stem.startswith("instances_")] or known)

    return find


def _json_files(folder: Path) -> list[Path]:
    for place in (folder, folder / "annotations"):
        files = [file for file in files_in(place) if file.suffix.lower() == ".json"]
        if files:
            return files
    return []


def _csv(kind: CsvKind) -> Callable[[Path], Found]:
    def find(path: Path) -> Found:
        files = [path] if path.is_file() else files_in(path)
        files = [file for file in files if file.suffix.lower() == ".csv" and csv_kind(file) == kind]
        return _whole(path if files else None) if path.is_file() else _by_split(files)

    return find


def _by_split(files: list[Path]) -> Found:
    """Files by the name of the split: "train" for "instances_train2017.json", unless 2014 lies beside it."""
    names = {file: file.stem.removeprefix("instances_") for file in files}
    words = {
        file: [word for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLITS] for file, name in names.items()
    }
    short = {file: name.rstrip("0123456789") for file, name in names.items()}
    # "train" for "oidv6-train-annotations-bbox.csv" likewise.
    short.update(
        {file: _SPLITS[found[0]] for file, found in words.items() if len(found) == 1 and short[file] not in found}
    )
    counts = Counter(short.values())
    return {short[file] if counts[short[file]] == 1 else name: file for file, name in names.items()}


def _no_splits(_: Path) -> tuple[str, ...]:
    return ()


def _unsplit(read: Callable[[Path, Path | None], DataSet]) -> Callable[[Path, Path | None, str | None], DataSet]:
    """A reader of one split, which may be asked for by its name."""

    def read_split(path: Path, images: Path | None, split: str | None) -> DataSet:
        if split is not None and split not in path.stem:
            raise DataError(f"{path}: is one split already; give its folder to choose the split '{split}'")
        return read(path, images)

    return read_split


def _shards(path: Path) -> Found:
    if path.is_dir():
        groups = shard_groups(path)
        return _whole(next(iter(groups.values()))) if len(groups) == 1 else _by_name(groups)
    return _whole(path if are_shards(path) or path.name.lower().endswith(PACKED) else None)


def _by_name(groups: Mapping[str, Path]) -> Found:
    """Patterns by the name of the split, where each is called like one; else all of them are one data set."""
    named = {_SPLITS.get(name.lower(), ""): pattern for name, pattern in groups.items()}
    if "" not in named and len(named) == len(groups):
        return named
    return groups


def _read_shards(path: Path, images: Path | None, split: str | None) -> DataSet:
    if images is not None:
        raise DataError(f"{path}: has its pictures in the tars; leave the folder of pictures ({images}) out")
    return _unsplit(lambda place, _: read_shards([place]))(path, images, split)


FORMATS: Mapping[Format, Row] = {
    "voc": Row(
        TITLES["voc"],
        _voc,
        voc_splits,
        lambda path, images, split: read_voc(path, images, split=split),
    ),
    "yolo": Row(
        TITLES["yolo"],
        _described(".yaml", ".yml", inside=find_yolo_yaml),
        yolo_splits,
        lambda path, images, split: read_yolo(path, images, split=split),
    ),
    "darknet": Row(
        TITLES["darknet"],
        _described(".data", inside=find_darknet_data),
        darknet_splits,
        lambda path, images, split: read_darknet(path, images, split=split),
    ),
    "coco": Row(TITLES["coco"], _json("coco"), _no_splits, _unsplit(read_coco)),
    "label-studio": Row(TITLES["label-studio"], _json("label-studio"), _no_splits, _unsplit(read_label_studio)),
    "createml": Row(TITLES["createml"], _json("createml"), _no_splits, _unsplit(read_createml)),
    "labelme": Row(TITLES["labelme"], _json("labelme"), _no_splits, _unsplit(read_labelme)),
    "csv": Row(TITLES["csv"], _csv("csv"), _no_splits, _unsplit(read_csv)),
    "open-images": Row(TITLES["open-images"], _csv("open-images"), _no_splits, _unsplit(read_csv)),
    "shards": Row(TITLES["shards"], _shards, _no_splits, _read_shards),
    "labelimg": Row(
        TITLES["labelimg"],
        _described("classes.txt", inside=find_class_list),
        labelimg_splits,
        lambda path, images, split: read_labelimg(path, images, split=split),
    ),
}
"""The formats in the order they are looked for: in a folder with several kinds of files the first one counts."""
