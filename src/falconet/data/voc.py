"""Pascal VOC XML (Everingham et al., VOC2012 development kit): one file per picture.

A root folder holds `JPEGImages`, `Annotations` and, perhaps, `ImageSets/Main/{train,val,test}.txt` with one file
stem per line. A folder of XML files alone (pictures beside them or in `JPEGImages` next door) is read likewise.

* Corners are taken as they stand: x1 = xmin, ..., y2 = ymax. The original kit counts pixels from 1 and includes the
  last one, which would ask for xmin - 1; the tools that write this format today (and BCCD) write plain corners,
  also 0, and shifting those by a pixel would be worse than leaving the original half a pixel off.
* `difficult` objects become crowd boxes: ignored by training, not counted by evaluation, as VOC does.
* Class names come from the data, sorted, over all annotation files, so that every split has the same; a
  `classes.txt` or `labels.txt` in the root, one name per line, fixes their order instead.
* A DTD or an entity in a file is refused: nothing in this format needs one, and they can blow up a parser.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from falconet.core.errors import DataError
from falconet.core.images import IMAGE_SUFFIXES
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, make_record, read_text

MAX_BYTES = 64 << 20
SPLITS = ("train", "val", "test")
CLASS_FILES = ("classes.txt", "labels.txt")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_KEPT = frozenset(
    ["filename", "size/width", "size/height", "object/name", "object/difficult"]
    + [f"object/bndbox/{corner}" for corner in _CORNERS]
)


@dataclass(slots=True)
class _Object:
    line: int
    values: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Annotation:
    path: Path
    values: dict[str, str] = field(default_factory=dict)
    objects: list[_Object] = field(default_factory=list)


def is_voc_root(folder: Path) -> bool:
    """Whether `folder` holds Pascal VOC annotations in `Annotations`."""
    return (folder / "Annotations").is_dir()


def voc_splits(root: Path) -> tuple[str, ...]:
    """The splits in `ImageSets/Main`: train, val and test where they exist (trainval joins two of them)."""
    return tuple(split for split in SPLITS if _split_file(root, split).is_file())


def read_voc(path: Path, images: Path | None = None, *, split: str | None = None) -> DataSet:
    """The data set in `path`: a VOC root, a folder of XML files, or a list of stems `ImageSets/Main/x.txt`.

    Args:
        images: folder of the pictures; None means `JPEGImages` of the root, or the folder of the XML files.
        split: name of a list in `ImageSets/Main` (also "trainval"); None reads all annotation files.

    Raises:
        DataError: no annotation file that can be read, an unknown split, no folder of pictures. Single files that
            are not XML or no annotation become problems of the data set.
    """
    root, annotations = _folders(path)
    list_file = path if path.is_file() else None if split is None else _split_file(root, split)
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise DataError(f"{annotations}: holds no .xml files; expected Pascal VOC annotations")
    problems: list[Problem] = []
    stems = None if list_file is None else _read_stems(list_file, root)
    parsed = _parse_all(files, problems)
    names = _class_names(root, list(parsed.values()))
    folder = images if images is not None else _image_folder(root, annotations)
    pictures = _pictures_by_stem(folder)
    chosen = list(parsed) if stems is None else _listed(stems, parsed, annotations, list_file, problems)
    index_of = {name: index for index, name in enumerate(names)}
    records = [_record(parsed[stem], folder, pictures, index_of, problems) for stem in chosen]
    return DataSet(names, tuple(records), str(list_file or path), "voc", tuple(problems))


def _folders(path: Path) -> tuple[Path, Path]:
    """(root, folder of the XML files)."""
    if path.is_file():
        root = path.parents[2] if len(path.parents) > 2 else path.parent
        return root, root / "Annotations"
    if is_voc_root(path):
        return path, path / "Annotations"
    return (path.parent, path) if path.name == "Annotations" else (path, path)


def _split_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _read_stems(list_file: Path, root: Path) -> list[str]:
    if not list_file.is_file():
        known = ", ".join(voc_splits(root)) or "none"
        raise DataError(f"{list_file}: no such split; 'ImageSets/Main' of this data set has: {known}")
    lines = read_text(list_file).splitlines()
    # Per-class lists carry a second column (1, 0, -1), which is not needed here.
    return [line.split()[0] for line in lines if line.strip()]


def _listed(
    stems: Sequence[str],
    parsed: dict[str, _Annotation],
    annotations: Path,
    list_file: Path | None,
    problems: list[Problem],
) -> list[str]:
    chosen: dict[str, None] = {}
    for number, stem in enumerate(stems, start=1):
        where = f"{list_file}:{number}"
        if stem not in parsed and not (annotations / f"{stem}.xml").is_file():
            what = f"'{stem}' has no annotation file {annotations / (stem + '.xml')}; left out"
            problems.append(Problem(where, what, "missing-file"))
        elif stem in chosen:
            problems.append(Problem(where, f"'{stem}' is listed twice; counted once", "duplicate-file"))
        elif stem in parsed:
            chosen[stem] = None
    return list(chosen)


def _class_names(root: Path, annotations: list[_Annotation]) -> tuple[str, ...]:
    for name in CLASS_FILES:
        if (root / name).is_file():
            return tuple(line.strip() for line in read_text(root / name).splitlines() if line.strip())
    found = {entry.values.get("name", "") for annotation in annotations for entry in annotation.objects}
    return tuple(sorted(found - {""}))


def _image_folder(root: Path, annotations: Path) -> Path:
    for folder in (root / "JPEGImages", root / "images"):
        if folder.is_dir():
            return folder
    return annotations


def _pictures_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the pictures of the Pascal VOC data set there")
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}


def _record(
    annotation: _Annotation,
    folder: Path,
    pictures: dict[str, Path],
    index_of: dict[str, int],
    problems: list[Problem],
) -> Record:
    path = annotation.path
    boxes: list[list[float]] = []
    labels: list[int] = []
    crowd: list[bool] = []
    lines: list[int | str] = []
    for entry in annotation.objects:
        where = f"{path}:{entry.line}"
        name = entry.values.get("name", "")
        corners = _corners(entry)
        if not name or corners is None:
            missing = "a 'name'" if not name else "numbers in 'bndbox': xmin, ymin, xmax, ymax"
            problems.append(Problem(where, f"an 'object' lacks {missing}; left out", "bad-annotation"))
        elif name not in index_of:
            what = f"class '{name}' is not in the list of classes ({', '.join(index_of)}); left out"
            problems.append(Problem(where, what, "unknown-class"))
        else:
            boxes.append(corners)
            labels.append(index_of[name])
            crowd.append(entry.values.get("difficult", "0").strip() == "1")
            lines.append(entry.line)
    # Labels of the tools differ in the extension, and copies in the name: the stem decides where both exist.
    file_name = annotation.values.get("filename", "").replace("\\", "/").rpartition("/")[2]
    picture = pictures.get(path.stem) or folder / (file_name or f"{path.stem}.jpg")
    return make_record(
        path.stem,
        picture,
        _size(annotation),
        boxes=boxes,
        labels=labels,
        crowd=crowd,
        source=str(path),
        box_keys=lines,
    )


def _corners(entry: _Object) -> list[float] | None:
    try:
        return [float(entry.values[f"bndbox/{corner}"]) for corner in _CORNERS]
    except (KeyError, ValueError):
        return None


def _size(annotation: _Annotation) -> tuple[int, int] | None:
    # Many tools write 0 x 0 where they do not know the size.
    try:
        height, width = (round(float(annotation.values[f"size/{side}"])) for side in ("height", "width"))
    except (KeyError, ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


class _BadFileError(Exception):
    """An annotation file that cannot be used: line (0: the whole file) and why."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _parse_all(files: list[Path], problems: list[Problem]) -> dict[str, _Annotation]:
    parsed: dict[str, _Annotation] = {}
    for file in files:
        try:
            parsed[file.stem] = _parse(file)
        except _BadFileError as error:
            where = f"{file}:{error.line}" if error.line else str(file)
            problems.append(Problem(where, f"{error}; file and picture left out", "bad-annotation"))
    if not parsed:
        raise DataError(f"{problems[0]}. No other annotation file could be read either")
    return parsed


