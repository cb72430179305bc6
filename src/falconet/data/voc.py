"""Pascal VOC XML (Everingham et al., VOC2012 development kit): one file per picture.

A root folder holds `JPEGImages`, `Annotations` and, perhaps, `ImageSets/Main/{train,val,test}.txt` with one name per
line. A folder of XML files alone (pictures beside them or in `JPEGImages` next door) is read likewise. Files may lie
in sub-folders; the name of one is then its path without ending, as in `cam1/0001`.

* Corners are taken as they stand: x1 = xmin, ..., y2 = ymax. The original kit counts pixels from 1 and includes the
  last one, which would ask for xmin - 1; the tools that write this format today (and BCCD) write plain corners,
  also 0, and shifting those by a pixel would be worse than leaving the original half a pixel off.
* `difficult` objects become crowd boxes: ignored by training, not counted by evaluation, as VOC does.
* Class names come from the data, sorted, over all annotation files, so that every split has the same; a
  `classes.txt` or `labels.txt` in the root, one name per line, fixes their order instead.
* The picture of an annotation is the one of its name; where there are several, `filename` decides. Without a `filename`
  nothing is lost here, nor without a `size`, which is the picture's then; other readers need both, so both are told.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.images import is_picture
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, make_record, read_text
from falconet.data.listing import composed, first_below, impossible, unused, walk
from falconet.data.voc_xml import Annotation, BadFileError, parse_annotation

SPLITS = ("train", "val", "test")
CLASS_FILES = ("classes.txt", "labels.txt")
_LISTS = (*SPLITS, "trainval")
_NO_CLASS = frozenset({"__ignore__", "_background_"})
"""Lines of labelme's `labels.txt` that are no classes."""

_Pictures = dict[str, list[Path]]
_ANYWHERE = "*/"
"""What stands before the last part of the names of pictures in sub-folders."""


def is_voc_root(folder: Path) -> bool:
    """Whether `folder` holds Pascal VOC annotations in `Annotations`."""
    return (folder / "Annotations").is_dir()


def is_xml_folder(folder: Path) -> bool:
    """Whether XML files lie in `folder` or below it."""
    return first_below(folder, [".xml"]) is not None


def voc_splits(root: Path) -> tuple[str, ...]:
    """The splits in `ImageSets/Main`: train, val and test where they exist (trainval joins two of them)."""
    return tuple(split for split in SPLITS if _split_file(root, split).is_file())


