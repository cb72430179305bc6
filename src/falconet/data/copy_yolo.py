"""A repaired copy of YOLO labels: files where nothing was repaired are the original's, byte by byte."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ruamel.yaml.comments import CommentedMap

from falconet.core.config import read_yaml, yaml_text
from falconet.core.errors import ConfigError, DataError
from falconet.core.files import exists, replace_file
from falconet.data.convert import standard_names
from falconet.data.copy_files import Copier, by_stem, once, relative_names
from falconet.data.dataset import read_text
from falconet.data.repair import Kept, Repaired
from falconet.data.yolo import split_keys
from falconet.data.yolo_labels import MAX_BYTES, label_path
from falconet.data.yolo_lines import KeyPoints, key_points

_DIGITS = 9
"""Significant ones of a fraction that is written anew."""

_UNREAD = ("unknown-class", "unclear-line")
"""Lines that are not read and stay: somebody has to say what they mean."""


def write_yolo_copy(splits: Mapping[str, Repaired], root: Path, copy: Copier) -> None:
    """Writes `data.yaml`, `images/train/`, `labels/train/`, ...; of `data.yaml` the other keys stay.

    Raises:
        DataError: splits that the format has no name for, polygons in labels of another form, or a file that cannot be
            read or written.
    """
    names = standard_names(list(splits))
    first = next(iter(splits.values()))
    tree = _description(first)
    points = key_points(tree, Path(first.dataset.source))
    for key in [key for key in tree if key in split_keys() or key in ("path", "download")]:
        del tree[key]
    tree.update({name: f"images/{name}" for name in names})
    if "names" not in tree or first.classes.names != first.dataset.names:
        tree["names"] = dict(enumerate(first.classes.names))
    if "nc" in tree:
        tree["nc"] = len(first.classes.names)
    for name, repaired in zip(names, splits.values(), strict=True):
        folder = root / "images" / name
        targets = once(relative_names(repaired.paths), by_stem)
        copy.all(repaired.paths, targets, folder)
        for one, target in zip(repaired.pictures, targets, strict=True):
            labels = Path(one.record.source)
            if exists(labels):
                _write_labels(one, repaired, points, label_path(folder / target))
    replace_file(root / "data.yaml", yaml_text(tree))


def _description(repaired: Repaired) -> CommentedMap:
    """The mapping in the data set's YAML file; of the other forms, which have none, an empty one."""
    source = Path(repaired.dataset.source)
    try:
        return read_yaml(source) if repaired.dataset.format == "yolo" else CommentedMap()
    except ConfigError as error:
        raise DataError(str(error)) from error


def _write_labels(one: Kept, repaired: Repaired, points: KeyPoints | None, target: Path) -> None:
    source = Path(one.record.source)
    lines = read_text(source, limit=MAX_BYTES).splitlines()
    unread = {problem.where: problem.kind for problem in repaired.dataset.problems if problem.kind in _UNREAD}
    places = {key: index for index, key in enumerate(one.record.box_keys)}
    written: list[str] = []
    for number, line in enumerate(lines, start=1):
        index = places.get(number)
        if index is not None and one.keep[index]:
            written.append(_repaired_line(line, one, index, repaired, points, f"{source}:{number}"))
        elif index is None and (where := f"{source}:{number}") in unread:
            written.append(_unread_line(line, unread[where], repaired, where))
        elif not line.strip():
            written.append(line)
    target.parent.mkdir(parents=True, exist_ok=True)
    if written == lines:
        shutil.copyfile(source, target)
    else:
        replace_file(target, "".join(f"{line}\n" for line in written))


def _unread_line(line: str, kind: str, repaired: Repaired, where: str) -> str:
    """A line of which nobody knows what it means; its class is still the one that it was."""
    label = int(float(line.split()[0]))
    before, after = repaired.dataset.names, repaired.classes.names
    if kind == "unclear-line":
        new = int(repaired.classes.to_new(before)[label])
        return line if new == label else " ".join([str(new), *line.split()[1:]])
    if 0 <= label < len(after):
        raise DataError(
            f"{where}: class {label} is not listed, and would become '{after[label]}' as the splits have different "
            "classes; correct the line, or add the class to the list"
        )
    return line


def _repaired_line(line: str, one: Kept, index: int, repaired: Repaired, points: KeyPoints | None, where: str) -> str:
    words = line.split()
    label = int(one.labels[index])
    if int(float(words[0])) == label and not one.changed[index]:
        return line
    if int(float(words[0])) != label:
        words[0] = str(label)
    if one.changed[index]:
        words[1:] = _repaired_numbers(words[1:], one, index, repaired, points, where)
    return " ".join(words)


def _repaired_numbers(
    words: list[str], one: Kept, index: int, repaired: Repaired, points: KeyPoints | None, where: str
) -> list[str]:
    if len(words) != 4 and repaired.reread:
        raise DataError(
            f"{where}: has {len(words) + 1} numbers, and the boxes of this data set are written in another form; they "
            "cannot be converted beside polygons or key points. Convert them with the tool that wrote them"
        )
    if len(words) == 4 or (points and points[0]):
        assert one.record.width is not None
        assert one.record.height is not None
        x1, y1, x2, y2 = one.boxes[index].astype(np.float64) / np.array([one.record.width, one.record.height] * 2)
        numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        return [*(f"{value:.{_DIGITS}g}" for value in numbers), *words[4:]]
    # Of a polygon, every point that lies outside moves to the border.
    return [word if 0 <= float(word) <= 1 else f"{min(1.0, max(0.0, float(word))):g}" for word in words]
