"""Percentiles of given times, the order of calls; never how fast something is."""

import time

import pytest

from falconet.eval.latency import Latency, machine, measure, measure_stages


def test_percentiles_of_known_times():
    latency = Latency.of([n / 1000 for n in range(101)])
    assert (latency.p50, latency.p90, latency.p99) == (pytest.approx(50), pytest.approx(90), pytest.approx(99))
    assert (latency.mean, latency.calls) == (pytest.approx(50), 101)


def test_no_times_are_refused():
    with pytest.raises(ValueError, match="a latency needs at least one timed call, but got none"):
        Latency.of([])


def test_warm_up_does_not_count():
    calls = []
    latency = measure(lambda: calls.append(1), warm_up=3, calls=7)
    assert len(calls) == 10
    assert latency.calls == 7
    assert 0 <= latency.p50 <= latency.p90 <= latency.p99


def test_it_ends_when_the_time_is_over():
    calls = []
    assert measure(lambda: calls.append(1), calls=10**9, at_most=0.02).calls == len(calls) - 10
    assert measure(lambda: time.sleep(0.01), warm_up=100, calls=100, at_most=0.005).calls == 1


def test_stages_are_a_chain():
    seen = []
    stages = [("double", lambda value: value * 2), ("note", seen.append)]
    timed = measure_stages(stages, [1, 2, 3], warm_up=1)
    assert seen == [2, 2, 4, 6]
    assert list(timed) == ["double", "note", "total"]
    assert timed["total"].calls == 3
    assert timed["total"].mean == pytest.approx(timed["double"].mean + timed["note"].mean)


def test_machine_is_described():
    described = machine()
    assert set(described) == {"processor", "cores", "system", "python", "onnxruntime"}
    assert all(described.values())
    assert int(described["cores"]) >= 1
