"""What translators of other projects' YAML files share: a tree that knows which keys were read, and their answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from falconet.core.errors import ConfigError


@dataclass(frozen=True)
class Translation:
    """A translated YAML.

    Attributes:
        run: the run file, as plain values.
        dropped: (key of the original, why it is not in the run file).
        class_names: as in the original; empty where it names none.
        in_channels: what the original's neck expects of the backbone, level by level; None where it does not say.
        todo: what is left for the user to do before a training.
    """

    run: dict[str, Any]
    dropped: list[tuple[str, str]]
    class_names: tuple[str, ...] = ()
    in_channels: tuple[int, ...] | None = None
    todo: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line per key without counterpart."""
        return [f"{key}: {why}" for key, why in self.dropped]


@dataclass
class Source:
    """The original's tree; knows which keys were looked at.

    Attributes:
        tree: plain values.
        name: of the file, for messages.
        kind: what was expected, for messages.
    """

    tree: Mapping[str, Any]
    name: str
    kind: str
    seen: set[str] = field(default_factory=set)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a dotted path, or the default."""
        self.seen.add(path)
        node: Any = self.tree
        for key in path.split("."):
            if not isinstance(node, Mapping) or key not in node:
                return default
            node = node[key]
        return node

    def need(self, path: str) -> Any:
        """The value at a dotted path. Raises ConfigError where there is none."""
        value = self.get(path)
        if value is None:
            raise ConfigError(f"{self.name}: {path}: is missing; expected {self.kind}")
        return value

    def numbers(self, path: str, count: int, default: Sequence[float]) -> list[float]:
        """A list of numbers at a dotted path. Raises ConfigError where it is something else."""
        value = self.get(path, default)
        if not isinstance(value, Sequence) or len(value) != count or not all(is_number(v) for v in value):
            raise ConfigError(f"{self.name}: {path}: expected {count} numbers, but got {str(value)[:60]}")
        return list(value)

    def number(self, path: str, default: Any = None) -> Any:
        """A number at a dotted path, or the default. Raises ConfigError where it is something else."""
        value = self.get(path, default)
        if value is None:
            return default  # also where the key stands there without a value
        if not is_number(value):
            raise ConfigError(f"{self.name}: {path}: expected a number, but got {str(value)[:60]}")
        return value

    def drop(self, path: str, why: str) -> None:
        """Report a key, where it is there, as one without counterpart."""
        self.seen.add(path)
        if self.get(path) is not None:
            self.dropped.append((path, why))

    def expect(self, path: str, wanted: Any, why: str) -> None:
        """Report a key, where it is there, unless it says what ours does anyway."""
        value = self.get(path)
        if value is not None and value != wanted:
            self.dropped.append((path, f"is {str(value)[:60]}; {why}"))

    def rest(self) -> list[tuple[str, str]]:
        """Every key that nobody looked at."""
        found: list[tuple[str, str]] = []

        def walk(node: Mapping[str, Any], prefix: str) -> None:
            for key, value in node.items():
                path = f"{prefix}{key}"
                if path in self.seen:
                    continue
                if isinstance(value, Mapping) and value:
                    walk(value, f"{path}.")
                elif value is not None:
                    found.append((path, "has no counterpart"))

        walk(self.tree, "")
        return found


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
