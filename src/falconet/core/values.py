"""Checked values that load without pydantic.

Its import takes 85 ms, where `falconet predict` takes half a second for one image altogether.

As a field of a `Config` such a value is checked by pydantic, by the same limits.
"""

import json
import math
import operator
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, Self

_LIMITS = (("ge", operator.lt, "{} or more"), ("gt", operator.le, "more than {}"), ("le", operator.gt, "{} or less"))


class Value:
    """Base of frozen dataclasses whose fields are checked on creation: ints, floats, texts, literals, tuples, values.

    Raises:
        ValueError: on creation: where, what was expected, what came.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        for one, annotation in _fields(type(self)):
            checked = _checked(getattr(self, one.name), annotation, one.metadata, one.name)
            object.__setattr__(self, one.name, checked)

    @classmethod
    def from_tree(cls, tree: object) -> Self:
        """The value that a mapping from JSON describes. Raises ValueError, for unknown and missing keys as well."""
        return cls(**_known(cls, tree, ""))

    def to_json(self) -> str:
        """JSON text of all fields."""
        return json.dumps(asdict(typing.cast("Any", self)), ensure_ascii=False)


def setting(
    default: Any = MISSING,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    description: str = "",
) -> Any:
    """A field of a `Value` with limits, and a description for run files and their schema."""
    limits = {"ge": ge, "gt": gt, "le": le, "description": description or None}
    return field(default=default, metadata={key: value for key, value in limits.items() if value is not None})


def _fields(kind: Any) -> tuple[tuple[Any, Any], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((one, hints[one.name]) for one in fields(kind))


def _known(kind: Any, tree: object, where: str) -> dict[str, Any]:
    """`tree` as keyword arguments of `kind`.

    The fields are checked in their order, and unknown keys last: a manifest begins with the version of its format, so
    that a file from a newer Falconet is told apart by its version, and not by a key that this one does not know.

    Raises:
        ValueError: a value does not fit, a field that needs one has none, or a key is unknown.
    """
    if not isinstance(tree, Mapping):
        keys = ", ".join(one.name for one, _ in _fields(kind))
        raise ValueError(f"{where or 'top level'}: expected keys and values ({keys}), but got {_short(tree)}")
    prefix = f"{where}." if where else ""
    names = [one.name for one, _ in _fields(kind)]
    for one, annotation in _fields(kind):
        if one.name in tree:
            _checked(tree[one.name], annotation, one.metadata, f"{prefix}{one.name}")
        elif one.default is MISSING:
            raise ValueError(f"{prefix}{one.name}: is missing")
    for key in tree:
        if key not in names:
            raise ValueError(f"{prefix}{key}: unknown key; expected one of: {', '.join(names)}")
    return dict(tree)


def _checked(value: Any, annotation: Any, limits: Mapping[str, Any], where: str) -> Any:
    """`value` as `annotation` has it; of a list a tuple, of a mapping a value."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        kind: Callable[..., Any] = annotation
        if isinstance(value, annotation):
            return value
        tree = _known(annotation, value, where)
        try:
            return kind(**tree)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        if value not in parts or isinstance(value, bool):
            raise ValueError(f"{where}: expected {' or '.join(map(repr, parts))}, but got {_short(value)}")
        return value
    if origin is tuple:
        return _checked_tuple(value, parts, limits, where)
    if annotation is str:
        if not isinstance(value, str):
            raise ValueError(f"{where}: expected a text, but got {_short(value)}")
        return value
    whole = annotation is int
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: expected a {'whole ' if whole else ''}number, but got {_short(value)}")
    for name, wrong, words in _LIMITS:
        if name in limits and wrong(value, limits[name]):
            raise ValueError(f"{where}: expected {words.format(limits[name])}, but got {_short(value)}")
    return value if whole else float(value)


def _checked_tuple(value: Any, parts: tuple[Any, ...], limits: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: expected a list, but got {_short(value)}")
    if parts[-1] is not Ellipsis and len(value) != len(parts):
        raise ValueError(f"{where}: expected {len(parts)} values, but got {len(value)}")
    return tuple(_checked(item, parts[0], limits, f"{where}.{index}") for index, item in enumerate(value))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
