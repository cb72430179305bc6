"""How minutes are shared, and in which order candidates come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.search.halving import KEPT, MOST, Round, in_turn, plan_rounds


@given(st.floats(1, 10_000), st.integers(1, 200))
def test_all_minutes_are_used_and_one_is_left(minutes: float, candidates: int) -> None:
    rounds = plan_rounds(minutes, candidates)
    assert sum(one.count * one.minutes for one in rounds) == pytest.approx(minutes)
    assert rounds[-1].count == 1
    assert rounds[0].count <= min(candidates, MOST)
    for one, following in pairwise(rounds):
        assert following.count < one.count
        assert following.minutes >= one.minutes


def test_by_hand() -> None:
    assert plan_rounds(30, 1) == [Round(1, 30)]
    assert plan_rounds(4, 50) == [Round(2, 1.0), Round(1, 2.0)]
    assert plan_rounds(60, 50) == [Round(9, pytest.approx(15 / 9)), Round(3, 5.0), Round(1, 30.0)]
    assert plan_rounds(60, 50)[0].count == KEPT * plan_rounds(60, 50)[1].count


def test_one_of_each_family_in_turn_its_ends_first() -> None:
    assert in_turn([[1, 2, 3, 4, 5], ["a", "b"], ["x"]]) == [1, "a", "x", 5, "b", 3, 2, 4]
    assert in_turn([]) == []


@given(st.lists(st.lists(st.integers())))
def test_nothing_is_lost(groups: list[list[int]]) -> None:
    assert sorted(in_turn(groups)) == sorted(item for group in groups for item in group)
