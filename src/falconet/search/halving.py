"""How the minutes of a search are shared: many candidates for a little while, the better ones for longer.

Successive halving (Jamieson and Talwalkar, arXiv:1502.07943) with a third kept after each round: whoever stays goes on
from its own weights.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

KEPT = 3
"""One of so many goes on."""

LAST_SHARE = 0.5
"""Of all minutes, for the one that is left."""

LEAST_MINUTES = 1.5
"""That a candidate is trained before it is judged, where there is time for two of them."""

MOST = 9
"""Candidates that are trained."""


class Round(NamedTuple):
    """Candidates that are trained for a while.

    Attributes:
        count: of them.
        minutes: for each.
    """

    count: int
    minutes: float


def plan_rounds(minutes: float, candidates: int) -> list[Round]:
    """The rounds of a search of so many minutes of training; the last one has a single candidate.

    Args:
        minutes: altogether.
        candidates: that there are.
    """
    if candidates == 1:
        return [Round(1, minutes)]
    before = (1 - LAST_SHARE) * minutes
    count = max(2, min(candidates, MOST, int(before / LEAST_MINUTES)))
    if count > KEPT + 1 and before / 2 / count < LEAST_MINUTES:
        count = max(KEPT + 1, int(before / 2 / LEAST_MINUTES))
    counts = [count]
    while counts[-1] > KEPT:
        counts.append(-(-counts[-1] // KEPT))
    counts = [one for one in counts if one > 1]
    return [*(Round(one, before / len(counts) / one) for one in counts), Round(1, LAST_SHARE * minutes)]


Item = TypeVar("Item")


def in_turn(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """One of each group, then another of each, until all are used up; of a group its ends first, then what lies
    between."""
    spread = [_ends_first(group) for group in groups]
    longest = max(map(len, spread), default=0)
    return [group[place] for place in range(longest) for group in spread if place < len(group)]


def _ends_first(items: Sequence[Item]) -> list[Item]:
    """First, last, the middle, then the middles of what is left on both sides."""
    if len(items) < 3:
        return list(items)
    order, spans = [0, len(items) - 1], [(0, len(items) - 1)]
    while spans:
        low, high = spans.pop(0)
        if high - low < 2:
            continue
        middle = (low + high) // 2
        order.append(middle)
        spans += [(low, middle), (middle, high)]
    return [items[place] for place in order]
