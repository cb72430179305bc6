"""What is wrong with a data set of any size: the first problems one by one, the number of the others."""

from collections import Counter
from pathlib import Path

from falconet.data.dataset import Problem

LISTED = 1000
"""Problems that are kept one by one; of more, the number of each kind."""


class Problems:
    """Problems, the first of them one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listed: list[Problem] = []
        self._more: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether others are only counted."""
        return len(self._listed) >= LISTED

    def add(self, problem: Problem) -> None:
        """One more."""
        if self.full:
            self._more[problem.kind] += 1
        else:
            self._listed.append(problem)

    def count(self, kind: str, number: int) -> None:
        """Others, which are not listed."""
        if number:
            self._more[kind] += number

    def extend(self, others: "Problems") -> None:
        """Those of another list."""
        for problem in others._listed:
            self.add(problem)
        self._more.update(others._more)

    def all(self) -> list[Problem]:
        """Those that are listed, and one for each kind of which there are more."""
        return self._listed + [
            Problem(str(self._path), f"{number} more of this kind, which are not listed one by one", kind)
            for kind, number in self._more.items()
        ]
