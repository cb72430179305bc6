"""What the `.json` of a sample says about its picture, in the forms that such sets have.

* Objects in a list, as in COCO: `{"annotations": [{"bbox": [..], "category_id": 3}]}`; `objects` is the same.
* Objects in columns, as in data sets of Hugging Face: `{"objects": {"bbox": [[..]], "category": [3]}}`.
* Columns at the top, as the targets of torchvision: `{"boxes": [[..]], "labels": [3]}`.

`bbox` and `xywh` are left, top, width, height; `boxes` and `xyxy` are left, top, right, bottom; all in pixels.
`bbox_format` beside them says otherwise, by one of the names in `FORMS`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from falconet.core.errors import DataError
from falconet.data.json_files import is_number, is_side, is_text, short
from falconet.data.named_boxes import Corners

LARGEST = 16 << 20
"""Bytes of the description of a picture."""

FORMS: Mapping[str, tuple[str, bool]] = {
    "xywh": ("sides", False),
    "coco": ("sides", False),
    "xyxy": ("corners", False),
    "pascal_voc": ("corners", False),
    "xyxyn": ("corners", True),
    "albumentations": ("corners", True),
    "xywhn": ("sides", True),
    "cxcywh": ("centre", False),
    "cxcywhn": ("centre", True),
    "yolo": ("centre", True),
}
"""Names of box forms: what the four numbers are, and whether they are fractions of the picture."""

_BOXES = {"bbox": "xywh", "xywh": "xywh", "boxes": "xyxy", "xyxy": "xyxy"}
"""Keys of boxes, and their form where nothing says it."""

_CLASSES = (
    "category_name", "class_name", "category", "class", "label", "labels", "name", "category_id", "class_id"
)  # fmt: skip
"""Keys of classes; the first text counts, else the first number."""

_LISTS = ("annotations", "objects")
_FORM_KEYS = ("bbox_format", "box_format")
_CROWD = ("iscrowd", "is_crowd", "difficult")

EXPECTED = (
    "expected 'annotations' or 'objects', each with 'bbox' (left, top, width, height in pixels) and 'category' or "
    "'category_id', or 'boxes' (left, top, right, bottom) with 'labels'; [] where nothing is shown"
)


@dataclass(frozen=True, slots=True)
class Described:
    """What is said about a picture.

    Attributes:
        size: (height, width) as it says, None where it does not.
        boxes: x1, y1, x2, y2 in pixels.
        classes: of each box, its name, or its number where it has no name.
        crowd: of each box.
        areas: in square pixels; None where one of them is not said.
    """

    size: tuple[int, int] | None
    boxes: list[Corners]
    classes: list[str | int]
    crowd: list[bool]
    areas: list[float] | None


def describe(text: bytes, where: str, picture: tuple[int, int]) -> Described:
    """What the `.json` of a sample says.

    Args:
        text: its bytes.
        where: the tar and the member, for messages.
        picture: (height, width) of the picture.

    Raises:
        DataError: it is not JSON, or not of a form that is known.
    """
    tree = parse(text, where)
    if isinstance(tree, list):
        tree = {"annotations": tree}
    if not isinstance(tree, dict):
        raise DataError(f"{where}: is {short(tree)}; {EXPECTED}")
    holders = [key for key in _LISTS if key in tree]
    if len(holders) > 1:
        raise DataError(f"{where}: has 'annotations' and 'objects'; expected one of them")
    columns = [key for key in _BOXES if key in tree]
    if holders and columns:
        raise DataError(f"{where}: has '{holders[0]}', and '{columns[0]}' beside it; expected one of them")
    if not holders and not columns:
        raise DataError(f"{where}: has the keys {short(sorted(map(str, tree)))}; {EXPECTED}")
    holder = tree[holders[0]] if holders else tree
    name = holders[0] if holders else ""
    if isinstance(holder, dict):
        entries = _rows(holder, where, name)
    elif isinstance(holder, list):
        entries = [_entry(one, f"{where}: {name}[{index}]") for index, one in enumerate(holder)]
    else:
        raise DataError(f"{where}: '{name}' is {short(holder)}; {EXPECTED}")
    form = next((found for one in (holder, tree) if (found := _form_of(one, where)) is not None), None)
    made = [_object(one, f"{where}: {name or 'box'}[{index}]", form, picture) for index, one in enumerate(entries)]
    areas = [area for _, _, _, area in made]
    known = [area for area in areas if area is not None]
    height, width = tree.get("height"), tree.get("width")
    return Described(
        (int(height), int(width)) if is_side(height) and is_side(width) else None,
        [box for box, _, _, _ in made],
        [label for _, label, _, _ in made],
        [crowd for _, _, crowd, _ in made],
        known if made and len(known) == len(areas) else None,
    )


def parse(text: bytes, where: str) -> Any:
    """The JSON of a member. Raises DataError where it is none, or has a key twice."""

    def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            raise DataError(f"{where}: an object has a key twice; expected each once, as one would be lost")
        return entry

    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=single)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 text (byte {error.start}); expected JSON") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where}:{error.lineno}:{error.colno}: is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{where}: is not valid JSON for annotations: its lists and objects nest too deep") from error
    except ValueError as error:
        raise DataError(f"{where}: is not valid JSON: {error}") from error


def read_classes(text: bytes, where: str) -> dict[int, str]:
    """Names of classes by their number, from a `classes.txt` (a name per line) or a `classes.json`.

    The latter has a list of names, or of COCO's categories, or names by number.

    Raises:
        DataError: it is none of these.
    """
    if where.lower().endswith(".txt"):
        try:
            lines = text.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: is not UTF-8 text (byte {error.start}); expected a name per line") from error
        names: dict[int, Any] = {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    else:
        tree = parse(text, where)
        tree = tree.get("categories", tree) if isinstance(tree, dict) else tree
        if isinstance(tree, dict):
            names = {int(key): name for key, name in tree.items() if str(key).isdecimal() and len(key) < 10}
            names = names if len(names) == len(tree) else {}
        elif isinstance(tree, list) and all(isinstance(one, dict) for one in tree):
            names = {one["id"]: one.get("name") for one in tree if type(one.get("id")) is int}
            names = names if len(names) == len(tree) else {}
        else:
            names = dict(enumerate(tree)) if isinstance(tree, list) else {}
    if not names or not all(is_text(name) and name for name in names.values()):
        raise DataError(
            f"{where}: is no list of classes; expected a name per line, or in JSON names, COCO's categories with 'id' "
            "and 'name', or names by number"
        )
    if len(set(names.values())) < len(names):
        raise DataError(f"{where}: has a class name twice; expected each once")
    return dict(sorted(names.items()))


def _form_of(holder: Any, where: str) -> str | None:
    """The name of the box form that an object says."""
    found = next((holder[key] for key in _FORM_KEYS if isinstance(holder, dict) and key in holder), None)
    if found is None:
        return None
    if not isinstance(found, str) or found.lower() not in FORMS:
        raise DataError(f"{where}: the form of its boxes is {short(found)}; expected one of {', '.join(FORMS)}")
    return found.lower()


def _entry(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is {short(value)}; expected an object with 'bbox' and 'category'")
    return value


def _rows(columns: dict[str, Any], where: str, name: str) -> list[dict[str, Any]]:
    """Objects whose boxes, classes and so on stand in a list each."""
    beside = f" of '{name}'" if name else ""
    key = next((key for key in _BOXES if key in columns), None)
    if key is None or not isinstance(columns[key], list):
        raise DataError(f"{where}: has no list of boxes{beside}; {EXPECTED}")
    count = len(columns[key])
    used = {one: values for one in (key, *_CLASSES, *_CROWD, "area") if isinstance(values := columns.get(one), list)}
    for one, values in used.items():
        if len(values) != count:
            raise DataError(f"{where}: has {count} in '{key}', but {len(values)} in '{one}'; expected one per box")
    return [{one: values[index] for one, values in used.items()} for index in range(count)]


def _object(
    entry: dict[str, Any], where: str, form: str | None, picture: tuple[int, int]
) -> tuple[Corners, str | int, bool, float | None]:
    """Corners, class, crowd and area of an object."""
    key = next((key for key in _BOXES if key in entry), None)
    if key is None:
        raise DataError(f"{where} has the keys {short(sorted(entry))}; expected its box as 'bbox'")
    numbers = entry[key]
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(is_number(one) for one in numbers):
        raise DataError(f"{where}: '{key}' is {short(numbers)}; expected four numbers")
    shape, relative = FORMS[_form_of(entry, where) or form or _BOXES[key]]
    side = (picture[1], picture[0]) * 2 if relative else (1, 1, 1, 1)
    corners = _CORNERS[shape]([float(number) * factor for number, factor in zip(numbers, side, strict=True)])
    crowd = next((entry[one] for one in _CROWD if one in entry), False)
    if crowd not in (0, 1):
        raise DataError(f"{where}: marks a crowd by {short(crowd)}; expected 0 or 1")
    area = entry.get("area")
    return corners, _class(entry, where), bool(crowd), float(area) if is_number(area) and area > 0 else None


def _class(entry: dict[str, Any], where: str) -> str | int:
    values = [entry[key] for key in _CLASSES if key in entry]
    for value in values:
        if is_text(value) and value:
            return value
    for value in values:
        if type(value) is int:
            return value
    said = short(values[0]) if values else "missing"
    raise DataError(f"{where}: its class is {said}; expected a name as 'category', or a number as 'category_id'")


def _centre(numbers: Sequence[float]) -> Corners:
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _sides(numbers: Sequence[float]) -> Corners:
    left, top, width, height = numbers
    return left, top, left + width, top + height


def _corners(numbers: Sequence[float]) -> Corners:
    left, top, right, bottom = numbers
    return left, top, right, bottom


_CORNERS: Mapping[str, Callable[[Sequence[float]], Corners]] = {"centre": _centre, "sides": _sides, "corners": _corners}
