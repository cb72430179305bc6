"""How far a run is: rates and ends by steps and by time, on a clock that the test winds."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from falconet.train.optim import Schedule
from falconet.train.progress import ByEpochs, ByMinutes, Progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def minutes(clock: Clock, seconds: float = 600, **options: object) -> ByMinutes:
    values = {"peak": 1.0, "floor": 0.05, "warmup_steps": 500, "val_images": 40}
    return ByMinutes(seconds, clock=clock, **values | options)  # type: ignore[arg-type]


def simulate(
    pace: ByMinutes, clock: Clock, *, steps_per_epoch: int, validation: float, slow_from: float = 1e9
) -> Iterator[tuple[float, float, bool]]:
    """(seconds, rate, whether a validation follows) of each step; a step takes 0.2 s, later 0.4 s."""
    began = clock.now
    pace.start(used=0.0)
    step = epoch = 0
    while True:
        first = clock.now
        for number in range(steps_per_epoch):
            progress = pace.at(epoch, step)
            if progress.fraction >= 1:
                break
            at = clock.now - began
            clock.now += 0.2 if at < slow_from else 0.4
            pace.trained((number + 1) * 16, clock.now - first)
            yield at, pace.rate(progress, step), False
            step += 1
        progress = pace.at(epoch, step)
        last = progress.fraction >= 1
        if pace.validates(progress, last=last):
            clock.now += validation
            pace.validated(validation)
            yield clock.now - began, 0.0, True
        epoch += 1
        if last:
            return


@pytest.mark.parametrize("slow_from", [1e9, 300.0])
def test_the_rate_is_a_smooth_curve_over_the_time(slow_from: float) -> None:
    """Also of a machine that becomes twice as slow in the middle of the run."""
    clock = Clock()
    told = list(simulate(minutes(clock), clock, steps_per_epoch=9, validation=2.0, slow_from=slow_from))
    curve = [(at, rate) for at, rate, validates in told if not validates]
    assert clock.now - 100 == pytest.approx(600, abs=1.5)
    for (at, rate), (later, following) in pairwise(curve):
        steepest = 0.018 if at < 61 else 0.0026  # a second: of 60 seconds of warm-up, of the cosine over 600
        assert abs(following - rate) <= steepest * (later - at)
    tenth, middle = (min(curve, key=lambda one: abs(one[0] - wanted))[1] for wanted in (60, 300))
    assert middle == pytest.approx(0.525, abs=0.01), "half of the cosine after half of the time"
    assert tenth > 0.9
    assert curve[-1][1] == pytest.approx(0.05, abs=0.01)


def test_validations_take_a_bounded_share_and_the_last_one_fits() -> None:
    clock = Clock()
    told = list(simulate(minutes(clock), clock, steps_per_epoch=9, validation=6.0))
    validations = [at for at, _, validates in told if validates]
    assert 3 <= len(validations) <= 0.08 * 600 / 6 + 1
    assert validations[-1] == pytest.approx(clock.now - 100)
    assert clock.now - 100 == pytest.approx(600, abs=2)


def test_a_run_shorter_than_an_epoch() -> None:
    clock = Clock()
    told = list(simulate(minutes(clock, 120), clock, steps_per_epoch=100_000, validation=0.3))
    assert [validates for _, _, validates in told].count(True) == 1
    assert clock.now - 100 == pytest.approx(120, abs=1.5)
    assert told[-2][1] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("steps", "validation"), [(2, 0.2), (20, 1.0), (300, 8.0), (3000, 30.0)])
@pytest.mark.parametrize("seconds", [60, 120, 300, 1200])
def test_ends_in_time_whatever_the_size_of_the_data(steps: int, validation: float, seconds: float) -> None:
    """Within 3 per cent, and 5 seconds at least; validations of a sixth of the images take half of a step's time."""
    clock = Clock()
    pace = minutes(clock, seconds, val_images=round(validation / 0.00625))
    list(simulate(pace, clock, steps_per_epoch=steps, validation=validation))
    assert clock.now - 100 == pytest.approx(seconds, abs=max(5.0, 0.03 * seconds))


def test_a_resumed_run_goes_on_along_the_same_curve() -> None:
    clock = Clock()
    whole = minutes(clock)
    whole.start(used=0.0)
    clock.now += 300
    expected = whole.rate(whole.at(3, 1000), 1000)
    later = Clock()
    resumed = minutes(later)
    later.now += 50  # of loading, which do not count
    resumed.start(used=300.0)
    assert resumed.rate(resumed.at(3, 1000), 1000) == pytest.approx(expected)
    assert resumed.used() == 300


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


def test_epochs_by_hand() -> None:
    clock = Clock()
    pace = ByEpochs(4, Schedule(1.0, 0, 12, 0.0), validate_every=2, clock=clock)
    pace.start(used=5.0)
    clock.now += 2
    assert pace.used() == 7
    assert pace.at(1, 3) == Progress(1, 4, 0.25)
    assert pace.at(3, 12).fraction == 1
    validated = [pace.validates(Progress(epoch, 4, 0.0), last=epoch == 3) for epoch in range(4)]
    assert validated == [False, True, False, True]
    assert pace.rate(pace.at(0, 0), 0) == 1.0
    assert pace.rate(pace.at(3, 11), 11) == 0.0
    assert pace.total_steps(pace.at(0, 0), 0) == 12
