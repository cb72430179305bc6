"""The interval of AP that comes from few pictures."""

from pathlib import Path

import numpy as np

from falconet.core.types import Detections, Record
from falconet.eval.interval import ap_interval


def records(count: int) -> list[Record]:
    return [
        Record(
            image_id=number,
            path=Path(f"{number}.jpg"),
            width=100,
            height=100,
            boxes=np.array([[10, 10, 50, 50]], np.float32),
            labels=np.zeros(1, np.int64),
            crowd=np.zeros(1, np.bool_),
        )
        for number in range(1, count + 1)
    ]


def answers(found: list[bool]) -> list[Detections]:
    hit, miss = [[10, 10, 50, 50]], [[60, 60, 90, 90]]
    return [
        Detections(
            np.array(hit if one else miss, np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64), ("a",)
        )
        for one in found
    ]


def test_all_right_leaves_no_room() -> None:
    assert ap_interval(["a"], records(8), answers([True] * 8)) == (1.0, 1.0)


def test_more_pictures_narrow_it() -> None:
    few = ap_interval(["a"], records(12), answers([True, False] * 6))
    many = ap_interval(["a"], records(200), answers([True, False] * 100))
    assert few is not None
    assert many is not None
    assert few.low < many.low < many.high < few.high
    assert few == ap_interval(["a"], records(12), answers([True, False] * 6))


def test_pictures_are_drawn_with_their_multiplicity() -> None:
    # Of two pictures a quarter of the draws hold the wrong one twice: without multiplicity AP would never be 0.
    low, high = ap_interval(["a"], records(2), answers([True, False]))
    assert (low, high) == (0.0, 1.0)


def test_nothing_to_decide_it() -> None:
    assert ap_interval(["a"], [], []) is None
