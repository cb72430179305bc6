"""Which keys a configuration has, and where: for messages about those that it does not have."""

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, cast

from falconet.core.strict import Config
from falconet.core.values import Value

Settings = Config | Value


def fields_at(kind: Any, tree: Any, location: Sequence[int | str]) -> list[str]:
    """Field names that are allowed at `location`; of a tagged union, those of the member `tree` names."""
    return sorted({name for candidate in configs_at(kind, tree, location) for name in fields_of(candidate)})


def configs_at(kind: Any, tree: Any, location: Sequence[int | str]) -> list[type[Settings]]:
    """The Config classes of which one may stand at `location`; of a tagged union, the member `tree` names."""
    candidates, node = configs_in(kind), tree
    for part in location:
        if isinstance(part, int):  # of a list, whose members are of one kind
            node = node[part] if isinstance(node, list) and part < len(node) else None
            continue
        candidates = [
            found
            for candidate in _choose(candidates, node)
            if part in fields_of(candidate)
            for found in configs_in(fields_of(candidate)[part][0])
        ]
        node = node.get(part) if isinstance(node, dict) else None
    return _choose(candidates, node)


def _choose(candidates: list[type[Settings]], node: Any) -> list[type[Settings]]:
    """The candidates whose `name` literal is the one `node` carries, or all of them."""
    if not isinstance(node, dict) or "name" not in node:
        return candidates
    fitting = [
        candidate
        for candidate in candidates
        if "name" in fields_of(candidate) and node["name"] in typing.get_args(fields_of(candidate)["name"][0])
    ]
    return fitting or candidates


def fields_of(kind: type[Settings]) -> dict[str, tuple[Any, str | None]]:
    """Annotation and description of each field."""
    if issubclass(kind, Config):
        return {name: (field.annotation, field.description) for name, field in kind.model_fields.items()}
    hints = typing.get_type_hints(kind)
    return {one.name: (hints[one.name], one.metadata.get("description")) for one in fields(cast("Any", kind))}


def configs_in(annotation: Any) -> list[type[Settings]]:
    """The Config classes in a type annotation (through unions, Annotated and lists)."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, Config | Value) else []
    return [found for part in typing.get_args(annotation) for found in configs_in(part)]


def all_keys(kind: Any, tree: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted paths of all keys; of tagged unions, those of the members that `tree` names."""
    for config in configs_at(kind, tree, above):
        for name, (annotation, _) in fields_of(config).items():
            yield ".".join((*above, name))
            if configs_in(annotation):
                yield from all_keys(kind, tree, (*above, name))


def key_types(kind: type[Settings]) -> dict[str, Any]:
    """The plain type of each field, as int; None where it takes several."""
    found = {name: annotation for name, (annotation, _) in fields_of(kind).items()}
    return {name: what if isinstance(what, type) else None for name, what in found.items()}
