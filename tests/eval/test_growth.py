"""What more pictures would give, from points of which the truth is known."""

from collections.abc import Callable

import numpy as np
import pytest

from falconet.eval.bootstrap import Drawn
from falconet.eval.growth import FAMILIES, SAMPLES, fit, fit_here, predict

PICTURES = (25, 50, 100, 200)
NONE = np.zeros(0)
IMAGES = 50


def points(truth: Callable[[float], float], pictures: tuple[int, ...] = PICTURES) -> list[Drawn]:
    """What trainings reach that are all of the same luck."""
    return [Drawn(truth(count), NONE, IMAGES) for count in pictures]


def power(count: float) -> float:
    return 0.7 - 0.9 * count**-0.4


def test_a_power_law_is_foretold() -> None:
    growth = fit_here(PICTURES, points(power))
    for count in (400, 800):
        low, high = np.quantile(growth.one(count), (0.025, 0.975))
        assert low < power(count) < high
        assert np.median(growth.mean(count)) == pytest.approx(power(count), abs=0.015)


def test_curves_rise_and_stay_within_one() -> None:
    growth = fit_here(PICTURES, points(lambda count: 0.95 * count / 200))
    values = np.stack([growth.mean(count) for count in (25, 50, 100, 200, 400, 800, 1600)])
    assert (np.diff(values, axis=0) >= -1e-9).all()
    assert values.max() <= 1 + 1e-9
    assert (growth.one(800) <= 1).all()
    assert growth.gain(200) == pytest.approx(0.0)


def test_what_is_level_gains_little() -> None:
    gain = fit_here(PICTURES, points(lambda _: 0.6)).gain(400)
    assert np.median(gain) < 0.005
    assert np.quantile(gain, 0.975) < 0.04


def test_what_falls_gains_nothing() -> None:
    growth = fit_here(PICTURES, points(lambda count: 0.8 - 0.003 * count))
    assert np.median(growth.gain(400)) < 0.01
    assert np.isfinite(growth.one(800)).all()


def test_nothing_found_stays_near_nothing() -> None:
    assert np.quantile(fit_here(PICTURES, points(lambda _: 0.0)).one(400), 0.975) < 0.06


def test_two_parts_tell_less_than_four() -> None:
    few, many = (fit_here(own, points(power, own)).one(400) for own in (PICTURES[2:], PICTURES))
    assert np.std(few) > 1.2 * np.std(many)


def test_trainings_that_differ_say_how_much_luck_there_is() -> None:
    chance = np.random.default_rng(0)
    often = PICTURES * 4
    calm = [Drawn(power(count) + 0.003 * chance.standard_normal(), NONE, IMAGES) for count in often]
    wild = [Drawn(power(count) + 0.05 * chance.standard_normal(), NONE, IMAGES) for count in often]
    assert np.median(fit_here(often, calm).spread) < 0.01
    assert np.median(fit_here(often, wild).spread) > 0.025


def test_validation_pictures_shift_all_points_together() -> None:
    shift = np.random.default_rng(0).normal(0, 0.04, 300)
    reached = [
        Drawn(power(count), power(count) + 0.1 + shift, IMAGES) for count in PICTURES
    ]  # the mean counts for nothing
    everywhere, here = fit(PICTURES, reached), fit_here(PICTURES, reached)
    assert np.std(everywhere.one(200)) > 0.035 > np.std(here.one(200))
    assert np.median(everywhere.mean(200)) == pytest.approx(power(200), abs=0.015)
    assert np.std(everywhere.gain(400)) == pytest.approx(np.std(here.gain(400)), rel=0.3)  # and cancel


def test_draws_that_do_not_decide_a_figure_shift_nothing() -> None:
    draws = np.where(np.arange(100) % 2, 0.6, np.nan)
    growth = fit(PICTURES, [Drawn(power(count), draws, IMAGES) for count in PICTURES])
    assert np.isfinite(growth.one(400)).all()


def test_a_prediction_and_its_families() -> None:
    reached = [Drawn(power(count), power(count) + np.linspace(-0.03, 0.03, 50), IMAGES) for count in PICTURES]
    everywhere, here = fit(PICTURES, reached), fit_here(PICTURES, reached)
    told = predict(everywhere, here, 400)
    assert told.interval.low < told.interval_here.low < told.value < told.interval_here.high < told.interval.high
    assert told.gain_interval.low < told.gain < told.gain_interval.high
    assert set(everywhere.shares()) == set(FAMILIES)
    assert sum(everywhere.shares().values()) == pytest.approx(1)
    assert len(here.low) == SAMPLES


def test_the_same_seed_gives_the_same_curves() -> None:
    first, again, other = (fit_here(PICTURES, points(power), seed=seed).one(400) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_intervals_hold_what_they_should() -> None:
    """Of 60 curves of a kind that is none of the families, measured with luck: is the next point within?"""
    chance, held = np.random.default_rng(1), 0
    for _ in range(60):
        half, top, luck = chance.uniform(20, 200), chance.uniform(0.4, 0.9), chance.normal(0, 0.01, 5)
        values = [top * count / (half + count) + own for count, own in zip((*PICTURES, 400), luck, strict=True)]
        growth = fit_here(PICTURES, [Drawn(max(0.0, value), NONE, IMAGES) for value in values[:-1]])
        low, high = np.quantile(growth.one(400), (0.025, 0.975))
        held += low <= values[-1] <= high
    assert held >= 52
