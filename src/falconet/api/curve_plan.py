"""How many pictures the trainings of a learning curve have, how long each of them is, and how many there are.

All trainings take the same number of steps. That is what a user does who has so many minutes, whatever the data, and it
leaves the number of pictures as the only thing that differs: with the same number of epochs, a training on more
pictures would be a longer one, too, and the curve would promise of pictures what time alone does.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from falconet.api.train import few_words
from falconet.core.errors import ConfigError
from falconet.core.figures import duration, plural

if TYPE_CHECKING:
    from falconet.training import RunConfig
    from falconet.training.progress import Progress

SMALLEST = 1 / 8
"""Of all pictures, in the smallest part."""

LEAST_PICTURES, LEAST_PART = 8, 4
"""Training pictures that a curve needs, and those of its smallest part at least."""

SIZES = 4
"""Parts of the pictures, the whole among them; each is as many times as large as the one before."""

LEAST_STEPS, LEAST_LOOKS = 200, 4.0
"""Of a training that tells something, and how often it looks at each picture of the whole: shorter ones learn more from
fewer pictures, which they see more often (measured: benchmarks/results/learning_curve.md)."""

ENOUGH_STEPS, MOST_DRAWS = 600, 3
"""From so many steps on, minutes are better spent on other draws of the parts; so many of them at most."""

VALIDATIONS = 3
"""Of each training; the best one counts."""

WATCHED, WATCHED_SECONDS = 12, 20.0
"""Steps whose time is measured beforehand, and seconds after which fewer do."""

VALIDATION_COST = 0.5
"""Seconds of a picture in a validation over those in a step."""

USED = 0.9
"""Share of the minutes that is planned for."""


class Plan(NamedTuple):
    """What is trained.

    Attributes:
        pictures: of each part, ascending; the last one is the whole.
        steps: of each training.
        draws: of the parts, each with a seed of its own.
    """

    pictures: tuple[int, ...]
    steps: int
    draws: int

    def trainings(self) -> list[tuple[int, int]]:
        """(draw, pictures) in the order in which they are trained: the first draw is a whole curve."""
        return [(draw, pictures) for draw in range(self.draws) for pictures in self.pictures]


def part_sizes(total: int) -> tuple[int, ...]:
    """Pictures of each part, ascending, the last one `total`.

    Raises:
        ConfigError: there are too few.
    """
    if total < LEAST_PICTURES:
        raise ConfigError(
            f"{plural(total, 'training picture')}: a curve over parts of so few says nothing; expected "
            f"{LEAST_PICTURES} at least"
        )
    smallest = max(LEAST_PART, SMALLEST * total)
    return tuple(round(smallest * (total / smallest) ** (place / (SIZES - 1))) for place in range(SIZES))


def length(pictures: int, batch: int, steps: int) -> dict[str, Any]:
    """The settings of a training on so many pictures: its epochs, and how often it validates."""
    epochs = max(1, round(steps / steps_per_epoch(pictures, batch)))
    return {"epochs": epochs, "minutes": None, "patience": None, "validate_every": math.ceil(epochs / VALIDATIONS)}


def steps_per_epoch(pictures: int, batch: int) -> int:
    """Of whole batches, as the loader makes them."""
    return pictures // min(batch, pictures)


class Speed(NamedTuple):
    """Seconds on this machine.

    Attributes:
        start: before the first step of a training.
        step: of a training, on average over its course.
        epoch: that an epoch takes besides its steps.
        batch: pictures of a step.
    """

    start: float
    step: float
    epoch: float
    batch: int

    def seconds(self, pictures: int, steps: float, val: int) -> float:
        """Of a training and its evaluation on `val` pictures."""
        looked_at = (VALIDATIONS + 1) * val * VALIDATION_COST * self.step / self.batch
        return self.start + steps * self._whole_step(pictures) + looked_at

    def steps(self, pictures: Sequence[int], seconds: float, val: int) -> int:
        """Of each of the trainings that together take so many seconds; below 0 where not even their start fits."""
        fixed = sum(self.seconds(one, 0, val) for one in pictures)
        return math.floor((seconds - fixed) / sum(map(self._whole_step, pictures)))

    def _whole_step(self, pictures: int) -> float:
        return self.step + self.epoch / steps_per_epoch(pictures, self.batch)


def plan_minutes(speed: Speed, pictures: tuple[int, ...], *, val: int, minutes: float, draws: int | None) -> Plan:
    """The trainings that so many minutes have room for.

    Args:
        speed: of a training here.
        pictures: of each part.
        val: pictures of a validation.
        minutes: for all of them.
        draws: of the parts; None: more than one where the trainings are long enough all the same.

    Raises:
        ConfigError: they have too little.
    """
    seconds = USED * 60 * minutes
    least = max(LEAST_STEPS, math.ceil(LEAST_LOOKS * pictures[-1] / speed.batch))
    tried = range(MOST_DRAWS, 0, -1) if draws is None else [draws]
    steps = {count: speed.steps(pictures * count, seconds, val) for count in tried}
    if draws is None:
        draws = next((count for count in tried if steps[count] >= max(least, ENOUGH_STEPS)), 1)
    if steps[draws] < least:
        needed = sum(speed.seconds(one, least, val) for one in pictures * draws) / USED
        raise ConfigError(
            f"--minutes {minutes:g}: {plural(len(pictures) * draws, 'training')} of {plural(least, 'step')}, the least "
            f"that says something about {pictures[-1]:,} pictures, take about {duration(needed)} here "
            f"({speed.step:.2g} s a step); expected --minutes {math.ceil(needed / 60)} or more, or a smaller input"
        )
    return Plan(pictures, steps[draws], draws)


class _EnoughError(Exception):
    """The steps that were to be watched are over."""


class _Watch:
    """Takes the time of a training's first steps, then ends it."""

    def __init__(self) -> None:
        self.first = 0.0
        self.steps: list[float] = []
        self.epochs: list[float] = []
        self._last, self._between = 0.0, False

    def start(self, progress: "Progress", *, steps: int) -> None:  # noqa: ARG002
        """The first step is about to come."""
        self.first = self._last = time.monotonic()

    def step(self, progress: "Progress", *, step: int, loss: float) -> None:  # noqa: ARG002
        """A step was taken."""
        now = time.monotonic()
        (self.epochs if self._between else self.steps).append(now - self._last)
        self._last, self._between = now, False
        count = len(self.steps) + len(self.epochs)
        if count >= WATCHED or (count > 1 and now - self.first > WATCHED_SECONDS):
            raise _EnoughError

    def epoch(self, metrics: dict[str, Any], progress: "Progress") -> None:  # noqa: ARG002
        """An epoch is over; what follows before the next step is its writing."""
        self._between = True

    def stop(self) -> None:
        """The training is over."""


