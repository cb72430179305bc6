"""YOLO: one text file per picture, and a description of the data set.

Descriptions are a YAML file, darknet's `obj.data` (also CVAT's export), or nothing but a `classes.txt` (labelImg).

The YAML names the classes (`names`, a list or a mapping index: name), the root (`path`, relative to the YAML file)
and, per split, a folder of pictures, a text file that lists pictures, or a list of those.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from falconet.core.config import read_yaml
from falconet.core.errors import ConfigError, DataError
from falconet.core.files import exists, is_folder
from falconet.core.images import is_picture
from falconet.data.dataset import DataSet, Format, Problem, read_text
from falconet.data.image_paths import locate
from falconet.data.listing import files_in, impossible, walk
from falconet.data.yolo_labels import not_used, read_labels
from falconet.data.yolo_lines import KeyPoints, key_points

SPLITS = ("train", "val", "test")
_ALIASES = {"valid": "val", "validation": "val"}
_CLASS_FILES = ("classes.txt", "labels/classes.txt")


def find_yolo_yaml(folder: Path) -> Path | None:
    """The YAML file in `folder` that describes a YOLO data set, if there is exactly one."""
    yamls = [file for file in files_in(folder) if file.suffix.lower() in (".yaml", ".yml")]
    return _only([file for file in yamls if "names" in _tree(file)], folder)


def find_darknet_data(folder: Path) -> Path | None:
    """The file like `obj.data` in `folder`, if there is exactly one."""
    return _only([file for file in files_in(folder) if file.suffix.lower() == ".data" and _is_darknet(file)], folder)


def find_class_list(folder: Path) -> Path | None:
    """The `classes.txt` of a folder of pictures with label files, None where there is none."""
    return next((folder / name for name in _CLASS_FILES if exists(folder / name)), None)


def yolo_splits(path: Path) -> tuple[str, ...]:
    """The splits that the YAML file names: train, val, test where they are there."""
    tree = _tree(path)
    return tuple(_without_absent_test(_sources(tree), path, _root(path, tree), [], None))


def darknet_splits(path: Path) -> tuple[str, ...]:
    """The splits that a file like `obj.data` names."""
    return tuple(_sources(_darknet_tree(path)))


def labelimg_splits(path: Path) -> tuple[str, ...]:
    """The folders train, val and test of the pictures beside a `classes.txt`, where they are there."""
    return tuple(_split_folders(_picture_root(path)))


def read_yolo(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """The data set that the YAML file `path` describes.

    Args:
        images: folder or list of pictures, instead of the one in the YAML file.
        split: "train", "val" or "test"; None joins all that are there.

    Raises:
        DataError: not YAML (with line), no class names, an unknown split, pictures that are not found, or lines that
            may be polygons or key points.
    """
    tree = _tree(path)
    names = _names(tree, path)
    problems: list[Problem] = []
    sources = _without_absent_test(_sources(tree), path, _root(path, tree), problems, split)
    dataset = _read(path, "yolo", names, key_points(tree, path), _root(path, tree), sources, images, split)
    return replace(dataset, problems=(*problems, *dataset.problems))


def read_darknet(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """The data set that a file like `obj.data` describes: lines `names = ...`, `train = ...`, `valid = ...`.

    Paths are those of the folder darknet was started in; their ends are looked for beside `path`.

    Raises:
        DataError: as `read_yolo`.
    """
    tree = _darknet_tree(path)
    names = class_list(_locate(tree.get("names", "names"), path.parent, path))
    return _read(path, "darknet", names, None, path.parent, _sources(tree), images, split)


def read_labelimg(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """Pictures with label files beside them (or in `labels/`, for pictures in `images/`) and a `classes.txt`, `path`.

    Raises:
        DataError: as `read_yolo`.
    """
    root = _picture_root(path)
    sources: dict[str, Any] = {name: folder.name for name, folder in _split_folders(root).items()}
    if not sources or (split is None and images is None):
        images = images or root
    return _read(path, "labelimg", class_list(path), None, root, sources, images, split if sources else None)


def class_list(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one per line; empty lines are skipped.

    Raises:
        DataError: unreadable, or no name in it.
    """
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not names:
        raise DataError(f"{path}: holds no class names; expected one per line")
    return names


def _read(
    path: Path,
    form: Format,
    names: tuple[str, ...],
    points: KeyPoints | None,
    root: Path,
    sources: dict[str, Any],
    images: Path | None,
    split: str | None,
) -> DataSet:
    problems = [
        Problem(str(path), f"the name '{name}' is used twice", "duplicate-class")
        for name, count in Counter(names).items()
        if count > 1
    ]
    listed = _pictures(path, root, sources, images, split, problems)
    records = read_labels(path, listed, len(names), points, problems)
    if not records:
        raise DataError(f"{path}: no pictures found{'' if split is None else f' for the split {split!r}'}")
    everything = set(records)
    if images is None and split is not None:
        everything |= _all_pictures(path, root, sources)
    problems.extend(not_used(records, everything, path))
    return DataSet(names, tuple(records.values()), str(path), form, tuple(problems))


def _only(found: list[Path], folder: Path) -> Path | None:
    if len(found) > 1:
        listed = ", ".join(file.name for file in found)
        raise DataError(f"{folder}: holds several data set descriptions ({listed}); give one of them")
    return found[0] if found else None


def _tree(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)
    except ConfigError as error:
        raise DataError(str(error)) from error


def _darknet_tree(path: Path) -> dict[str, Any]:
    lines = (line.partition("=") for line in read_text(path, limit=1 << 20).splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in lines if equals and value.strip()}


