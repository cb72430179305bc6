"""A repaired copy of Pascal VOC annotations: files where nothing was repaired are the original's, byte by byte."""

import filecmp
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from falconet.core.errors import DataError
from falconet.core.files import replace_file
from falconet.data.convert import standard_names, written_number
from falconet.data.copy_files import Copier
from falconet.data.repair import Kept, Repaired
from falconet.data.voc import CLASS_FILES, root_of
from falconet.data.voc_xml import BadFileError, Object, parse_annotation, parser_input

_DIGITS = 3
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def write_voc_copy(splits: Mapping[str, Repaired], root: Path, copy: Copier) -> None:
    """Writes `Annotations/`, `JPEGImages/` and, where there are splits, `ImageSets/Main/train.txt`, ...

    What an annotation says beside boxes, names and sizes stays, in files of which a part was repaired, too.

    Raises:
        DataError: splits that the format has no name for, or a file that cannot be read or written.
    """
    names = ["all"] if list(splits) == ["all"] else standard_names(list(splits))
    (root / "JPEGImages").mkdir()
    (root / "Annotations").mkdir()
    taken: dict[str, str] = {}
    for name, repaired in zip(names, splits.values(), strict=True):
        stems = [_write_picture(one, name, repaired, taken, root, copy) for one in repaired.pictures]
        if name != "all":
            replace_file(root / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
    first = next(iter(splits.values()))
    before = root_of(Path(first.dataset.source))
    if any((before / name).is_file() for name in CLASS_FILES):
        replace_file(root / CLASS_FILES[0], "".join(f"{name}\n" for name in first.classes.names))


def _write_picture(one: Kept, split: str, repaired: Repaired, taken: dict[str, str], root: Path, copy: Copier) -> str:
    """Write annotation and picture, and return their name in lists.

    Args:
        taken: annotation files by the names that the copy has, in small letters.
    """
    source, picture = Path(one.record.source), one.record.path
    name = str(one.record.image_id)
    path = PurePosixPath(name)
    number = 1
    while taken.setdefault(name.lower(), str(source)) != str(source):
        name = str(path.with_name(f"{split}_{path.name}" if number == 1 else f"{split}_{path.name}_{number}"))
        number += 1
    own = path.with_name(picture.name) if name == str(path) else PurePosixPath(f"{name}{picture.suffix}")
    target = root / "JPEGImages" / own
    if target.exists() and not filecmp.cmp(picture, target, shallow=False):
        raise DataError(f"{picture}: another picture of the copy is called {own}, too; rename one of them")
    copy(picture, target)
    annotation = root / "Annotations" / f"{name}.xml"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    if _is_repaired(one, repaired):
        replace_file(annotation, _repaired_text(one, repaired))
    else:
        shutil.copyfile(source, annotation)
    return name


def _is_repaired(one: Kept, repaired: Repaired) -> bool:
    before = [repaired.dataset.names[label] for label in one.record.labels.tolist()]
    renamed = before != [repaired.classes.names[label] for label in one.labels.tolist()]
    bad = any(
        problem.kind == "bad-annotation" and problem.where.startswith(f"{one.record.source}:")
        for problem in repaired.dataset.problems
    )
    nameless = any(problem.kind == "no-file-name" for problem in repaired.dataset.problems)
    if nameless and not parse_annotation(Path(one.record.source)).file_name:
        return True
    return renamed or bad or one.size is not None or not one.keep.all() or bool(one.changed.any())


def _repaired_text(one: Kept, repaired: Repaired) -> str:
    source, names = Path(one.record.source), repaired.dataset.names
    try:
        parsed = parse_annotation(source)
        data, encoding = parser_input(source)
        builder = ElementTree.TreeBuilder(insert_comments=True)
        tree = ElementTree.fromstring(data, ElementTree.XMLParser(target=builder, encoding=encoding))
    except (BadFileError, ElementTree.ParseError) as error:
        raise DataError(f"{source}: cannot be copied with repairs: {error}") from error
    index = 0
    for element, entry in zip(tree.findall("object"), parsed.objects, strict=True):
        if not _is_readable(entry):
            tree.remove(element)
        elif entry.values["name"] in names:  # others are of unlisted classes, and stay
            if one.keep[index]:
                _repair_object(element, one, index, repaired)
            else:
                tree.remove(element)
            index += 1
    assert index == len(one.keep)
    if not parsed.file_name:
        _set(tree, "filename", one.record.path.name)
    if one.size is not None:
        for side, value in zip(("height", "width"), one.size, strict=True):
            _set(tree, f"size/{side}", str(value))
    return ElementTree.tostring(tree, encoding="unicode") + "\n"


def _is_readable(entry: Object) -> bool:
    return bool(entry.values.get("name")) and entry.corners() is not None


def _repair_object(element: ElementTree.Element, one: Kept, index: int, repaired: Repaired) -> None:
    name, new = repaired.dataset.names[one.record.labels[index]], repaired.classes.names[one.labels[index]]
    if name != new:
        _set(element, "name", new)
    if one.changed[index]:
        for corner, value in zip(_CORNERS, one.boxes[index].tolist(), strict=True):
            _set(element, f"bndbox/{corner}", str(written_number(round(value, _DIGITS))))


def _set(element: ElementTree.Element, path: str, text: str) -> None:
    """Set the text of the last element at `path`, which is the one that is read; where there is none, it is made."""
    first, _, rest = path.partition("/")
    found = element.findall(path) or element.findall(first)
    if not found:
        found = [ElementTree.Element(first)]
        found[0].tail = element.text  # stands on a line of its own, as what is there
        objects = (place for place, child in enumerate(element) if child.tag == "object")
        element.insert(next(objects, len(element)), found[0])
    if rest and found[-1].tag == first:
        _set(found[-1], rest, text)
    else:
        found[-1].text = text