def measure_speed(run: "RunConfig", pictures: int) -> Speed:
    """How long a training takes here, from the first steps of one.

    Args:
        run: with the fraction of the data that holds `pictures`.
        pictures: to train on.
    """
    start, watch, settled = _watched(run, pictures)
    step, epoch = _seconds(watch)
    if settled.train.freeze == "backbone":
        assert isinstance(settled.train.freeze_share, float), "it was settled with the weights"
        free = run.model_copy(update={"train": run.train.model_copy(update={"freeze": "none"})})
        later = _seconds(_watched(free, pictures)[1])[0]
        step += (1 - settled.train.freeze_share) * max(0.0, later - step)
    return Speed(start, step, epoch, min(run.train.batch_size, pictures))


def _seconds(watch: _Watch) -> tuple[float, float]:
    """(of a step, of what comes between epochs); the very first step warms up."""
    inner, outer = watch.steps[1:], watch.epochs
    if not inner:
        return sum(outer) / max(1, len(outer)) or watch.steps[0], 0.0
    step = sum(inner) / len(inner)
    return step, max(0.0, sum(outer) / len(outer) - step) if outer else 0.0


def _watched(run: "RunConfig", pictures: int) -> tuple[float, _Watch, "RunConfig"]:
    """(seconds before the first step, the steps, the run as it was settled), of a training that is thrown away."""
    from falconet import training
    from falconet.training.run_folder import RunFolder

    watch, began = _Watch(), time.monotonic()
    steps = WATCHED * steps_per_epoch(pictures, run.train.batch_size) + 1  # does not end, nor validate, before
    settings = {**length(pictures, run.train.batch_size, steps), "validate_every": steps, "loggers": ()}
    with tempfile.TemporaryDirectory(prefix="falconet-") as folder:
        path = Path(folder) / "run"
        train = run.train.model_copy(update=settings)
        with few_words(), suppress(_EnoughError):
            training.fit(run.model_copy(update={"output": path, "train": train}), callback=watch)
        return watch.first - began, watch, RunFolder(path).read_run()
