"""JSON of labelling tools: Label Studio, labelme, CreateML.

* Label Studio (labelstud.io/guide/export, "JSON" and "JSON-MIN"): a list of tasks. Rectangles count; they are shares of
  the picture in percent, a rotated one counts as the upright box around it. Of several annotations of a task the first
  that was not cancelled counts. Predictions do not.
* labelme (github.com/wkentaro/labelme): a file per picture. Polygons, circles and masks count as the box around them;
  points and lines have none.
* CreateML (developer.apple.com/documentation/createml, "MLObjectDetector.DataSource"): a list of pictures with boxes
  of centre, width and height in pixels, in one file or one per picture.

Class names come from the data, sorted; a `classes.txt` or `labels.txt` beside them fixes their order instead.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from falconet.core.errors import DataError
from falconet.core.files import exists
from falconet.core.images import READABLE, is_any_picture
from falconet.data.dataset import DataSet, Problem
from falconet.data.image_paths import locate
from falconet.data.json_files import is_number, is_side, is_text, json_kind, read_json, short
from falconet.data.listing import Names, impossible, walk
from falconet.data.named_boxes import Corners, NamedBoxes, build, by_path
from falconet.data.voc import class_names

MAX_BYTES = 64 << 20
"""Largest file that describes one picture."""
_PREFIX = 9
"""Length of what Label Studio puts before the name of an uploaded file: eight hexadecimal digits and a dash."""
_AREAS = frozenset({"rectangle", "polygon", "mask", "circle", "rotation"})


def read_label_studio(path: Path, images: Path | None = None) -> DataSet:
    """The data set in a Label Studio export.

    Raises:
        DataError: not JSON, not such an export, or the pictures are not found.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected a list of tasks, as Label Studio exports it")
    problems: list[Problem] = []
    found: dict[str, NamedBoxes] = {}
    for position, task in enumerate(tasks):
        name = _task_picture(task)
        number = short(task.get("id", position)) if isinstance(task, dict) else position
        where = f"{path} (task {number})"
        bad = "names no picture" if not name else impossible(name)
        if bad is not None:
            problems.append(Problem(where, f"the task {bad}: {short(task)}; left out", "bad-annotation"))
        elif name in found:
            problems.append(Problem(where, f"{name} has a task already; the second is left out", "duplicate-file"))
        else:
            found[name] = NamedBoxes(where)
            _add_regions(found[name], _regions(task, where, problems), f"{number}, region", path, problems)
    paths = _upload_paths(path, list(found), images)
    pictures = by_path(found, paths, problems)
    names = class_names(path.parent, _classes(pictures))
    return build(path, "label-studio", pictures, names, problems, key_word="task", relative=True)


def read_labelme(path: Path, images: Path | None = None) -> DataSet:
    """The data set in a folder of labelme's files, or of one of them.

    Raises:
        DataError: no such file can be read.
    """
    files = [path] if path.is_file() else [file for file in walk(path) if file.suffix.lower() == ".json"]
    root = path.parent if path.is_file() else path
    problems: list[Problem] = []
    pictures: dict[Path, NamedBoxes] = {}
    lookup = Names()
    for file in files:
        try:
            tree = read_json(file, limit=MAX_BYTES)
        except DataError as error:
            problems.append(Problem(str(file), f"{error}; file and picture left out", "bad-annotation"))
            continue
        if not isinstance(tree, dict) or not isinstance(tree.get("shapes"), list):
            what = "is no file of labelme, which has 'shapes'; left out"
            problems.append(Problem(str(file), what, "bad-annotation"))
            continue
        picture = _labelme_picture(file, tree, root, images, lookup)
        if picture in pictures:
            what = f"describes {picture}, which {pictures[picture].source} describes already; left out"
            problems.append(Problem(str(file), what, "duplicate-file"))
            continue
        height, width = tree.get("imageHeight"), tree.get("imageWidth")
        size = (int(height), int(width)) if is_side(height) and is_side(width) else None
        pictures[picture] = NamedBoxes(str(file), size)
        for number, shape in enumerate(tree["shapes"], start=1):
            _add_shape(pictures[picture], shape, number, file, problems)
    names = class_names(root, _classes(pictures))
    used = [*files, *(root / name for name in ("classes.txt", "labels.txt"))]
    return build(path, "labelme", pictures, names, problems, key_word="shape", used=used)


def read_createml(path: Path, images: Path | None = None) -> DataSet:
    """The data set in a CreateML file, or in a folder of such files.

    Raises:
        DataError: not JSON, not such a file, or the pictures are not found.
    """
    files = [path] if path.is_file() else [file for file in walk(path) if file.suffix.lower() == ".json"]
    files = [file for file in files if path.is_file() or json_kind(file) == "createml"]
    problems: list[Problem] = []
    found: dict[str, NamedBoxes] = {}
    for file in files:
        entries = read_json(file)
        if not isinstance(entries, list):
            raise DataError(f"{file}: expected a list of pictures with 'image' and 'annotations', as CreateML has it")
        for position, entry in enumerate(entries):
            _add_createml(found, entry, position, file, problems)
    located = locate(files[0] if files else path, list(found), images)
    problems += located.problems
    pictures = by_path(found, located.paths, problems)
    names = class_names(path if path.is_dir() else path.parent, _classes(pictures))
    return build(path, "createml", pictures, names, problems, key_word="image", used=files)


