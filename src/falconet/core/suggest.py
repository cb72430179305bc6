"""Names in messages: the nearest right one for a wrong one, and the first of many."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.4) -> str:
    """ "did you mean 'x'?" with the choice most like `word`, or "" where none is like it."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return f"did you mean '{near[0]}'?" if near else ""


def spelling(name: str) -> str:
    """What names have in common that differ in blanks and underscores only."""
    return name.replace("_", " ")


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted_files(names: Sequence[str], *, most: int = 5) -> str:
    """How many files of each ending there are, and the first ones: " (.heic 2, .txt 1): a.heic, b.heic, c.txt"."""
    endings = Counter(PurePath(name).suffix.lower() or "without ending" for name in names)
    counts = ", ".join(f"{ending} {count}" for ending, count in endings.most_common(most))
    return (f" ({counts})" if len(endings) > 1 or len(names) > most else "") + f": {listed(names, most)}"
