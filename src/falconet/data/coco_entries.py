"""What one entry of a COCO JSON says, for the reader that holds the whole file and for the one that does not."""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from falconet.core.errors import DataError
from falconet.data.dataset import Problem
from falconet.data.json_files import is_number, is_side, is_text, json_kind, short
from falconet.data.listing import composed, files_in, unused_among

_CHUNK = 1 << 22
_OVERLAP = 1 << 13
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){1,4096}")')
_NUMBER = re.compile(r"-?[0-9]{1,4000}")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def annotation_key(entry: dict[str, Any], position: int) -> int | str:
    """What messages call an annotation: its id, or its place in the table."""
    key = whole(entry.get("id"))
    return key if is_id(key) else f"at position {position}"


def without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry without its polygons: they are most of a large file, so the peak of memory stays low."""
    entry.pop("segmentation", None)
    return entry


def class_names(
    table: list[dict[str, Any]], path: Path, problems: list[Problem]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Class names in the order of their ids, and the index of each id.

    Raises:
        DataError: an entry without id or name, or ids that are not unique or of two kinds.
    """
    names: dict[Any, str] = {}
    for position, entry in enumerate(table):
        key, name = whole(entry.get("id")), entry.get("name")
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not is_id(key) or not is_text(name) or not name:
            raise DataError(f"{path}: categories[{position}] is {short(entry)}; expected an 'id' and a 'name'")
        if key in names:
            raise DataError(f"{path}: category id {key} is used for '{names[key]}' and for '{name}'; make ids unique")
        if name in names.values():
            problems.append(Problem(f"{path} (category {key})", f"the name '{name}' is used twice", "duplicate-class"))
        names[key] = name
    if len({type(key) for key in names}) > 1:
        raise DataError(f"{path}: category ids are numbers and texts mixed; expected one kind")
    ordered = sorted(names)
    return tuple(names[key] for key in ordered), {key: index for index, key in enumerate(ordered)}


def is_crowd(value: Any) -> bool:
    """Whether `iscrowd` says so; some tools write 1 as a text."""
    return value not in (None, "", "0", "false", "False") and bool(value)


def listed_names(path: Path) -> Iterator[str]:
    """The names of the pictures that a COCO file lists, without folders; the file is searched, not held."""
    with path.open("rb") as stream:
        rest = b""
        while chunk := stream.read(_CHUNK):
            data = rest + chunk
            for match in _FILE_NAME.finditer(data):
                with suppress(ValueError):
                    yield last_part(json.loads(match[1]).replace("\\", "/"))
            rest = data[-_OVERLAP:]


def last_part(name: str) -> str:
    """A picture's name without folders, accents composed."""
    return composed(name.rpartition("/")[2])


def whole(key: Any) -> Any:
    """An id, where whole numbers are written as 1.0 as 1."""
    return int(key) if isinstance(key, float) and key.is_integer() else key


def by_either(keys: Iterable[int | str]) -> dict[int | str, int | str]:
    """The ids, each also by its text or its number where no other id has that."""
    found: dict[int | str, int | str] = {key: key for key in keys}
    for key in list(found):
        if isinstance(key, int):
            found.setdefault(str(key), key)
        elif _WHOLE.fullmatch(key):
            found.setdefault(int(key), key)
    return found


def meant(key: int | str, listed: Mapping[int | str, int]) -> int | str | None:
    """The listed id that `key` means, as `by_either` has it, without a table of both forms.

    Args:
        listed: ids by their places, in their order.
    """
    if key in listed:
        return key
    if isinstance(key, int):
        texts = [text for text in ((str(key),) if key else ("0", "-0")) if _WHOLE.fullmatch(text) and text in listed]
        return min(texts, key=listed.__getitem__, default=None)
    number = int(key) if _NUMBER.fullmatch(key) else None
    return number if number in listed and str(number) == key else None


def file_name(image: dict[str, Any]) -> str:
    """The name of a picture with `/` between folders; empty where it has none."""
    name = image.get("file_name")
    return name.replace("\\", "/") if isinstance(name, str) else ""


def corners_of(value: Any) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2 of a `bbox`, None where it is none."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    for number in value:
        if type(number) is not float and not is_number(number):
            return None
    left, top, width, height = map(float, value)
    return left, top, left + width, top + height


def area_of(value: Any, corners: tuple[float, float, float, float]) -> float:
    """The `area` in square pixels; that of the box where it is no number above 0."""
    if is_number(value) and 0 < value < float("inf"):
        return float(value)
    return max(0.0, corners[2] - corners[0]) * max(0.0, corners[3] - corners[1])


def is_id(value: Any) -> TypeGuard[int | str]:
    """Whether a JSON value can be an id."""
    return (isinstance(value, int) and not isinstance(value, bool)) or is_text(value)


def size_of(image: dict[str, Any], where: str) -> tuple[tuple[int, int] | None, Problem | None]:
    """(height, width) of an entry of 'images', and what is wrong with them."""
    width, height = image.get("width"), image.get("height")
    if is_side(width) and is_side(height):
        return (int(height), int(width)), None
    if (width, height) == (None, None):
        return None, None
    what = f"size is {short(width)} x {short(height)}; expected positive whole numbers. Read from the file"
    return None, Problem(where, what, "wrong-size")


class Listed(Container[str], Protocol):
    """Names that a file lists: a set, or what stands for one."""

    def union(self, *others: Iterable[str]) -> Container[str]: ...


def not_used(path: Path, folders: AbstractSet[Path], taken: Container[str], listed: Listed) -> list[Problem]:
    """Files in the pictures' folders that neither the COCO file `path` nor another one beside it lists.

    Args:
        folders: in which its pictures lie.
        taken: normalised paths of its pictures.
        listed: names in it, without folders, also of pictures that were left out.
    """
    why = ", being listed in no annotation file"
    problems = list(unused_among(folders, taken, path, why, others=listed))
    beside = [file for file in files_in(path.parent) if file.suffix.lower() == ".json" and file != path]
    if problems and (beside := [file for file in beside if json_kind(file) == "coco"]):
        others = listed.union(*map(listed_names, beside))
        problems = list(unused_among(folders, taken, path, why, others=others))
    return problems
