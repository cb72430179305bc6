"""One Pascal VOC annotation file: elements, lines, encodings. Hostile files end in a sentence."""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from falconet.core.files import regular

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_KEPT = frozenset(
    ["filename", "size/width", "size/height", "object/name", "object/difficult"]
    + [f"object/bndbox/{corner}" for corner in CORNERS]
)
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,100}?\sencoding\s*=\s*["']([A-Za-z0-9._:\-]{1,40})["']""")
_NATIVE = frozenset({"utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "iso8859-1"})
"""Encodings the parser knows itself, as Python calls them."""
_NO_CHARACTERS = frozenset({"utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "charmap"})
"""What Python decodes, though no file is written in it; some take time that grows with the square of the length."""
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""What files declared so are written in: the same characters and more."""


class BadFileError(Exception):
    """An annotation file that cannot be used: line (0: the whole file) and why."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


@dataclass(slots=True)
class Object:
    """An `object` element: its line, and texts by path below it."""

    line: int
    values: dict[str, str] = field(default_factory=dict)

    def corners(self) -> list[float] | None:
        """x1, y1, x2, y2; None where one is missing or no number."""
        try:
            return [float(self.values[f"bndbox/{corner}"]) for corner in CORNERS]
        except (KeyError, ValueError):
            return None


@dataclass(slots=True)
class Annotation:
    """What a file says: texts by path below `annotation`, and its objects."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    objects: list[Object] = field(default_factory=list)

    @property
    def file_name(self) -> str:
        """The picture's name, without folders; empty where the file names none."""
        return self.values.get("filename", "").replace("\\", "/").rpartition("/")[2]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width), None where it is not said: many tools write 0 x 0 then."""
        try:
            height, width = (round(float(self.values[f"size/{side}"])) for side in ("height", "width"))
        except (KeyError, ValueError, OverflowError):
            return None
        return (height, width) if height > 0 and width > 0 else None


def parse_annotation(path: Path) -> Annotation:
    """What an annotation file says.

    A DTD or an entity is refused: nothing in this format needs one, and they can blow up a parser.

    Raises:
        BadFileError: unreadable, too large, in an unknown encoding, not XML, no annotation, or hostile.
    """
    annotation = Annotation(path)
    data, encoding = parser_input(path)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    stack: list[str] = []
    text: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        if not stack and tag == "annotations":
            what = "is in CVAT's own form (<annotations>); export from CVAT as COCO, Pascal VOC or YOLO instead"
            raise BadFileError(parser.CurrentLineNumber, what)
        if not stack and tag != "annotation":
            raise BadFileError(parser.CurrentLineNumber, f"starts with <{tag}>; expected <annotation>")
        if len(stack) >= MAX_DEPTH:
            raise BadFileError(parser.CurrentLineNumber, f"nests more than {MAX_DEPTH} elements")
        stack.append(tag)
        text.clear()
        if stack[1:] == ["object"]:
            annotation.objects.append(Object(parser.CurrentLineNumber))

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
        raise BadFileError(parser.CurrentLineNumber, "has a DTD or an entity, which is refused; remove it")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadFileError(error.lineno, f"is not valid XML: {expat.ErrorString(error.code)}") from error
    return annotation


def parser_input(path: Path) -> tuple[bytes, str | None]:
    """The bytes of an annotation file for an XML parser, and the encoding that it is told; None: it finds out.

    Raises:
        BadFileError: unreadable, too large, or in an unknown encoding.
    """
    return _decoded(_read(path))


def _decoded(data: bytes) -> tuple[bytes, str | None]:
    """Bytes for the parser, and the encoding it is told; None leaves it to find out."""
    declared = _DECLARED.match(data.removeprefix(codecs.BOM_UTF8)[:200])
    if declared is None:
        return data, None
    name = declared[1].decode("ascii")
    try:
        known = codecs.lookup(name).name
    except LookupError:
        raise BadFileError(1, f"declares the encoding '{name}', which is unknown; expected UTF-8") from None
    if known == "utf-8" or data.startswith(codecs.BOM_UTF8):
        return data, "utf-8"
    if known in _NATIVE:
        return data, None
    try:
        if known.replace("_", "-") in _NO_CHARACTERS:
            raise LookupError(known)
        return data.decode(_WIDER.get(known, known)).encode(), "utf-8"
    except LookupError:
        raise BadFileError(1, f"declares the encoding '{name}', which is none of texts; expected UTF-8") from None
    except UnicodeError:
        raise BadFileError(0, f"is not in the encoding '{name}' that it declares; expected UTF-8") from None


def _read(path: Path) -> bytes:
    try:
        size = regular(path).stat().st_size
        if size > MAX_BYTES:
            raise BadFileError(0, f"has {size} bytes; the annotation of one picture has at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(0, f"cannot be read: {error.strerror or error}") from error
