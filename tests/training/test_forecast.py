"""How long a run will take, told after its first steps, and how good that was."""

import logging

import pytest

from falconet.training.forecast import Forecast
from falconet.training.optim import Schedule
from falconet.training.progress import ByEpochs, ByMinutes
from tests.training.clock import Clock


def by_epochs(clock: Clock, *, epochs: int = 10, steps: int = 30) -> ByEpochs:
    schedule = Schedule(peak=1.0, total_steps=epochs * steps, warmup_steps=0, floor=0.05)
    return ByEpochs(epochs, schedule, validate_every=2, clock=clock)


def run(
    forecast: Forecast, clock: Clock, *, epochs: int = 10, steps: int = 30, seconds: float = 0.5, thawed: int = 0
) -> None:
    """All steps of a run; the first two are slow, those from epoch `thawed` on take twice as long."""
    pace, step = forecast.pace, 0
    lap = pace.start()
    for epoch in range(epochs):
        if thawed and epoch == thawed:
            forecast.begin_anew()
        for _ in range(steps):
            clock.now += 5.0 if step < 2 else seconds * (2 if thawed and epoch >= thawed else 1)
            before, lap = lap, pace.trained(8, since=lap)
            step += 1
            forecast.stepped(lap - before, epoch=epoch, step=step, frozen=epoch < thawed)
    forecast.over(step=step)


def test_a_run_of_epochs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    run(Forecast(by_epochs(clock), 30, 8, 16), clock)
    told, over = caplog.messages
    # 10 s of the first two steps, 298 of 0.5 s, 5 validations of 16 pictures of half a step's 1/16 s.
    assert told == "10 epochs will take about 2.7 minutes: 0.50 s a step, 30 steps an epoch, and validations"
    assert over == "forecast: 2.7 minutes; it was 2.6 minutes (-2 %)"  # there was no validation


def test_once_more_learns_it_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    run(Forecast(by_epochs(clock), 30, 8, 0), clock, thawed=5)
    first, second, over = caplog.messages
    assert "steps will take longer once the backbone learns as well" in first
    assert second == "10 epochs will take about 3.9 minutes now: 1.00 s a step, 30 steps an epoch, and validations"
    assert over == "forecast: 3.9 minutes; it was 3.9 minutes (+0 %)"


def test_a_short_run_is_told_of_early(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    run(Forecast(by_epochs(clock, epochs=4, steps=2), 2, 8, 0), clock, epochs=4, steps=2)
    assert caplog.messages[0].startswith("4 epochs will take about 13 seconds")


def test_a_run_that_may_stop_takes_at_most_that_and_is_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    forecast = Forecast(by_epochs(clock), 30, 8, 0, may_stop=True)
    run(forecast, clock, epochs=3)
    (told,) = caplog.messages
    assert "will take at most about" in told


def test_slow_steps_are_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    run(Forecast(by_epochs(clock), 30, 8, 0), clock, epochs=1, seconds=40)
    (told,) = caplog.messages
    assert "40.00 s a step" in told


def test_a_run_of_minutes_is_told_its_epochs(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    pace = ByMinutes(600, started=clock.now, peak=1.0, floor=0.1, warmup_steps=0, val_images=0, clock=clock)
    caplog.set_level(logging.INFO, logger="falconet.training.forecast")
    run(Forecast(pace, 30, 8, 0), clock, epochs=39)
    told, over = (message for message in caplog.messages if "until the first" not in message)
    # 600 s, 0.6 kept for writing, 10 of the first two steps: 1,179 steps of 0.5 s and the two.
    assert told == "there is time for about 39.4 epochs: 0.50 s a step, 30 steps an epoch"
    assert over == "forecast: 39.4; it was 39.0 epochs (-1 %)"
