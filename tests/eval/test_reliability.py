"""Errors of scores, and maps that mend them."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.types import Detections, Record
from falconet.eval import reliability
from falconet.eval.reliability import Scored, bins, common_map, cross_fitted, errors, fit_maps


def scored(scores: list[float], right: list[float], *, labels: list[int] | None = None, classes: int = 1) -> Scored:
    count = len(scores)
    return Scored(
        np.array(scores, np.float64),
        np.zeros(count, np.int64) if labels is None else np.array(labels),
        np.arange(count),
        np.array(right, np.float64),
        np.array(right, np.float64) * 0.8,
        count,
        classes,
    )


def made(count: int, seed: int, *, power: float = 2.0) -> Scored:
    """Detections that are right with a chance of their score to some power."""
    chance = np.random.default_rng(seed)
    scores = chance.uniform(0.05, 1, count)
    return scored(scores.tolist(), (chance.random(count) < scores**power).astype(float).tolist())


def test_bins_by_hand() -> None:
    got = bins(np.array([0.1, 0.15, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), count=2)
    assert [tuple(one) for one in got] == [pytest.approx((0.125, 0.5, 2)), pytest.approx((0.95, 1.0, 2))]


def test_errors_by_hand() -> None:
    one = scored([0.5, 0.5, 0.9], [1, 0, 1], labels=[0, 0, 1], classes=3)
    got = errors(one, one.scores)
    # All classes: two at 0.5 of which half are right, one at 0.9 which is.
    assert got.d_ece == pytest.approx((2 * 0 + 1 * 0.1) / 3)
    # By class, with the IoU 0.8 of what is right: 0.5 against 0.4, 0.9 against 0.8; the third class has none.
    assert got.la_ece == pytest.approx((0.1 + 0.1) / 2)


def test_no_detections_at_all() -> None:
    nothing = scored([], [], classes=2)
    assert errors(nothing, nothing.scores) == (0, 0)
    assert len(fit_maps(nothing)) == 2
    assert common_map(nothing).scores[0] == 0


def test_the_overlap_of_what_is_right_and_crowds_apart() -> None:
    truth = np.array([[0, 0, 10, 10], [50, 50, 90, 90]], np.float32)
    record = Record(0, Path("a.jpg"), 100, 100, truth, np.zeros(2, np.int64), np.array([False, True]))
    boxes = np.array([[0, 0, 10, 8], [55, 55, 70, 70], [20, 20, 30, 30]], np.float32)
    got = Scored.of(["a"], [record], [Detections(boxes, np.array([0.9, 0.8, 0.7]), np.zeros(3, np.int64))])
    assert got.scores == pytest.approx([0.9, 0.7])
    assert got.right.tolist() == [1, 0]
    assert got.overlaps == pytest.approx([0.8, 0])


@pytest.mark.parametrize("count", [900, 4000])  # Platt's curve, isotonic lines
def test_maps_find_the_chance_that_made_the_scores(count: int) -> None:
    (found,) = fit_maps(made(count, 0))
    own = np.array([0.2, 0.4, 0.6, 0.8])
    assert np.interp(own, found.scores, found.probabilities) == pytest.approx(own**2, abs=0.08)


def test_calibration_helps_on_pictures_that_it_has_not_seen() -> None:
    one = made(2000, 1)
    before, after = errors(one, one.scores), errors(one, cross_fitted(one))
    assert before.d_ece > 0.15
    assert after.d_ece < 0.04


def test_scores_that_are_right_stay() -> None:
    (found,) = fit_maps(made(4000, 2, power=1.0))
    own = np.linspace(0.1, 0.9, 9)
    assert np.interp(own, found.scores, found.probabilities) == pytest.approx(own, abs=0.07)


def test_iou_as_target() -> None:
    (found,) = fit_maps(made(4000, 3), "iou")
    assert np.interp(0.7, found.scores, found.probabilities) == pytest.approx(0.8 * 0.7**2, abs=0.08)


def test_a_class_of_few_detections_stays_near_all_classes() -> None:
    many = made(1500, 4)
    few = scored(
        [*many.scores.tolist(), 0.5, 0.6],
        [*many.right.tolist(), 0, 0],
        labels=[0] * 1500 + [1] * 2,
        classes=2,
    )
    often, rare = fit_maps(few)
    common = common_map(few)
    own = np.array([0.3, 0.6, 0.9])
    told = np.interp(own, rare.scores, rare.probabilities)
    assert told == pytest.approx(np.interp(own, common.scores, common.probabilities), abs=0.2)
    assert (told < np.interp(own, often.scores, often.probabilities) + 0.05).all()
    assert (told > 0).all()


def test_all_right_or_all_wrong_is_never_always() -> None:
    for right, low, high in ((1.0, 0.5, 1.0), (0.0, 0.0, 0.5)):
        (found,) = fit_maps(scored(np.linspace(0.1, 0.9, 60).tolist(), [right] * 60))
        assert low < np.interp(0.5, found.scores, found.probabilities) < high


def test_no_two_scores_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "MANY", 50)
    chance = np.random.default_rng(5)
    scores = np.sort(chance.uniform(0.05, 1, 500))
    (found,) = fit_maps(scored(scores.tolist(), (chance.random(500) < 0.5).astype(float).tolist()))
    told = np.interp(scores, found.scores, found.probabilities).astype(np.float32)
    assert (np.diff(told) > 0).all()
