"""The nearest right name for a wrong one."""

import difflib
from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the choice most like `word`, or "" where none is like it."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else ""
