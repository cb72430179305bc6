"""The answer of a classifier."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from falconet.core.types import Floats, Ints


@dataclass(frozen=True, slots=True)
class Classification:
    """How probable each class is for one picture.

    Attributes:
        probabilities: [C] 0..1, sum 1.
        names: class names of the model.
    """

    probabilities: Floats
    names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, np.float32)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"Classification.probabilities must have shape [C], but got {list(values.shape)}")
        if self.names and len(self.names) != len(values):
            raise ValueError(f"Classification.names must have {len(values)} entries, but got {len(self.names)}")
        object.__setattr__(self, "probabilities", values)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """(class name, probability), the most probable first."""
        return iter(self.top(len(self)))

    @property
    def label(self) -> int:
        """Index of the most probable class."""
        return int(self.ranked(1)[0])

    @property
    def name(self) -> str:
        """Name of the most probable class."""
        return self.name_of(self.label)

    @property
    def score(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities[self.label])

    def name_of(self, label: int) -> str:
        """The name of a class index; "class N" where the model carries no names."""
        return self.names[label] if self.names else f"class {label}"

    def ranked(self, count: int) -> Ints:
        """Indices of the `count` most probable classes, best first; of equal ones the lower first."""
        return np.argsort(-self.probabilities, kind="stable")[:count].astype(np.int64)

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(class name, probability) of the `count` most probable classes, best first."""
        return [(self.name_of(int(label)), float(self.probabilities[label])) for label in self.ranked(count)]
