"""Strict, frozen configuration: pydantic values, YAML files with line numbers, `a.b=c` overrides.

A wrong key or value stops the program before the first picture is read; all mistakes are reported at once,
each with file, line, path and the nearest right name.
"""

import io
import typing
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from falconet.core.config_keys import all_keys, configs_at, fields_at, fields_of, key_types
from falconet.core.errors import ConfigError
from falconet.core.strict import Config as Config
from falconet.core.suggest import did_you_mean
from falconet.core.values import Value

ConfigType = TypeVar("ConfigType", bound=Config)

MOST_BYTES, MOST_NODES, MOST_DEPTH = 16 << 20, 100_000, 64
"""Of a YAML file: its bytes, values, with aliases written out, and lists and mappings within each other."""


def read_yaml(path: Path) -> CommentedMap:
    """The mapping in a YAML file, with line numbers kept.

    Raises:
        ConfigError: unreadable file, broken YAML (with line), duplicate key, no mapping at the top, or more of it than
            any configuration has (`MOST_BYTES`, `MOST_NODES`, `MOST_DEPTH`).
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ConfigError(f"{path}: has {size:,} bytes; expected a YAML file of {MOST_BYTES:,} at most")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> CommentedMap:
    """The mapping in YAML `text`; `name` stands for the file in messages. Errors as in `read_yaml`."""
    try:
        tree = _load(text, name, kind="rt")
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f":{mark.line + 1}"
        problem = (error.problem or str(error)).strip()
        raise ConfigError(f"{name}{line}: is not valid YAML: {problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{name}: is not valid YAML: {error}") from error
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{name}: expected keys and values at the top, but found a {type(tree).__name__}")
    return tree


def _load(text: str, name: str, *, kind: str) -> Any:
    _check_budget(text, name)
    with warnings.catch_warnings():  # YAML allows an anchor to be given again; aliases mean the last one
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        try:
            return YAML(typ=kind, pure=True).load(text)
        except TypeError as error:
            raise YAMLError("a list or a mapping stands where a key is expected") from error
        except ValueError as error:  # dates that are none, numbers of thousands of digits
            raise YAMLError(str(error)) from error


def _check_budget(text: str, name: str) -> None:
    """Raise ConfigError where YAML nests too deep or grows too large, aliases written out, before it is built."""
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    nodes = 0
    for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_}:
                raise ConfigError(f"{name}:{line}: the alias *{event.anchor} lies within what it stands for")
            nodes += sizes.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        elif isinstance(event, CollectionStartEvent):
            open_.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        if len(open_) > MOST_DEPTH:
            raise ConfigError(f"{name}:{line}: nests more than {MOST_DEPTH} lists and mappings")
        if nodes > MOST_NODES:
            raise ConfigError(f"{name}:{line}: holds more than {MOST_NODES:,} values, aliases written out")


def write_yaml(value: Config | dict[str, Any], *, comments: bool = False) -> str:
    """YAML text of a configuration, in the order its fields are declared; lists stand on one line.

    Args:
        comments: put each field's description behind its value.
    """
    return yaml_text(_commented(value, comments=comments))


def yaml_text(tree: CommentedMap) -> str:
    """YAML text of a tree, as `read_yaml` returns it: order, comments and style are kept."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # a long list or text stays on its line
    yaml.representer.add_representer(type(None), _write_null)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _write_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _commented(value: Any, *, comments: bool) -> Any:
    """`value` as ruamel's tree."""
    if isinstance(value, Config | Value):
        tree = CommentedMap()
        plain_values = value.model_dump(mode="json") if isinstance(value, Config) else asdict(cast("Any", value))
        # What chooses the kind stands first, also where the kind inherits its settings.
        for key, (_, description) in sorted(fields_of(type(value)).items(), key=lambda field: field[0] != "name"):
            content = getattr(value, key)
            nested = isinstance(content, Config | Value)
            tree[key] = _commented(content if nested else plain_values[key], comments=comments)
            if comments and description and not nested:
                tree.yaml_add_eol_comment(description, key)
        return tree
    if isinstance(value, dict):
        return CommentedMap({key: _commented(item, comments=comments) for key, item in value.items()})
    if isinstance(value, list | tuple):
        sequence = CommentedSeq([_commented(item, comments=comments) for item in value])
        if not any(isinstance(item, dict | list) for item in sequence):
            sequence.fa.set_flow_style()
        return sequence
    return value


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`tree` with `a.b=c` overrides merged in; values are read as YAML (`1e-3`, `[1, 2]`, `null`, `text`).

    A new `name` chooses another kind of thing, as in `model.backbone.name=ghostnet`: the settings of the old one
    beside it are dropped, wherever among the overrides it stands.

    Raises:
        ConfigError: an override without "=", with an empty key, with a value that is not YAML, or that
            descends into something that is not a mapping.
    """
    for override in sorted(overrides, key=lambda text: not text.partition("=")[0].endswith(".name")):
        path, separator, text = override.partition("=")
        keys = path.split(".")
        if separator and all(keys) and not text.strip():
            raise ConfigError(f"override '{override}': says nothing; expected a value, or {path}=null for none")
        if not separator or not all(keys):
            raise ConfigError(f"override '{override}': expected KEY=VALUE with a dotted key, as in train.epochs=50")
        try:
            value = _load(text, f"override '{path}'", kind="safe")
        except YAMLError as error:
            raise ConfigError(f"override '{override}': the value is not valid YAML") from error
        node: Any = tree
        for depth, key in enumerate(keys[:-1]):
            if node.get(key) is None:
                node[key] = CommentedMap()
            node = node[key]
            if not isinstance(node, dict):
                raise ConfigError(
                    f"override '{override}': {'.'.join(keys[: depth + 1])} is a value, it has no keys below it"
                )
        if keys[-1] == "name" and node.get("name", value) != value:
            node.clear()
        node[keys[-1]] = value
    return tree


def validate(
    kind: type[ConfigType],
    tree: dict[str, Any],
    *,
    name: str = "configuration",
    overrides: Sequence[str] = (),
) -> ConfigType:
    """`tree` as a checked value of `kind`.

    Args:
        name: file name for messages; lines are given where `tree` came from `read_yaml`.
        overrides: the `a.b=c` texts already merged into `tree`, so that a message can name them.

    Raises:
        ConfigError: with every mistake, one per line.
    """
    try:
        return kind.model_validate(plain(tree))
    except ValidationError as error:
        lines = [_describe(kind, tree, detail, name, overrides) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def plain(tree: Any) -> Any:
    """`tree` as plain dicts and lists, without the line numbers."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree


