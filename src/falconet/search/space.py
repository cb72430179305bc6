"""What `falconet fit` chooses from: families of networks, each a preset with values that its settings may take.

A space is a table of YAML (`falconet fit --print-space`). After MnasNet's (arXiv:1807.11626, section 4.1) a choice may
be made for each stage of a backbone alone, as in `backbone.rows.2.expansion: [3, 6]`.
"""

import copy
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from falconet.core.config import Config, parse_yaml, read_yaml, validate
from falconet.core.errors import ConfigError
from falconet.core.suggest import did_you_mean
from falconet.models import PRESETS, ModelConfig
from falconet.models.backbones.mbconv import Row
from falconet.models.widths import narrower

STEP = 32
"""Pixels that the sides of an input are multiples of: a cell of the coarsest usual level."""

Share = float


class Family(Config):
    """Networks that differ in a few settings."""

    name: str = Field(min_length=1, description="what its members are called")
    preset: str = Field(description="that they are variants of, see 'falconet models'")
    share: tuple[Share, ...] = Field(
        default=(1.0,),
        min_length=1,
        description="of the channels; a narrower network is filled with the trained weights of the whole one",
    )
    model: dict[str, Any] = Field(
        default={}, description="settings of the model instead of the preset's, by dotted key, as backbone.width: 0.5"
    )
    choices: dict[str, tuple[Any, ...]] = Field(
        default={}, description="the values that a setting may take, by dotted key, as neck.channels: [64, 96]"
    )
    sample: int = Field(
        default=16, ge=1, le=10_000, description="members at most; of more, so many are drawn by the seed"
    )

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str) -> str:
        if preset not in PRESETS:
            hint = did_you_mean(preset, PRESETS) or f"expected one of {', '.join(PRESETS)}"
            raise ValueError(f"'{preset}' is not a detector's preset; {hint}")
        return preset

    @field_validator("share")
    @classmethod
    def _is_share(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value <= 1 for value in values):
            raise ValueError("expected shares above 0, at most 1")
        return values

    @field_validator("choices")
    @classmethod
    def _not_empty(cls, choices: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        if empty := [key for key, values in choices.items() if not values]:
            raise ValueError(f"{empty[0]}: has no values to choose from")
        return choices


class Space(Config):
    """What is searched."""

    sides: tuple[int, ...] = Field(
        default=(192, 224, 256, 288, 320, 352, 384, 416, 448, 480, 512, 544, 576, 608, 640),
        min_length=1,
        description="longer side of the input, pixels",
    )
    form: Literal["auto", "square"] = Field(
        default="auto", description="auto: a rectangle like the pictures, where most of them have one form"
    )
    families: tuple[Family, ...]

    @field_validator("sides")
    @classmethod
    def _multiples(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [side for side in sides if side % STEP or side < 64]:
            raise ValueError(f"{wrong[0]}: expected multiples of {STEP} from 64 on")
        return tuple(sorted(set(sides)))

    @model_validator(mode="after")
    def _names_differ(self) -> "Space":
        if not self.families:
            raise ValueError("families: expected one at least")
        names = [family.name for family in self.families]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two families are called '{twice[0]}'")
        return self


@dataclass(frozen=True, slots=True)
class Shape:
    """A network without the size of its input.

    Attributes:
        name: of the family and what was chosen.
        family: its name.
        preset: whose recipe trains it.
        model: its configuration, at the preset's input size.
        whole: the configuration whose trained weights fill it: its own, or that of the wider network.
    """

    name: str
    family: str
    preset: str
    model: ModelConfig
    whole: ModelConfig

    def at(self, size: tuple[int, int]) -> ModelConfig:
        """The network for an input of (height, width) pixels."""
        return at_size(self.model, size)


def at_size(model: ModelConfig, size: tuple[int, int]) -> ModelConfig:
    """`model` for an input of (height, width) pixels."""
    return model.model_copy(update={"input": replace(model.input, height=size[0], width=size[1])})


def default_text() -> str:
    """The space that is searched where none is given, as YAML."""
    return files("falconet.search").joinpath("space.yaml").read_text(encoding="utf-8")


def read_space(path: Path | None) -> Space:
    """The space in a file, or the default one.

    Raises:
        ConfigError: every mistake, with its line.
    """
    tree = parse_yaml(default_text(), "space.yaml") if path is None else read_yaml(path)
    space = validate(Space, tree, name=str(path or "space.yaml"))
    if path is not None:
        try:
            shapes(space, seed=0)
        except ConfigError as error:
            raise ConfigError(f"{path}: {str(error).removeprefix('space: ')}") from error
    return space


def shapes(space: Space, *, seed: int) -> list[Shape]:
    """All networks of a space, or of large families those that are drawn; the same for a seed.

    Raises:
        ConfigError: a setting that is none, or a value that it cannot take.
    """
    return [shape for family in space.families for shape in _members(family, seed)]


def _members(family: Family, seed: int) -> Iterator[Shape]:
    base = PRESETS[family.preset]
    tree = base.model_dump(mode="json")
    for key, value in family.model.items():
        _set(tree, key, value, family.name)
    seen: set[str] = set()
    for share, values in _drawn(family, seed):
        own = copy.deepcopy(tree)
        for key, value in values.items():
            _set(own, key, value, family.name)
        whole = _validated(type(base), own, family.name, values)
        model = whole if share == 1 else narrower(whole, share)
        if model.model_dump_json() in seen:
            continue
        seen.add(model.model_dump_json())
        yield Shape(_title(family.name, share, values), family.name, family.preset, model, whole)


def _drawn(family: Family, seed: int) -> list[tuple[float, dict[str, Any]]]:
    """Combinations of share and choices: all, or `family.sample` of them."""
    axes: list[Sequence[Any]] = [family.share, *family.choices.values()]
    if prod(map(len, axes)) <= family.sample:
        combinations = list(product(*axes))
    else:
        chance = random.Random(f"{seed} {family.name}")
        found: dict[tuple[int, ...], None] = {}
        while len(found) < family.sample:
            found[tuple(chance.randrange(len(axis)) for axis in axes)] = None
        combinations = [tuple(axis[place] for axis, place in zip(axes, one, strict=True)) for one in found]
    return [(share, dict(zip(family.choices, values, strict=True))) for share, *values in combinations]


def _set(tree: Any, key: str, value: Any, family: str) -> None:
    """Put `value` in the place of a dotted key; the columns of a backbone's rows go by the names of `Row`.

    Raises:
        ConfigError: there is no such place.
    """
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = _step(node, part, key, family)
    if isinstance(node, list):
        node[_place(node, last, key, family)] = value
        return
    if not isinstance(node, dict):
        raise ConfigError(f"space: family {family}: {key}: there is nothing below {'.'.join(parents)}")
    if last == "name" and node.get("name", value) != value:
        node.clear()
    node[last] = value


def _step(node: Any, part: str, key: str, family: str) -> Any:
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, list):
        return node[_place(node, part, key, family)]
    hint = did_you_mean(part, node) if isinstance(node, dict) else ""
    raise ConfigError(f"space: family {family}: {key}: there is no {part}; {hint}".removesuffix("; "))


def _place(node: list[Any], part: str, key: str, family: str) -> int:
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    if part in Row._fields and len(node) == len(Row._fields):
        return Row._fields.index(part)
    raise ConfigError(
        f"space: family {family}: {key}: expected a place from 0 to {len(node) - 1} instead of '{part}', or a column "
        f"of a row: {', '.join(Row._fields)}"
    )


def _validated(kind: type[Any], tree: dict[str, Any], family: str, values: dict[str, Any]) -> ModelConfig:
    chosen = f", with {json.dumps(values)}" if values else ""
    model: ModelConfig = validate(kind, tree, name=f"space: family {family}{chosen}")
    return model


def _title(family: str, share: float, values: dict[str, Any]) -> str:
    parts = [family, *([f"{share:g}"] if share != 1 else [])]
    parts += [value if isinstance(value, str) else f"{_short(key)}{_text(value)}" for key, value in values.items()]
    return " ".join(parts)


def _short(key: str) -> str:
    """ "backbone.rows.2.expansion" as "2e", "neck.channels" as "nc", "backbone.width" as "bw"."""
    parts = [part for part in key.split(".") if part != "rows"]
    if any(part.isdecimal() for part in parts):
        parts = [part for part in parts if part != "backbone"]
    return "".join(part if part.isdecimal() else part[0] for part in parts)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "-".join(str(one) for one in value.values() if isinstance(one, str | int | float))
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def input_sizes(sides: Sequence[int], form: float) -> list[tuple[int, int]]:
    """(height, width) for each longer side, ascending.

    Args:
        form: width over height of the pictures; 1 for squares.
    """
    sizes = []
    for side in sides:
        other = max(64, round(side / max(form, 1 / form) / STEP) * STEP)
        sizes.append((other, side) if form >= 1 else (side, other))
    return sizes


ALIKE, MOST = 0.1, 0.8
"""Pictures have one form where this share of them differs from the median by less than that."""


def common_form(sizes: Sequence[tuple[int, int]]) -> float:
    """Width over height of most pictures, 1 where they have no common form or nearly that of a square.

    Args:
        sizes: (height, width) of each.
    """
    forms = sorted(width / height for height, width in sizes)
    if not forms:
        return 1.0
    middle = forms[len(forms) // 2]
    alike = sum(abs(form / middle - 1) < ALIKE for form in forms)
    return middle if alike >= MOST * len(forms) and abs(middle - 1) > ALIKE else 1.0
