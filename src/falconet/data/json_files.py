"""JSON as annotation tools write it: reading with errors that name the place, and which tool's it is."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeGuard

from falconet.core.errors import DataError
from falconet.core.files import regular
from falconet.data.dataset import read_text

JsonKind = Literal["coco", "label-studio", "labelme", "createml"]

_HEAD = 1 << 16
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(:?)|[\[\]{}]')
_LABELME = frozenset({"shapes", "imageData", "imagePath"})
_COCO = frozenset({"images", "annotations"})
_LABEL_STUDIO = frozenset({"data", "result", "completed_by", "annotation_id", "original_width", "completions"})


def read_json(path: Path, *, hook: Callable[[dict[str, Any]], Any] | None = None, limit: int | None = None) -> Any:
    """What the JSON file `path` holds.

    Args:
        hook: sees each object as soon as it is read, and returns what stands for it.
        limit: largest number of bytes.

    Raises:
        DataError: unreadable, too large, not JSON (with line and column), nested too deep, or a key twice in an object.
    """

    text = read_text(path, limit=limit)
    if not text.strip():
        raise DataError(f"{path}: is empty; expected JSON")
    try:
        return json.loads(text, object_pairs_hook=single_keys(path, hook))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: is not valid JSON for annotations: its lists and objects nest too deep") from error
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON: {error}") from error


def single_keys(
    path: Path, hook: Callable[[dict[str, Any]], Any] | None = None
) -> Callable[[list[tuple[str, Any]]], Any]:
    """What `json` is to call for each object: refuses a key twice, and asks `hook` what stands for the object."""

    def single(pairs: list[tuple[str, Any]]) -> Any:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
            raise DataError(
                f"{path}: an object has the key {twice[:60]!r} twice; expected each once, as one would be lost"
            )
        return entry if hook is None else hook(entry)

    return single


def json_kind(path: Path) -> JsonKind | None:
    """Which tool's annotations a JSON file holds, by the keys at its start; None where it is none of them."""
    try:
        with regular(path).open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    top, keys = _keys(head.decode("utf-8-sig", errors="ignore"))
    anywhere = frozenset().union(*keys.values())
    first = keys.get(1 if top == "{" else 2, frozenset())
    if top == "{":
        if first & _LABELME:
            return "labelme"
        # The tables of a large file may begin behind its licences.
        return "coco" if first & _COCO or (len(head) == _HEAD and first & {"info", "licenses", "categories"}) else None
    if top == "[":
        if first & _LABEL_STUDIO or (anywhere & _LABEL_STUDIO and "coordinates" not in anywhere):
            return "label-studio"
        return "createml" if first & {"annotations", "annotation"} else None
    return None


def _keys(text: str) -> tuple[str, dict[int, frozenset[str]]]:
    """The first bracket, and the keys of objects by depth."""
    top, depth = "", 0
    keys: dict[int, set[str]] = {}
    for token in _TOKEN.finditer(text):
        what = token[0]
        if what in "[{":
            top = top or what
            depth += 1
        elif what in "]}":
            depth -= 1
        elif token[2]:
            keys.setdefault(depth, set()).add(token[1])
    return top, {level: frozenset(found) for level, found in keys.items()}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a number that fits into a float."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a JSON value is a text that can be written: JSON may hold halves of characters (lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_side(value: Any) -> TypeGuard[float]:
    """Whether a JSON value can be a picture's width or height."""
    return is_number(value) and 0 < value < 2**31 and value == int(value)


def short(value: Any) -> str:
    """A JSON value for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