def read_voc(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """The data set in `path`: a VOC root, a folder of XML files, or a list of names `ImageSets/Main/x.txt`.

    Args:
        images: folder of the pictures; None means `JPEGImages` of the root, or the folder of the XML files.
        split: name of a list in `ImageSets/Main` (also "trainval"); None reads all annotation files.

    Raises:
        DataError: no annotation file that can be read, an unknown split, no folder of pictures. Single files that
            are not XML or no annotation become problems of the data set.
    """
    root, annotations = _folders(path)
    list_file = path if path.is_file() else None if split is None else _split_file(root, split)
    below = walk(annotations)
    files = {_name(file, annotations): file for file in below if file.suffix.lower() == ".xml"}
    if not files:
        raise DataError(f"{annotations}: holds no .xml files; expected Pascal VOC annotations")
    problems: list[Problem] = []
    lines = None if list_file is None else _read_lines(list_file, root)
    parsed = _parse_all(files, problems)
    names = class_names(root, (entry.values.get("name", "") for one in parsed.values() for entry in one.objects))
    folder = images if images is not None else _image_folder(root, annotations)
    pictures = _pictures_by_name(folder)
    chosen = list(parsed) if lines is None else _listed(lines, files, parsed, annotations, list_file, problems)
    index_of = {name: index for index, name in enumerate(names)}
    found = {name: _find_picture(name, parsed[name], folder, pictures) for name in parsed}
    records = []
    for name in chosen:
        picture, problem = found[name]
        problems += [] if problem is None else [problem]
        records.append(_record(name, parsed[name], picture, index_of, problems))
    problems += _incomplete([parsed[name] for name in chosen], str(list_file or path))
    if list_file is not None:
        problems += _in_no_list(root, list_file, parsed, annotations)
    used = {picture for picture, _ in found.values()} | set(files.values())
    # The picture of a broken file is not without one.
    used.update(picture for name in files.keys() - parsed.keys() for picture in pictures.get(name, []))
    for place in dict.fromkeys([annotations, folder]):
        rest = [file for file in (below if place == annotations else walk(place)) if file not in used]
        without = [file for file in rest if is_picture(file)]
        problems += unused(place, without, ", having no annotation file")
        own = {root / name for name in CLASS_FILES} if place == root else set()
        problems += unused(place, (file for file in rest if not is_picture(file) and file not in own))
    return DataSet(names, tuple(records), str(list_file or path), "voc", tuple(problems))


def class_names(root: Path, found: Iterator[str]) -> tuple[str, ...]:
    """The classes of data that name them box by box: those in `classes.txt` or `labels.txt`, else the found, sorted."""
    for name in CLASS_FILES:
        if (root / name).is_file():
            lines = (line.strip() for line in read_text(root / name).splitlines())
            return tuple(dict.fromkeys(line for line in lines if line and line not in _NO_CLASS))
    return tuple(sorted(set(found) - {""}))


def root_of(path: Path) -> Path:
    """The root of the data set that `path` (a root, a folder of XML files, or a list) is read from."""
    return _folders(path)[0]


def _folders(path: Path) -> tuple[Path, Path]:
    """(root, folder of the XML files)."""
    if path.is_file():
        root = path.parents[2] if len(path.parents) > 2 else path.parent
        return root, root / "Annotations"
    if is_voc_root(path):
        return path, path / "Annotations"
    return (path.parent, path) if path.name == "Annotations" else (path, path)


def _name(file: Path, folder: Path) -> str:
    """What lists and pictures call a file: its path in `folder` without ending, accents composed."""
    return composed(file.relative_to(folder).with_suffix("").as_posix())


def _split_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _read_lines(list_file: Path, root: Path) -> list[str]:
    if not list_file.is_file():
        known = ", ".join(voc_splits(root)) or "none"
        raise DataError(f"{list_file}: no such split; 'ImageSets/Main' of this data set has: {known}")
    return read_text(list_file).splitlines()


def _meant(line: str, files: Mapping[str, Path]) -> str:
    """The name that a line of a list means: the whole line, blanks and all, or what stands before a flag."""
    name = composed(line.strip().replace("\\", "/"))
    # Lists of one class carry a second column, which is not needed here.
    *before, flag = name.rsplit(maxsplit=1)
    return before[0] if name not in files and before and before[0] in files and flag in ("-1", "0", "1") else name


def _listed(
    lines: list[str],
    files: Mapping[str, Path],
    parsed: Mapping[str, Annotation],
    annotations: Path,
    list_file: Path | None,
    problems: list[Problem],
) -> list[str]:
    chosen: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, where = _meant(line, files), f"{list_file}:{number}"
        if name not in files:
            what = f"'{name}' has no annotation file {annotations / (name + '.xml')}; left out"
            problems.append(Problem(where, what, "missing-file"))
        elif name in chosen:
            problems.append(Problem(where, f"'{name}' is listed twice; counted once", "duplicate-file"))
        elif name in parsed:
            chosen[name] = None
    return list(chosen)


def _in_no_list(root: Path, list_file: Path, parsed: Mapping[str, Annotation], annotations: Path) -> list[Problem]:
    """The annotation files that none of the lists train, val, test and trainval names."""
    lists = [file for file in (_split_file(root, split) for split in _LISTS) if file.is_file()]
    if list_file not in lists:
        # A list of somebody's own, such as one of a class, is a choice.
        return []
    files = {name: annotation.path for name, annotation in parsed.items()}
    named = {_meant(line, files) for file in lists for line in _read_lines(file, root) if line.strip()}
    rest = (file for name, file in files.items() if name not in named)
    return unused(annotations, rest, ", being in none of the lists " + ", ".join(file.name for file in lists))


def _image_folder(root: Path, annotations: Path) -> Path:
    for folder in (root / "JPEGImages", root / "images"):
        if folder.is_dir():
            return folder
    return annotations


def _pictures_by_name(folder: Path) -> _Pictures:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the pictures of the Pascal VOC data set there")
    pictures: defaultdict[str, list[Path]] = defaultdict(list)
    for file in walk(folder):
        if is_picture(file):
            name = _name(file, folder)
            pictures[name].append(file)
            if "/" in name:
                pictures[_ANYWHERE + Path(name).name].append(file)
    return dict(pictures)


def _find_picture(name: str, annotation: Annotation, folder: Path, pictures: _Pictures) -> tuple[Path, Problem | None]:
    """The picture of an annotation, and a word where another might be meant."""
    bad = impossible(annotation.file_name)
    said, last = composed(annotation.file_name) if bad is None else "", Path(name).name
    # Annotations in `cam1/` may belong to pictures that lie together, and the other way round.
    anywhere = _ANYWHERE if name == last else ""
    candidates = pictures.get(name) or pictures.get(last) or pictures.get(anywhere + last) or []
    exact = [picture for picture in candidates if composed(picture.name) == said]
    stem = Path(said).stem
    places = ((Path(name).parent / stem).as_posix(), stem, anywhere + stem)
    named = [picture for place in places for picture in pictures.get(place, []) if composed(picture.name) == said]
    chosen = exact or candidates or named
    if not chosen:
        problem = None if bad is None else Problem(str(annotation.path), f"'filename' {bad}", "bad-annotation")
        return folder / Path(name).parent / (said or f"{last}.jpg"), problem
    others = [picture for picture in (exact[1:] if exact else [*candidates[1:], *named]) if picture != chosen[0]]
    if not others:
        return chosen[0], None
    first, second = (picture.relative_to(folder) for picture in (chosen[0], others[0]))
    what = f"may belong to {first} or to {second} ('filename' is '{said}'); the first is taken"
    return chosen[0], Problem(str(annotation.path), what, "other-picture")


def _record(
    name: str, annotation: Annotation, picture: Path, index_of: Mapping[str, int], problems: list[Problem]
) -> Record:
    path = annotation.path
    boxes: list[list[float]] = []
    labels: list[int] = []
    crowd: list[bool] = []
    lines: list[int | str] = []
    for entry in annotation.objects:
        where = f"{path}:{entry.line}"
        label = entry.values.get("name", "")
        corners = entry.corners()
        if not label or corners is None:
            missing = "a 'name'" if not label else "numbers in 'bndbox': xmin, ymin, xmax, ymax"
            problems.append(Problem(where, f"an 'object' lacks {missing}; left out", "bad-annotation"))
        elif label not in index_of:
            what = f"class '{label}' is not in the list of classes ({', '.join(index_of)}); left out"
            problems.append(Problem(where, what, "unknown-class"))
        else:
            boxes.append(corners)
            labels.append(index_of[label])
            crowd.append(entry.values.get("difficult", "0").strip() == "1")
            lines.append(entry.line)
    return make_record(
        name, picture, annotation.size, boxes=boxes, labels=labels, crowd=crowd, source=str(path), box_keys=lines
    )


def _incomplete(annotations: Sequence[Annotation], source: str) -> Iterator[Problem]:
    """What files leave out that other readers ask for: one word for all of them, as a tool does it everywhere."""
    for kind, what, lacking in (
        (
            "no-size",
            "do not say how large their picture is ('size' is 0 x 0 or missing); it is taken from the picture",
            [one for one in annotations if one.size is None],
        ),
        (
            "no-file-name",
            "do not name their picture ('filename'); the one called like the annotation is taken",
            [one for one in annotations if not one.file_name],
        ),
    ):
        if lacking:
            count = f"{len(lacking)} of {plural(len(annotations), 'annotation file')}"
            yield Problem(source, f"{count} {what}, as in {lacking[0].path.name}", kind)


def _parse_all(files: Mapping[str, Path], problems: list[Problem]) -> dict[str, Annotation]:
    parsed: dict[str, Annotation] = {}
    for name, file in files.items():
        try:
            parsed[name] = parse_annotation(file)
        except BadFileError as error:
            where = f"{file}:{error.line}" if error.line else str(file)
            problems.append(Problem(where, f"{error}; file and picture left out", "bad-annotation"))
    if not parsed:
        raise DataError(f"{problems[0]}. No other annotation file could be read either")
    return parsed
