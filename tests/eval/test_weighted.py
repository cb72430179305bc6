"""Running sums of many draws at once, against sums one after another."""

import numpy as np
import pytest

from falconet.eval import weighted
from falconet.eval.weighted import POINTS, Objects, Weighted, accumulate


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 16, 23, 100, 127])
@pytest.mark.parametrize("few", [0, 10**6])
def test_accumulate_is_that_of_numpy(monkeypatch: pytest.MonkeyPatch, count: int, few: int) -> None:
    monkeypatch.setattr(weighted, "FEW", few)
    rows = np.random.default_rng(count).integers(0, 9, (count, 5)).astype(np.float32)
    for combine in (np.add, np.maximum):
        own, backwards = rows.copy(), rows.copy()
        accumulate(combine, own)
        np.testing.assert_array_equal(own, combine.accumulate(rows, axis=0))
        accumulate(combine, backwards[::-1])
        np.testing.assert_array_equal(backwards[::-1], combine.accumulate(rows[::-1], axis=0))


def test_points_are_those_that_a_share_reaches() -> None:
    number = np.arange(0, 400, dtype=np.float32)
    there = Objects(number)
    hits = np.minimum(np.arange(400)[:, None], number).astype(np.float32)
    expected = np.searchsorted(POINTS, hits.astype(np.float64) / np.maximum(number, 1), side="right")
    np.testing.assert_array_equal(there.points(hits), expected)


def one_draw(weights: np.ndarray, right: np.ndarray, kept: np.ndarray, objects: float) -> float:
    """AP with every detection as often as it is there, as COCO's loop has it."""
    hits, told = np.cumsum(weights * (right & kept)), np.cumsum(weights * kept)
    precision = (hits / np.maximum(told, 1)).astype(np.float32)
    own = np.flatnonzero(right & kept)
    best = [
        max((precision[place] for place in own.tolist() if hits[place] / objects >= point), default=0.0)
        for point in POINTS
    ]
    return float(np.mean(best, dtype=np.float64))


@pytest.mark.parametrize("block", [1024, 3])
def test_average_precision_is_that_of_each_draw(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(weighted, "BLOCK", block)
    chance = np.random.default_rng(0)
    drawn = chance.poisson(1.0, (15, 8)).astype(np.float32)  # pictures, draws
    images = chance.integers(0, 15, 70)
    right, kept = chance.random(70) < 0.5, chance.random(70) < 0.8
    found = np.flatnonzero(right & kept)
    objects = np.full(8, 90, np.float32)
    own = Weighted(drawn, images)
    told = own.told(np.flatnonzero(kept), found)
    got = own.average_precision(found, told, Objects(objects))
    expected = [one_draw(drawn[images, draw], right, kept, 90.0) for draw in range(8)]
    assert got == pytest.approx(np.array([expected]), abs=1e-12)
    assert own.number(found) == pytest.approx(drawn[images[found]].sum(0))


def test_several_rules_at_once() -> None:
    chance = np.random.default_rng(1)
    drawn, images = chance.poisson(1.0, (15, 8)).astype(np.float32), chance.integers(0, 15, 70)
    right, kept = chance.random((3, 70)) < 0.4, chance.random((3, 70)) < 0.8
    found = np.flatnonzero((right & kept).any(0))
    own, objects = Weighted(drawn, images), Objects(np.full(8, 90, np.float32))
    told = own.told(np.arange(70), found, kept.T)
    got = own.average_precision(found, told, objects, (right & kept)[:, found].T)
    for rule in range(3):
        expected = [one_draw(drawn[images, draw], right[rule], kept[rule], 90.0) for draw in range(8)]
        assert got[rule] == pytest.approx(expected, abs=1e-12)


def test_without_hits_or_objects() -> None:
    own = Weighted(np.ones((3, 2), np.float32), np.array([0, 1, 2]))
    nothing = np.zeros(0, np.int64)
    objects = Objects(np.array([0, 4], np.float32))
    got = own.average_precision(nothing, own.told(nothing, nothing), objects)
    np.testing.assert_array_equal(got, [[np.nan, 0.0]])
