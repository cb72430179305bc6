"""The largest input within a budget, found with few measurements; untrained networks are the ones that are shipped."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falconet.search.space import Space, input_sizes, shapes
from falconet.search.timing import Stopwatch, Timing, Way, largest_size, timing, untrained_timing

SIZES = input_sizes(range(192, 641, 32), 4 / 3)
(SHAPE,) = shapes(Space.model_validate({"families": [{"name": "plus", "preset": "nanodet-plus-demo"}]}), seed=0)


@example(35.0, 0.015625, 0)
@given(st.floats(0.5, 100), st.floats(0, 0.02), st.none() | st.integers(0, len(SIZES) - 1))
def test_the_largest_that_fits(budget: float, fixed: float, first: int | None) -> None:
    asked = []

    def clock(model) -> Timing:
        asked.append((model.input.height, model.input.width))
        ms = fixed * budget + math.prod(asked[-1]) / 10_000
        return Timing(ms, 1.1 * ms)

    found = largest_size(SHAPE, SIZES, budget, clock, first=first)
    fitting = [place for place, size in enumerate(SIZES) if 1.1 * (fixed * budget + math.prod(size) / 10_000) <= budget]
    assert (None if found is None else found[0]) == (fitting[-1] if fitting else None)
    if found is not None:
        assert found[1].p95 <= budget
    assert len(asked) == len(set(asked)) <= 5


def test_each_network_is_timed_once() -> None:
    told = []
    way = Way("onnxruntime", "float32", 1)
    pictures = [np.zeros((60, 80, 3), np.uint8)]
    clock = Stopwatch(way, ("cat",), pictures, {}, lambda model, took: told.append((model, took)))
    model = SHAPE.at((64, 64))
    first = clock(model)
    assert clock(model) == first
    assert told == [(model.model_dump_json(), first)]
    assert 0 < first.p50 <= first.p95
    again = Stopwatch(way, ("cat",), pictures, dict(told), lambda *_: pytest.fail("it is known"))
    assert again(model) == first


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines(engine: str) -> None:
    pictures = [np.zeros((60, 80, 3), np.uint8)]
    assert untrained_timing(SHAPE.at((96, 64)), ("cat",), Way(engine, "float32", 1), pictures).p50 > 0


def test_calls_go_around() -> None:
    calls: list[int] = []
    found = timing([lambda: calls.append(0), lambda: calls.append(1)])
    assert found.p50 <= found.p95
    assert abs(calls.count(0) - calls.count(1)) <= 2