def _is_darknet(file: Path) -> bool:
    try:
        return "names" in _darknet_tree(file)
    except DataError:
        # Other files have this ending, too.
        return False


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
    # Written by hand, the number may be a text.
    if count is not None and str(count) != str(len(names)):
        raise DataError(f"{path}: 'nc' is {count}, but 'names' has {len(names)} class names")
    return tuple(str(name) for name in names)


def split_keys() -> tuple[str, ...]:
    """The keys of a YAML file that name pictures."""
    return (*SPLITS, *_ALIASES)


def _sources(tree: dict[str, Any]) -> dict[str, Any]:
    known = {_ALIASES.get(key, key): value for key, value in tree.items() if value}
    return {split: known[split] for split in SPLITS if split in known}


def _without_absent_test(
    sources: dict[str, Any], path: Path, root: Path, problems: list[Problem], split: str | None
) -> dict[str, Any]:
    """The splits without a "test" that is named but not there, unless it is asked for.

    Roboflow names all three, however many were exported. Whoever trains needs the other two, which stay an error.
    """
    named = sources.get("test")
    if split == "test" or len(sources) < 2 or not isinstance(named, str):
        return sources
    try:
        _locate(named, root, path)
    except DataError:
        what = f"'test' is {named!r}, which does not exist below {root}; the split is left out"
        problems.append(Problem(str(path), what, "missing-file"))
        return {name: source for name, source in sources.items() if name != "test"}
    return sources


def _picture_root(path: Path) -> Path:
    """The folder of the pictures that a `classes.txt` belongs to."""
    folder = path.parent.parent if path.parent.name == "labels" else path.parent
    return folder / "images" if (folder / "images").is_dir() else folder


def _split_folders(root: Path) -> dict[str, Path]:
    names = (*SPLITS, *_ALIASES)
    return {_ALIASES.get(name, name): root / name for name in names if (root / name).is_dir()}


def _pictures(
    path: Path, root: Path, sources: dict[str, Any], images: Path | None, split: str | None, problems: list[Problem]
) -> Iterator[tuple[Path, str]]:
    """Each picture with the place that lists it."""
    if images is not None:
        yield from _expand(images, path, images.parent, problems)
        return
    if split is not None and _ALIASES.get(split, split) not in sources:
        raise DataError(f"{path}: has no split '{split}'; it has: {', '.join(sources) or 'none'}")
    chosen = list(sources) if split is None else [_ALIASES.get(split, split)]
    if not chosen:
        raise DataError(f"{path}: names no pictures; expected 'train' and 'val' with folders or lists of them")
    for name in chosen:
        entries = sources[name] if isinstance(sources[name], list) else [sources[name]]
        for entry in entries:
            yield from _expand(_locate(str(entry), root, path), path, root, problems)


def _all_pictures(path: Path, root: Path, sources: dict[str, Any]) -> set[Path]:
    """The pictures of all splits, as far as they are there."""
    found: set[Path] = set()
    for split in sources:
        try:
            found.update(picture for picture, _ in _pictures(path, root, sources, None, split, []))
        except DataError:
            # Whoever opens that split is told.
            continue
    return found


def _root(path: Path, tree: dict[str, Any]) -> Path:
    named = tree.get("path")
    if not named:
        return path.parent
    root = path.parent / str(named)
    # A 'path' that was right on the machine that wrote it is often wrong here: fall back to the YAML's folder.
    return root if is_folder(root) else path.parent


def _locate(entry: str, root: Path, path: Path) -> Path:
    entry = entry.replace("\\", "/")
    # Some exporters write '../train/images' where 'train/images' lies beside the YAML file, and darknet's paths begin
    # in the folder it was started in.
    parts = [part for part in entry.split("/") if part not in ("", ".", "..")]
    ends = ("/".join(parts[cut:]) for cut in range(len(parts)))
    for candidate in (root / entry, path.parent / entry, *(path.parent / end for end in ends)):
        if exists(candidate) or is_folder(candidate):
            return candidate
    raise DataError(f"{path}: '{entry}' does not exist below {root}; correct 'path' or the split")


def _expand(source: Path, path: Path, root: Path, problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    if source.is_dir():
        yield from ((file, str(path)) for file in walk(source) if is_picture(file))
        return
    if source.suffix.lower() != ".txt":
        raise DataError(f"{path}: {source} is neither a folder nor a .txt list of pictures")
    lines = enumerate(read_text(source).splitlines(), start=1)
    entries = {number: line.strip().replace("\\", "/") for number, line in lines if line.strip()}
    for number, entry in list(entries.items()):
        bad = impossible(entry) if Path(entry).name else "names no file"
        if bad is not None:
            problems.append(Problem(f"{source}:{number}", f"the line {bad}; left out", "bad-annotation"))
            del entries[number]
    found = {number: _listed(entry, source, root) for number, entry in entries.items()}
    if found and not any(map(exists, found.values())):
        located = locate(source, list(dict.fromkeys(entries.values())), root, rest_only=path.suffix.lower() == ".data")
        problems += [problem for problem in located.problems if problem not in problems]
        found = {number: located.paths[entry] for number, entry in entries.items()}
    yield from ((picture, f"{source}:{number}") for number, picture in found.items())


def _listed(entry: str, source: Path, root: Path) -> Path:
    """The picture that a line of the list `source` means."""
    picture = (source.parent if entry.startswith("./") else root) / entry
    return source.parent / entry if not exists(picture) and exists(source.parent / entry) else picture
