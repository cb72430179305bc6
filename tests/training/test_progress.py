"""How far a run is: rates and ends by steps and by time, on a clock that the test winds."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from falconet.training.optim import Schedule
from falconet.training.progress import MOST_VALIDATION, ByEpochs, ByMinutes, Progress
from tests.training.clock import Clock


def minutes(clock: Clock, seconds: float = 600, **options: object) -> ByMinutes:
    values = {"started": clock.now, "peak": 1.0, "floor": 0.05, "warmup_steps": 500, "val_images": 40}
    return ByMinutes(seconds, clock=clock, **values | options)  # type: ignore[arg-type]


def simulate(
    pace: ByMinutes,
    clock: Clock,
    *,
    steps_per_epoch: int,
    validation: float,
    step_seconds: Callable[[float], float] = lambda _: 0.2,
) -> Iterator[tuple[float, float, bool]]:
    """(seconds since the start, rate, whether a validation follows) of each step, as the loop takes them."""
    began = clock.now
    clock.now += 7.0  # of start-up
    step = epoch = 0
    while True:
        first, lap = step, pace.start() if not pace.started else clock.now
        for _ in range(steps_per_epoch):
            progress = pace.at(epoch, step)
            if progress.fraction >= 1 and step > first:
                break
            at = clock.now - began
            clock.now += step_seconds(at)
            lap = pace.trained(16, since=lap)
            yield at, pace.rate(progress, step), False
            step += 1
        progress = pace.at(epoch, step)
        last = progress.fraction >= 1
        if pace.validates(progress, last=last):
            limit = pace.validation_seconds()
            assert limit is not None
            clock.now += min(validation, limit)
            pace.validated(min(validation, limit))
            yield clock.now - began, 0.0, True
        clock.now += 0.3
        pace.wrote(0.3)
        epoch += 1
        if last:
            return


SPEEDS = {
    "steady": lambda _: 0.2,
    "twice as slow from the middle on": lambda at: 0.2 if at < 300 else 0.4,
    "slow first steps": lambda at: 3.0 if at < 15 else 0.2,
}


@pytest.mark.parametrize("steps_per_epoch", [9, 400, 100_000])
@pytest.mark.parametrize("speed", SPEEDS)
def test_the_rate_is_a_smooth_curve_over_the_time(speed: str, steps_per_epoch: int) -> None:
    clock = Clock()
    options = {"steps_per_epoch": steps_per_epoch, "validation": 2.0, "step_seconds": SPEEDS[speed]}
    told = list(simulate(minutes(clock), clock, **options))  # type: ignore[arg-type]
    curve = [(at, rate) for at, rate, validates in told if not validates]
    assert clock.now - 100 == pytest.approx(600, abs=1.5)
    for (at, rate), (later, following) in pairwise(curve):
        # A second's share of the warm-up of 59 seconds, and of a cosine over 590; there is nothing steeper.
        steepest = 0.019 if at < 70 else 0.0028
        assert abs(following - rate) <= steepest * (later - at)
    assert all(following <= rate for (_, rate), (_, following) in pairwise(curve[400:])), "never up again"
    middle = min(curve, key=lambda one: abs(one[0] - 302))[1]
    assert middle == pytest.approx(0.525, abs=0.01), "half of the cosine after half of the time"
    assert curve[-1][1] == pytest.approx(0.05, abs=0.01)


def test_a_validation_that_takes_longer_than_expected_makes_no_jump() -> None:
    """Expected are 6.25 s, from the steps; the first validation takes 40."""
    clock = Clock()
    told = list(simulate(minutes(clock, val_images=1000), clock, steps_per_epoch=100, validation=40.0))
    curve = [(at, rate) for at, rate, validates in told if not validates]
    for (at, rate), (later, following) in pairwise(curve):
        assert abs(following - rate) <= (0.021 if at < 90 else 0.0032) * (later - at)
    assert 590 <= clock.now - 100 <= 600


def test_validations_take_a_bounded_share_and_the_last_one_fits() -> None:
    clock = Clock()
    told = list(simulate(minutes(clock), clock, steps_per_epoch=9, validation=6.0))
    validations = [at for at, _, validates in told if validates]
    assert 3 <= len(validations) <= MOST_VALIDATION * 600 / 6 + 1
    assert validations[-1] == pytest.approx(clock.now - 100, abs=0.4)
    assert clock.now - 100 == pytest.approx(600, abs=2)


@pytest.mark.parametrize("validation", [0.1, 10, 60, 1000])
@pytest.mark.parametrize(("steps", "step_seconds"), [(1, 0.05), (20, 0.2), (300, 1.0), (100_000, 0.2), (100_000, 5.0)])
@pytest.mark.parametrize("seconds", [30, 120, 1200])
def test_ends_in_time_whatever_the_size_of_the_data(
    seconds: float, steps: int, step_seconds: float, validation: float
) -> None:
    clock = Clock()
    images = round(validation / step_seconds * 32)
    pace = minutes(clock, seconds, val_images=images)
    told = list(
        simulate(pace, clock, steps_per_epoch=steps, validation=validation, step_seconds=lambda _: step_seconds)
    )
    assert told[-1][2], "the last thing is a validation"
    early = max(0.04 * seconds, 0.2 * validation if validation < 0.2 * seconds else 0.0, step_seconds) + 1
    assert seconds - early <= clock.now - 100 <= seconds + step_seconds + 0.5


def test_a_resumed_run_goes_on_along_the_same_curve() -> None:
    clock = Clock()
    whole = minutes(clock)
    list(zip(range(1000), simulate(whole, clock, steps_per_epoch=9, validation=2.0), strict=False))
    before = whole.at(3, 1000)
    saved = whole.state()
    later = Clock()
    resumed = minutes(later, saved=saved)
    assert resumed.at(3, 1000).fraction == before.fraction
    later.now += 50  # of loading, which do not count
    resumed.start()
    assert resumed.at(3, 1000) == before
    later.now += 100
    clock.now += 100
    assert resumed.rate(resumed.at(3, 1001), 1001) == pytest.approx(whole.rate(whole.at(3, 1001), 1001), abs=1e-3)
    assert str(resumed) == str(whole)


def test_minutes_that_are_over_before_the_first_step(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    told = list(simulate(minutes(clock, 5), clock, steps_per_epoch=9, validation=1.0))
    assert [validates for _, _, validates in told] == [False, True]
    assert "train.minutes were over before the first step; one step is the least there is" in caplog.text


def test_used_is_told_beside_given() -> None:
    clock = Clock()
    pace = minutes(clock)
    clock.now += 30
    pace.start()
    clock.now += 240
    assert str(pace) == "4.5 of 10 minutes (30 s before the first step)"
    assert pace.at(0, 9).seconds_left == 330


def test_warm_up_takes_a_tenth_of_the_time_at_most() -> None:
    pace = minutes(Clock())
    assert pace.rate(Progress(0, None, 0.0), 0) == pytest.approx(1 / 501)
    assert pace.rate(Progress(0, None, 0.05), 10) == pytest.approx(0.5, abs=0.01)
    assert pace.rate(Progress(0, None, 0.1), 10) == pytest.approx(0.976, abs=0.01)
    assert pace.rate(Progress(0, None, 0.01), 499) == pytest.approx(0.998, abs=0.01)
    assert minutes(Clock(), warmup_steps=0).rate(Progress(0, None, 0.0), 0) == 1


def test_steps_of_the_whole_run_are_told_from_those_so_far() -> None:
    pace = minutes(Clock())
    assert pace.total_steps(Progress(1, None, 0.25), 99) == 400
    assert pace.total_steps(Progress(0, None, 0.0), 0) == 1000


def test_the_first_share_of_a_run() -> None:
    assert [Progress(epoch, 10, epoch / 10).within(0.33) for epoch in range(5)] == [True, True, True, False, False]
    assert [Progress(epoch, 10, epoch / 10).before(0.33) for epoch in range(5)] == [True, True, True, True, False]
    for share in (Progress.within, Progress.before):
        assert [share(Progress(0, None, fraction), 0.33) for fraction in (0.0, 0.32, 0.34)] == [True, True, False]


def test_epochs_by_hand() -> None:
    clock = Clock()
    pace = ByEpochs(4, Schedule(1.0, 0, 12, 0.0), validate_every=2, clock=clock, saved={"used": 5.0})
    pace.start()
    clock.now += 2
    assert pace.used() == 7
    assert pace.state() == {"used": 7}
    assert pace.at(1, 3) == Progress(1, 4, 0.25)
    assert pace.at(3, 12).fraction == 1
    validated = [pace.validates(Progress(epoch, 4, 0.0), last=epoch == 3) for epoch in range(4)]
    assert validated == [False, True, False, True]
    assert pace.rate(pace.at(0, 0), 0) == 1.0
    assert pace.rate(pace.at(3, 11), 11) == 0.0
    assert pace.total_steps(pace.at(0, 0), 0) == 12
    assert pace.validation_seconds() is None