def _classes(pictures: Mapping[Path, NamedBoxes]) -> Iterator[str]:
    return (name for boxes in pictures.values() for name in boxes.classes)


def _text(value: Any) -> str:
    return value if is_text(value) else ""


def _numbers(value: Any, keys: tuple[str, ...]) -> list[float] | None:
    """The numbers under `keys` of an object; None where one is missing or no number."""
    if not isinstance(value, dict) or not all(is_number(value.get(key)) for key in keys):
        return None
    return [float(value[key]) for key in keys]


def _task_picture(task: Any) -> str:
    """The picture of a task: a path with `/`, without address, query and escapes."""
    if not isinstance(task, dict):
        return ""
    data = task.get("data", task)
    texts = [_text(value) for value in (data.values() if isinstance(data, dict) else ())]
    for text in texts:
        address = urlsplit(text.replace("\\", "/")) if "://" in text or "?d=" in text else None
        # Local storage is served as /data/local-files/?d=folder/a.jpg.
        local = parse_qs(address.query).get("d") if address is not None else None
        name = local[0] if local else unquote(address.path if address is not None else text.replace("\\", "/"))
        if is_any_picture(Path(name.replace("\0", ""))):
            return name.lstrip("/")
    return ""


def _regions(task: dict[str, Any], where: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """The regions of the annotation of a task that counts."""
    given = task.get("annotations", task.get("completions"))
    if given is None:
        # JSON-MIN: regions lie under the name of the control, their values beside their labels.
        lists = [value for key, value in task.items() if isinstance(value, list) and key != "predictions"]
        return [{"value": region, **region} for regions in lists for region in regions if isinstance(region, dict)]
    entries = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    valid = [entry for entry in entries if not entry.get("was_cancelled") and isinstance(entry.get("result"), list)]
    what = ""
    if len(valid) > 1:
        what = f"the task has {len(valid)} annotations, of which the first is taken"
    elif entries and not valid:
        what = "the task was skipped; taken as no boxes"
    elif not entries and task.get("predictions"):
        what = "the task has predictions, but no annotation; taken as no boxes"
    if what:
        problems.append(Problem(where, what, "other-annotation"))
    return [region for region in valid[0]["result"] if isinstance(region, dict)] if valid else []


def _add_regions(
    boxes: NamedBoxes, regions: list[dict[str, Any]], prefix: str, path: Path, problems: list[Problem]
) -> None:
    """The rectangles of a picture. Choices, ratings and texts, which are about all of it, have no label of a region.

    Args:
        prefix: stands before the region's id or number in its key.
    """
    bare: dict[str, None] = {}
    for number, region in enumerate(regions, start=1):
        given = region.get("id")
        key = f"{prefix} {given if isinstance(given, int) else _text(given) or number}"
        value = region.get("value")
        value = value if isinstance(value, dict) else {}
        kind = next((name for name in value if name.endswith("labels")), None)
        if kind is None:
            if region.get("type") in ("rectangle", "rectanglelabels"):
                # Its label comes as a region of the same id.
                bare[key] = None
            continue
        what = _add_rectangle(boxes, region, value, kind, key)
        if what:
            problems.append(Problem(f"{path} (task {key})", what, "bad-annotation"))
    for key in (key for key in bare if key not in boxes.keys):
        problems.append(Problem(f"{path} (task {key})", "is a rectangle without a label; left out", "bad-annotation"))


def _add_rectangle(boxes: NamedBoxes, region: dict[str, Any], value: dict[str, Any], kind: str, key: str) -> str | None:
    """Add a labelled region, or say what is wrong with it."""
    labels, numbers = value[kind], _numbers(value, ("x", "y", "width", "height"))
    if kind not in ("rectanglelabels", "labels"):
        return f"is a region of '{kind}', not a rectangle; left out"
    if numbers is None or not isinstance(labels, list) or not labels or not all(map(_text, labels)):
        return f"is {short(region)}; expected x, y, width, height and a label. Left out"
    if len(labels) > 1:
        return f"has the labels {', '.join(labels)}; expected one. Left out"
    corners = _turned(numbers, value.get("rotation"), [region.get("original_width"), region.get("original_height")])
    if corners is None:
        return "is rotated, and 'original_width' and 'original_height' are no sizes; left out"
    boxes.add(corners, labels[0], key)
    return None


def _turned(numbers: list[float], turn: Any, sides: list[Any]) -> Corners | None:
    """The upright box, as fractions, around a rectangle in percent turned about its upper left corner."""
    x, y, width, height = (number / 100 for number in numbers)
    if not is_number(turn) or turn == 0:
        return x, y, x + width, y + height
    if not is_side(sides[0]) or not is_side(sides[1]) or not math.isfinite(turn):
        return None
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # Angles are those of pixels, clockwise.
    across, down = width * sides[0], height * sides[1]
    xs = [x + dx / sides[0] for dx in (0, across * cosine, -down * sine, across * cosine - down * sine)]
    ys = [y + dy / sides[1] for dy in (0, across * sine, down * cosine, across * sine + down * cosine)]
    return min(xs), min(ys), max(xs), max(ys)


def _upload_paths(path: Path, names: list[str], images: Path | None) -> dict[str, Path]:
    """The files of tasks: as Label Studio calls them, or without what it put before the name of an upload."""
    plain = {name: _without_prefix(name) for name in names}
    for called in ({name: name for name in names}, plain):
        try:
            paths = locate(path, list(dict.fromkeys(called.values())), images, rest_only=True).paths
        except DataError:
            continue
        if any(map(exists, paths.values())):
            return {name: paths[called[name]] for name in names}
    return locate(path, names, images, rest_only=True).paths


def _without_prefix(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    prefix = last[:_PREFIX]
    uploaded = len(prefix) == _PREFIX and prefix[-1] == "-" and set(prefix[:-1]) <= set("0123456789abcdef")
    return f"{folder}{slash}{last[_PREFIX:] if uploaded else last}"


def _labelme_picture(file: Path, tree: dict[str, Any], root: Path, images: Path | None, lookup: Names) -> Path:
    said = _text(tree.get("imagePath")).replace("\\", "/")
    last = said.rpartition("/")[2] or f"{file.stem}.jpg"
    base = images if images is not None else file.parent
    # "../set/a.png" is the same picture as "a.png".
    candidates = [Path(os.path.normpath(base / said)), base / said] if said and impossible(said) is None else []
    candidates += [base / last] if impossible(last) is None else []
    candidates += [root / folder / last for folder in ("images", "JPEGImages") if impossible(last) is None]
    for candidate in candidates:
        found = lookup.find(candidate)
        if found is not None:
            return found
    beside = (lookup.find(base / f"{file.stem}{ending}") for ending in (".jpg", *sorted(READABLE)))
    return next((found for found in beside if found is not None), base / f"{file.stem}.jpg")


def _add_shape(boxes: NamedBoxes, shape: Any, number: int, file: Path, problems: list[Problem]) -> None:
    shape = shape if isinstance(shape, dict) else {"shape": shape}
    label, points, kind = _text(shape.get("label")), shape.get("points"), _text(shape.get("shape_type")) or "polygon"
    where = f"{file} (shape {number})"
    if not label or not isinstance(points, list) or not points or not all(map(_is_point, points)):
        what = f"is {short(shape)}; expected a 'label' and 'points' of two numbers. Left out"
        problems.append(Problem(where, what, "bad-annotation"))
        return
    if kind not in _AREAS or len(points) < 2:
        what = f"is a {kind} of {len(points)} points, which has no box; left out"
        problems.append(Problem(where, what, "bad-annotation"))
        return
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    if kind == "circle":
        radius = math.hypot(xs[1] - xs[0], ys[1] - ys[0])
        xs, ys = [xs[0] - radius, xs[0] + radius], [ys[0] - radius, ys[0] + radius]
    boxes.add((min(xs), min(ys), max(xs), max(ys)), label, number)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _add_createml(found: dict[str, NamedBoxes], entry: Any, position: int, file: Path, problems: list[Problem]) -> None:
    known = entry if isinstance(entry, dict) else {}
    name = _text(known.get("image", known.get("imagefilename"))).replace("\\", "/")
    annotations = known.get("annotations", known.get("annotation"))
    bad = "names no picture" if not name else impossible(name)
    if bad is None and not isinstance(annotations, list):
        bad = "has no list 'annotations'"
    if bad is not None:
        what = f"{bad}: {short(entry)}; left out"
        problems.append(Problem(f"{file} (entry {position})", what, "bad-annotation"))
        return
    if name in found:
        what = f"{name} has an entry already; the second is left out"
        problems.append(Problem(f"{file} (entry {position})", what, "duplicate-file"))
        return
    found[name] = NamedBoxes(f"{file} (image {name})")
    for number, annotation in enumerate(annotations or [], start=1):
        label = _text(annotation.get("label")) if isinstance(annotation, dict) else ""
        numbers = _numbers(annotation.get("coordinates"), ("x", "y", "width", "height")) if label else None
        if numbers is None:
            what = f"is {short(annotation)}; expected a 'label' and 'coordinates' x, y, width, height. Left out"
            problems.append(Problem(f"{file} (image {name}, box {number})", what, "bad-annotation"))
            continue
        x, y, width, height = numbers
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        found[name].add(corners, label, f"{name}, box {number}")
