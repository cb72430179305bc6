"""Class ids that count from 1 where the list of classes counts from 0, or the other way round."""

from collections.abc import Collection

_MISSING = 0.1
"""Share of the classes that may have no box; with more of them, other reasons are as likely."""


def shifted_by(listed: Collection[int | str], used: Collection[int]) -> int:
    """By how much the ids of boxes lie above those of the list: 1, -1, or 0 where they seem to be the list's.

    They are taken for shifted where one lies just beyond an end of the list, the first id at the other end is used by
    no box, and nearly all between are: a list that lacks a class would hardly have one without boxes at its other end.

    Args:
        listed: ids of the classes.
        used: ids that boxes have.
    """
    numbers = sorted(key for key in listed if isinstance(key, int))
    if not numbers or len(numbers) < len(listed) or numbers != list(range(numbers[0], numbers[-1] + 1)):
        return 0
    for shift in (1, -1):
        expected = {number + shift for number in numbers}
        beyond = max(expected) if shift > 0 else min(expected)
        if beyond in used and expected.issuperset(used) and len(expected - set(used)) <= _MISSING * len(numbers):
            return shift
    return 0


def shift_problem_text(shift: int, first: int, last: int) -> str:
    """What is said of it.

    Args:
        first, last: ids of the list.
    """
    counts = f"count from {first + shift}, but the list of classes from {first}"
    return (
        f"the class ids of its boxes {counts}: they are {first + shift} to {last + shift}, none is "
        f"{first if shift > 0 else last}; every box would have the class of its neighbour"
    )