_KEYS = "expected keys and values"

_FEW_PLACES = 2
"""In which a key is known for a message to name them."""

_PLAIN = {
    "path_type": "expected a path",
    "model_type": _KEYS,
    "model_attributes_type": _KEYS,
    "dataclass_type": _KEYS,
    "dict_type": _KEYS,
    "too_short": "expected {min_length} at least",
}
"""Messages of pydantic that speak of Python."""


def _describe(kind: type[Config], tree: Any, detail: Any, name: str, overrides: Sequence[str]) -> str:
    location = _location_in_tree(tree, detail["loc"])
    path = ".".join(str(part) for part in location)
    origin = next((f"override '{o}'" for o in overrides if f"{path}.".startswith(f"{o.partition('=')[0]}.")), None)
    if origin is None:
        line = _line(tree, location)
        origin = name if line is None else f"{name}:{line}"
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{origin}: {path}: unknown key; {_right_key(kind, tree, location)}"
    if detail["type"] == "missing":
        return f"{origin}: {path}: is missing"
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{origin}: {path}: {_wrong_choice(kind, tree, location, detail)}"
    message = _PLAIN[detail["type"]].format(**detail.get("ctx", {})) if detail["type"] in _PLAIN else str(detail["msg"])
    if message == _KEYS and location:
        message = _keys_below(kind, tree, location, detail["input"])
    message = message.removeprefix("Value error, ")
    message = message[:1].lower() + message[1:] if not message[:2].isupper() else message
    value = repr(detail["input"])
    of_several_keys = isinstance(detail["input"], dict)
    if detail["type"] == "value_error" and (of_several_keys or value in message):  # it names them itself
        return ": ".join(filter(None, (origin, path, message)))
    value = value if len(value) <= 60 else value[:57] + "..."
    hint = ""
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        choices = [choice.strip(" '") for choice in str(detail["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        hint = f"; {did_you_mean(detail['input'], choices)}".removesuffix("; ")
    return f"{origin}: {path or 'top level'}: {message}, but got {value}{hint}"


def _right_key(kind: type[Config], tree: Any, location: Sequence[int | str]) -> str:
    """What may be meant by an unknown key: the same word elsewhere, else the nearest one beside it."""
    word, known = str(location[-1]), fields_at(kind, tree, location[:-1])
    same = list(dict.fromkeys(path for path in all_keys(kind, tree) if path.rpartition(".")[2] == word))
    if same and len(same) <= _FEW_PLACES:
        return f"did you mean {' or '.join(map(repr, same))}?"
    return did_you_mean(word, known, cutoff=0.5) or f"expected one of: {', '.join(known)}"


def _keys_below(kind: type[Config], tree: Any, location: Sequence[int | str], value: Any) -> str:
    """What is expected where a value stands in place of keys and values, with the first keys that it would fit."""
    found = {name: what for one in configs_at(kind, tree, location) for name, what in key_types(one).items()}
    if not found:
        return _KEYS
    takes = (int, float) if type(value) is int else (type(value),)
    fitting = [name for name, what in found.items() if what in takes][:1]
    path = ".".join(map(str, location))
    example = "".join(f", as in {path}.{name}={value}" for name in fitting)
    return f"{_KEYS} ({', '.join(found)}){example}"


def _location_in_tree(tree: Any, location: Sequence[int | str]) -> tuple[int | str, ...]:
    """pydantic's location without the union tags it inserts: keeps the parts that lead into the tree."""
    kept: list[int | str] = []
    node = tree
    for index, part in enumerate(location):
        last = index == len(location) - 1
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if in_list or (isinstance(node, dict) and part in node):
            kept.append(part)
            node = node[part]
        elif last and (
            (isinstance(node, list) and isinstance(part, int)) or (isinstance(node, dict) and part != node.get("name"))
        ):
            kept.append(part)
    return tuple(kept)


def _line(tree: Any, location: Sequence[int | str]) -> int | None:
    line: int | None = None
    node = tree
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            if part not in (node.lc.data or {}):
                return None
            line = node.lc.key(part)[0] + 1
            node = node[part]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
            node = node[part]
        else:
            return line
    return line


def _wrong_choice(kind: type[Config], tree: Any, location: Sequence[int | str], detail: Any) -> str:
    """What is wrong with the `name` that should choose a member of a union."""
    names = [
        name for member in configs_at(kind, tree, location) for name in typing.get_args(fields_of(member)["name"][0])
    ]
    expected = f"expected one of {', '.join(map(repr, names))}"
    tag = detail["ctx"].get("tag")
    if tag is None:
        return f"name is missing; {expected}"
    return " ".join(filter(None, (f"there is no '{tag}';", did_you_mean(tag, names), expected)))
