"""Class names of a repaired copy: without blanks at their ends, each spelt in one way, the same in every split."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from falconet.core.types import Ints
from falconet.data.check import spelt_twice
from falconet.data.dataset import DataSet


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of the copy.

    Attributes:
        names: theirs.
        new_name: of each name in the original.
        changes: (kind, where, what) of each that is another than in the original.
    """

    names: tuple[str, ...]
    new_name: Mapping[str, str]
    changes: list[tuple[str, str, str]]

    def to_new(self, names: tuple[str, ...]) -> Ints:
        """[C] Index of the copy's class for each of `names`, those of a split of the original."""
        return np.array([self.names.index(self.new_name[name]) for name in names], np.int64)


def repaired_classes(splits: Mapping[str, DataSet]) -> Classes:
    """The classes that all splits of a copy have.

    Names that differ in upper and lower case, blanks, hyphens and underscores alone become the most frequent one; a
    name that is off by a letter may be meant, and stays.
    """
    every = list(dict.fromkeys(name for dataset in splits.values() for name in dataset.names))
    used: Counter[str] = Counter(dict.fromkeys(every, 0))
    for dataset in splits.values():
        for record in dataset.records:
            used.update(dataset.names[label] for label in record.labels.tolist())
    new_name = {name: name.strip() for name in every}
    # Names of blanks alone stay: nobody knows what they should be.
    new_name.update({name: name for name in every if not name.strip()})
    boxes: Counter[str] = Counter()
    for name in every:
        boxes[new_name[name]] += used[name]
    usual = dict(pair for pair in spelt_twice(boxes) if _same_word(*pair))
    changes = []
    for name in every:
        where = ", ".join(dict.fromkeys(one.source for one in splits.values() if name in one.names))
        trimmed = new_name[name]
        new_name[name] = usual.get(trimmed, trimmed)
        if trimmed != name:
            changes.append(("blank-class", where, f"the class {name!r} is called '{new_name[name]}' now"))
        if new_name[name] != trimmed:
            what = f"the class '{name}' joined '{new_name[name]}', with {used[name]} boxes"
            changes.append(("spelt-twice", where, what))
    for dataset in splits.values():
        for name, count in Counter(dataset.names).items():
            if count > 1:
                what = f"{count} classes called '{name}' became one"
                changes.append(("duplicate-class", dataset.source, what))
    names = tuple(dict.fromkeys(new_name[name] for name in every))
    first, *others = splits.values()
    for other in others:
        if other.names != first.names:
            what = f"classes were others than in {first.source}; both have {len(names)} classes in the same order now"
            changes.append(("different-classes", other.source, what))
    return Classes(names, new_name, list(dict.fromkeys(changes)))


def _same_word(one: str, other: str) -> bool:
    """Whether two names differ in case, blanks, hyphens and underscores alone; "3-0" and "30" are two."""
    plain = [re.sub(r"[\s_-]+", "", name.casefold()) for name in (one, other)]
    return plain[0] == plain[1] and re.findall(r"\d+", one) == re.findall(r"\d+", other)