def _parse(path: Path) -> _Annotation:
    """What an annotation file says, as text by path below `annotation`, one dictionary per object."""
    annotation = _Annotation(path)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    stack: list[str] = []
    text: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        if not stack and tag != "annotation":
            raise _BadFileError(parser.CurrentLineNumber, f"starts with <{tag}>; expected <annotation>")
        stack.append(tag)
        text.clear()
        if stack[1:] == ["object"]:
            annotation.objects.append(_Object(parser.CurrentLineNumber))

    def end(_: str) -> None:
        key = "/".join(stack[1:])
        stack.pop()
        if key in _KEPT:
            value = "".join(text).strip()
            if key.startswith("object/"):
                annotation.objects[-1].values[key.removeprefix("object/")] = value
            else:
                annotation.values[key] = value
        text.clear()

    def refuse(*_: object) -> None:
        raise _BadFileError(parser.CurrentLineNumber, "has a DTD or an entity, which is refused; remove it")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(_read_xml(path), True)
    except expat.ExpatError as error:
        raise _BadFileError(error.lineno, f"is not valid XML: {expat.ErrorString(error.code)}") from error
    return annotation


def _read_xml(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _BadFileError(0, f"has {size} bytes; the annotation of one picture has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise _BadFileError(0, f"cannot be read: {error.strerror or error}") from error
