"""How far a run is, and what follows from it: the learning rate, and whether to validate or to stop.

A run has either a number of epochs, then everything follows the steps, or a number of minutes, then everything follows
the time used over the time given. Nothing is measured beforehand and nothing is planned anew on the way.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from falconet.train.optim import Schedule

MOST_VALIDATION = 0.08
"""Share of the minutes that validations may take, the last one apart."""

SPARE_SECONDS = 0.5
"""Kept for writing the weights and the checkpoint when the minutes end."""

VALIDATION_COST = 0.5
"""Seconds an image takes in a validation over those it takes in a step; assumed until one was measured."""

WARMUP_SHARE = 0.1
"""Largest share of a run of given minutes that the warm-up takes."""


class Progress(NamedTuple):
    """How far a run is; the same in all its processes."""

    epoch: int
    """From 0."""
    epochs: int | None
    """In all; None where the run has minutes."""
    fraction: float
    """Of the whole run, 0..1."""

    def within(self, share: float) -> bool:
        """Whether the run is in its first `share`, in whole epochs where it has a number of these."""
        return self.fraction < share if self.epochs is None else self.epoch < round(share * self.epochs)


class ByEpochs:
    """A run of so many epochs.

    Args:
        epochs: in all.
        schedule: learning rate over the steps.
        validate_every: epochs between validations; the last epoch always validates.
        clock: seconds.
    """

    def __init__(
        self, epochs: int, schedule: Schedule, *, validate_every: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.epochs, self.schedule, self._every, self._clock = epochs, schedule, validate_every, clock
        self._began = clock()

    def start(self, *, used: float) -> None:
        """The first step is about to come; an interrupted run used so many seconds before."""
        self._began = self._clock() - used

    def at(self, epoch: int, step: int) -> Progress:
        """How far the run is before `step`, which belongs to `epoch` (both from 0, steps over all epochs)."""
        return Progress(epoch, self.epochs, min(1.0, step / self.schedule.total_steps))

    def rate(self, progress: Progress, step: int) -> float:  # noqa: ARG002
        """The learning rate of `step`."""
        return self.schedule.rate(step)

    def total_steps(self, progress: Progress, step: int) -> int:  # noqa: ARG002
        """Steps of the whole run, as far as one can tell."""
        return self.schedule.total_steps

    def validates(self, progress: Progress, *, last: bool) -> bool:
        """Whether the epoch that ends now is followed by a validation."""
        return last or (progress.epoch + 1) % self._every == 0

    def validated(self, seconds: float) -> None:
        """A validation took so long."""

    def trained(self, images: int, seconds: float) -> None:
        """So many images were trained on in so many seconds."""

    def used(self) -> float:
        """Seconds since the first step, over all resumptions."""
        return self._clock() - self._began


class ByMinutes:
    """A run that ends when its time is used up, be it within an epoch.

    The time given is what is left of the minutes at the first step, less what the last validation will take.

    Args:
        seconds: left at the first step.
        peak, floor: largest learning rate, and the rate at the end as a share of it.
        warmup_steps: the rate climbs over these, and over `WARMUP_SHARE` of the time at most.
        val_images: of a validation.
        validate_every: epochs between validations; None validates as often as `MOST_VALIDATION` allows.
        clock: seconds.
        agree: makes a number the same in all processes of a run.
    """

    def __init__(
        self,
        seconds: float,
        *,
        peak: float,
        floor: float,
        warmup_steps: int,
        val_images: int,
        validate_every: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        agree: Callable[[float], float] = float,
    ) -> None:
        self.seconds, self.peak, self.floor, self.warmup_steps = seconds, peak, floor, warmup_steps
        self._val_images, self._every, self._clock, self._agree = val_images, validate_every, clock, agree
        self._began = clock()
        self._validation: float | None = None
        self._validating = 0.0
        self._per_image = 0.0

    def start(self, *, used: float) -> None:
        """As of `ByEpochs`."""
        self._began = self._clock() - used

    def at(self, epoch: int, step: int) -> Progress:  # noqa: ARG002
        """As of `ByEpochs`."""
        given = max(1e-3, self.seconds - self._reserve())
        return Progress(epoch, None, self._agree(min(1.0, self.used() / given)))

    def rate(self, progress: Progress, step: int) -> float:
        """The warm-up times half a cosine down to the floor."""
        climbed = (step + 1) / (self.warmup_steps + 1)
        if self.warmup_steps:
            climbed = max(climbed, progress.fraction / WARMUP_SHARE)
        cosine = (1 + math.cos(math.pi * progress.fraction)) / 2
        return self.peak * min(1.0, climbed) * (self.floor + (1 - self.floor) * cosine)

    def total_steps(self, progress: Progress, step: int) -> int:
        """As of `ByEpochs`."""
        return max(step + 1, round((step + 1) / max(progress.fraction, 1e-3)))

    def validates(self, progress: Progress, *, last: bool) -> bool:
        """As of `ByEpochs`."""
        if last:
            return True
        if self._every is not None:
            return (progress.epoch + 1) % self._every == 0
        expected = self._validating + self._expected_validation()
        return self._agree(float(expected <= MOST_VALIDATION * self.used())) > 0

    def validated(self, seconds: float) -> None:
        """As of `ByEpochs`."""
        self._validation = seconds
        self._validating += seconds

    def trained(self, images: int, seconds: float) -> None:
        """As of `ByEpochs`."""
        self._per_image = seconds / max(1, images)

    def used(self) -> float:
        """As of `ByEpochs`."""
        return self._clock() - self._began

    def _expected_validation(self) -> float:
        if self._validation is not None:
            return self._validation
        return VALIDATION_COST * self._per_image * self._val_images

    def _reserve(self) -> float:
        return min(self.seconds / 2, SPARE_SECONDS + 1.05 * self._expected_validation())


Pace = ByEpochs | ByMinutes
"""What decides over the course of a run."""
