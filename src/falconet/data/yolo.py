"""YOLO: one text file per picture, a YAML file for the data set.

The YAML names the classes (`names`, a list or a mapping index: name), the root (`path`, relative to the YAML file)
and, per split, a folder of pictures, a text file that lists pictures, or a list of those. The label file of
`.../images/a/x.jpg` is `.../labels/a/x.txt` (the last folder called "images" counts), else `x.txt` beside the picture.
A line is `class cx cy width height`, relative to the picture as displayed; a line with a polygon (`class x y x y
x y ...`) counts as the box around it. A picture without label file, or with an empty one, has no boxes.

The format knows no picture sizes, so the header of each picture that has boxes is read.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from falconet.core.config import read_yaml
from falconet.core.errors import ConfigError, DataError
from falconet.core.images import IMAGE_SUFFIXES, image_size
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, make_record, read_text

SPLITS = ("train", "val", "test")
MAX_BYTES = 64 << 20
_ALIASES = {"valid": "val", "validation": "val"}


def find_yolo_yaml(folder: Path) -> Path | None:
    """The YAML file in `folder` that describes a YOLO data set, if there is exactly one."""
    found = [file for pattern in ("*.yaml", "*.yml") for file in sorted(folder.glob(pattern)) if "names" in _tree(file)]
    if len(found) > 1:
        listed = ", ".join(file.name for file in found)
        raise DataError(f"{folder}: holds several data set descriptions ({listed}); give one of them")
    return found[0] if found else None


def yolo_splits(path: Path) -> tuple[str, ...]:
    """The splits that the YAML file names: train, val, test where they are there."""
    return tuple(_sources(_tree(path)))


def read_yolo(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """The data set that the YAML file `path` describes.

    Args:
        images: folder or list of pictures, instead of the one in the YAML file.
        split: "train", "val" or "test"; None joins all that are there.

    Raises:
        DataError: not YAML (with line), no class names, an unknown split, or pictures that are not found.
    """
    tree = _tree(path)
    names = _names(tree, path)
    problems: list[Problem] = []
    records: dict[Path, Record] = {}
    for picture, where in _pictures(path, tree, images, split):
        if picture in records:
            problems.append(Problem(where, f"{picture} is listed twice; counted once", "duplicate-file"))
        else:
            records[picture] = _record(picture, names, problems)
    if not records:
        raise DataError(f"{path}: no pictures found{'' if split is None else f' for the split {split!r}'}")
    problems.extend(_orphans(list(records)))
    return DataSet(names, tuple(_unique_ids(records)), str(path), "yolo", tuple(problems))


def label_path(picture: Path) -> Path:
    """The label file that belongs to a picture."""
    parts = list(picture.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _tree(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError as error:
        raise DataError(str(error)) from error


def _names(tree: dict[str, Any], path: Path) -> tuple[str, ...]:
    names = tree.get("names")
    if isinstance(names, dict):
        keys = sorted(key for key in names if isinstance(key, int))
        if keys != list(range(len(names))):
            raise DataError(f"{path}: 'names' has the keys {list(names)}; expected 0..{len(names) - 1}, each once")
        names = [names[key] for key in keys]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: 'names' is missing or empty; expected the list of class names")
    count = tree.get("nc")
    if count is not None and count != len(names):
        raise DataError(f"{path}: 'nc' is {count}, but 'names' has {len(names)} class names")
    return tuple(str(name) for name in names)


def _sources(tree: dict[str, Any]) -> dict[str, Any]:
    known = {_ALIASES.get(key, key): value for key, value in tree.items() if value}
    return {split: known[split] for split in SPLITS if split in known}


def _pictures(path: Path, tree: dict[str, Any], images: Path | None, split: str | None) -> Iterator[tuple[Path, str]]:
    """Each picture with the place that lists it."""
    if images is not None:
        yield from _expand(images, path, images.parent)
        return
    sources = _sources(tree)
    if split is not None and _ALIASES.get(split, split) not in sources:
        raise DataError(f"{path}: has no split '{split}'; it has: {', '.join(sources) or 'none'}")
    chosen = list(sources) if split is None else [_ALIASES.get(split, split)]
    if not chosen:
        raise DataError(f"{path}: names no pictures; expected 'train' and 'val' with folders or lists of them")
    root = _root(path, tree)
    for name in chosen:
        entries = sources[name] if isinstance(sources[name], list) else [sources[name]]
        for entry in entries:
            yield from _expand(_locate(str(entry), root, path), path, root)


def _root(path: Path, tree: dict[str, Any]) -> Path:
    named = tree.get("path")
    if not named:
        return path.parent
    root = path.parent / str(named)
    # A 'path' that was right on the machine that wrote it is often wrong here: fall back to the YAML's folder.
    return root if root.is_dir() else path.parent


def _locate(entry: str, root: Path, path: Path) -> Path:
    entry = entry.replace("\\", "/")
    # Some exporters write '../train/images' where 'train/images' lies beside the YAML file.
    for candidate in (root / entry, path.parent / entry, path.parent / entry.removeprefix("../")):
        if candidate.exists():
            return candidate
    raise DataError(f"{path}: '{entry}' does not exist below {root}; correct 'path' or the split")


def _expand(source: Path, path: Path, root: Path) -> Iterator[tuple[Path, str]]:
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield file, str(path)
        return
    if source.suffix.lower() != ".txt":
        raise DataError(f"{path}: {source} is neither a folder nor a .txt list of pictures")
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        entry = line.strip().replace("\\", "/")
        if not entry:
            continue
        base = source.parent if entry.startswith("./") else root
        picture = base / entry
        if not picture.exists() and (source.parent / entry).exists():
            picture = source.parent / entry
        yield picture, f"{source}:{number}"


def _record(picture: Path, names: Sequence[str], problems: list[Problem]) -> Record:
    labels_file = label_path(picture)
    boxes: list[list[float]] = []
    labels: list[int] = []
    lines: list[int | str] = []
    size: tuple[int, int] | None = None
    for number, line in _label_lines(labels_file, problems):
        parsed = _parse_line(line, len(names))
        if isinstance(parsed, Problem):
            problems.append(parsed._replace(where=f"{labels_file}:{number}"))
            continue
        labels.append(parsed[0])
        boxes.append(parsed[1])
        lines.append(number)
    if boxes:
        try:
            size = image_size(picture)
        except DataError:
            # Whoever uses or checks the data set reports the picture itself.
            boxes, labels, lines = [], [], []
        else:
            boxes = [[x1 * size[1], y1 * size[0], x2 * size[1], y2 * size[0]] for x1, y1, x2, y2 in boxes]
    return make_record(
        picture.stem,
        picture,
        size,
        boxes=boxes,
        labels=labels,
        crowd=[False] * len(labels),
        source=str(labels_file),
        box_keys=lines,
    )


def _label_lines(file: Path, problems: list[Problem]) -> Iterator[tuple[int, str]]:
    if not file.is_file():
        return
    try:
        text = read_text(file, limit=MAX_BYTES)
    except DataError as error:
        problems.append(Problem(str(file), f"{error}; taken as no boxes", "bad-annotation"))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line


def _parse_line(line: str, num_classes: int) -> tuple[int, list[float]] | Problem:
    """(class, corners 0..1) of a line, or what is wrong with it."""
    words = line.split()
    try:
        numbers = [float(word) for word in words]
        label = int(numbers[0])
    except (ValueError, OverflowError):
        numbers, label = [], 0
    if len(numbers) < 5 or len(numbers) % 2 == 0 or label != numbers[0]:
        shown = line.strip() if len(line) <= 80 else line[:77] + "..."
        what = f"the line is '{shown}'; expected 'class cx cy width height'. Left out"
        return Problem("", what, "bad-annotation")
    if not 0 <= label < num_classes:
        return Problem("", f"class {label} is not one of 0..{num_classes - 1}; left out", "unknown-class")
    if len(numbers) == 5:
        _, cx, cy, width, height = numbers
        return label, [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
    xs, ys = numbers[1::2], numbers[2::2]
    return label, [min(xs), min(ys), max(xs), max(ys)]


def _orphans(pictures: list[Path]) -> Iterator[Problem]:
    """Label files in the folders of used label files that belong to no picture in the folder beside them."""
    used = {label_path(picture) for picture in pictures}
    for picture_folder in dict.fromkeys(picture.parent for picture in pictures):
        label_folder = label_path(picture_folder / "x.jpg").parent
        if label_folder == picture_folder or not label_folder.is_dir():
            continue
        stems = {file.stem for file in picture_folder.iterdir()} if picture_folder.is_dir() else set()
        for file in sorted(label_folder.glob("*.txt")):
            if file not in used and file.stem not in stems and file.name != "classes.txt":
                yield Problem(str(file), f"belongs to no picture in {picture_folder}", "orphan-label")


def _unique_ids(records: dict[Path, Record]) -> Iterator[Record]:
    """Records whose id is the stem of the picture, or its path where two share a stem."""
    counts = Counter(record.image_id for record in records.values())
    for picture, record in records.items():
        yield record if counts[record.image_id] == 1 else replace(record, image_id=picture.as_posix())
