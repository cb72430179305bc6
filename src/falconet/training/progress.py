"""How far a run is, and what follows from it: the learning rate, and whether to validate or to stop.

A run has either a number of epochs, then everything follows the steps, or a number of minutes, then everything follows
the time used over the time given. Nothing is measured beforehand and nothing is planned anew on the way.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from falconet.training.optim import Schedule

_log = logging.getLogger(__name__)

MOST_VALIDATION = 0.08
"""Share of the time used so far that validations may take, the last one apart."""

MOST_LAST = 0.25
"""Share of the minutes that is kept for the last validation. Where that is too little, it sees a part of the images."""

VALIDATION_COST = 0.5
"""Seconds an image takes in a validation over those it takes in a step; assumed until one was measured."""

WRITING_SECONDS = 0.5
"""Time that writing weights and checkpoint takes; assumed until they were written once."""

MARGIN = 1.2
"""What is kept for the end, over what it is expected to take."""

RECENT = 0.05
"""Weight of the last step in the time that a step is expected to take."""

WARMUP_SHARE = 0.1
"""Largest share of a run of given minutes that the warm-up takes."""


class Progress(NamedTuple):
    """How far a run is; the same in all its processes."""

    epoch: int
    """From 0."""
    epochs: int | None
    """How many there will be; None where the run has minutes."""
    fraction: float
    """Share of the run that is over, 0..1."""
    seconds_left: float | None = None
    """Time until the run is over, in this process; None: nothing is known yet."""

    def within(self, share: float) -> bool:
        """Whether the run is in its first `share`, in whole epochs where it has a number of these."""
        return self.fraction < share if self.epochs is None else self.epoch < round(share * self.epochs)

    def before(self, share: float) -> bool:
        """Likewise, but an epoch belongs to the first `share` as soon as it begins there."""
        return self.fraction < share if self.epochs is None else self.epoch < share * self.epochs


class ByEpochs:
    """A run of so many epochs.

    Args:
        epochs: in all.
        schedule: learning rate over the steps.
        validate_every: epochs between validations; the last epoch always validates.
        clock: seconds.
        saved: the `state` of a run that goes on.
    """

    def __init__(
        self,
        epochs: int,
        schedule: Schedule,
        *,
        validate_every: int,
        clock: Callable[[], float] = time.monotonic,
        saved: Mapping[str, float] | None = None,
    ) -> None:
        self.epochs, self.schedule, self.peak = epochs, schedule, schedule.peak
        self._every, self.clock = validate_every, clock
        self._step: float | None = None
        self._validation = 0.0
        self._used = (saved or {}).get("used", 0.0)
        self._began: float | None = None

    @property
    def started(self) -> bool:
        """Whether the first step came."""
        return self._began is not None

    def start(self) -> float:
        """The first step is about to come; what time it is."""
        self._began = self.clock()
        return self._began

    def state(self) -> dict[str, float]:
        """What a run that goes on later needs to know."""
        return {"used": self.used()}

    def at(self, epoch: int, step: int) -> Progress:
        """How far the run is before `step`, which belongs to `epoch` (both from 0, steps over all epochs)."""
        total = self.schedule.total_steps
        validations = self._validation * self.validations_left(epoch)
        left = None if self._step is None else self._step * (total - step) + validations
        return Progress(epoch, self.epochs, min(1.0, step / total), left)

    def validations_left(self, epoch: int) -> int:
        """How many are still to come before `epoch`."""
        return self.epochs // self._every - epoch // self._every + (self.epochs % self._every > 0)

    def rate(self, progress: Progress, step: int) -> float:  # noqa: ARG002
        """The learning rate of `step`."""
        return self.schedule.rate(step)

    def total_steps(self, progress: Progress, step: int) -> int:  # noqa: ARG002
        """Steps of the whole run, as far as one can tell."""
        return self.schedule.total_steps

    def validates(self, progress: Progress, *, last: bool) -> bool:
        """Whether the epoch that ends now is followed by a validation."""
        return last or (progress.epoch + 1) % self._every == 0

    def validation_seconds(self) -> float | None:
        """How long a validation that begins now may take; None: as long as it takes."""
        return None

    def trained(self, images: int, *, since: float) -> float:  # noqa: ARG002
        """A step with so many images is over; it and the wait for them began at `since`. What time it is."""
        now = self.clock()
        took = now - since
        self._step = took if self._step is None else self._step + (took - self._step) * RECENT
        return now

    def validated(self, seconds: float) -> None:
        """A validation took so long."""
        self._validation = seconds

    def wrote(self, seconds: float) -> None:
        """Writing weights and checkpoint took so long."""

    def used(self) -> float:
        """Seconds since the first step, over all resumptions."""
        return self._used + (0.0 if self._began is None else self.clock() - self._began)

    def __str__(self) -> str:
        return f"{self.used() / 60:.1f} minutes"


class ByMinutes:
    """A run that ends when its time is used up, be it within an epoch.

    The time for training is what is left of the minutes at the first step, less what the end will take: the last
    validation and writing. From one look at the clock to the next, what is still to do shrinks as that time does. When
    the end turns out to take longer or shorter than expected, the curve becomes steeper or flatter, but never jumps.

    Args:
        seconds: given to the whole run.
        started: of `clock`, when the run was asked for; all before the first step is start-up.
        peak, floor: largest learning rate, and the rate at the end as a share of it.
        warmup_steps: the rate climbs over these, and over `WARMUP_SHARE` of the time at most.
        val_images: of a validation.
        validate_every: epochs between validations; None validates as often as `MOST_VALIDATION` allows.
        clock: seconds.
        agree: makes a number the same in all processes of a run.
        saved: as of `ByEpochs`; a run that goes on has the time it had left, and its second start-up is not charged.
    """

    epochs = None

    def __init__(
        self,
        seconds: float,
        *,
        started: float,
        peak: float,
        floor: float,
        warmup_steps: int,
        val_images: int,
        validate_every: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        agree: Callable[[float], float] = float,
        saved: Mapping[str, float] | None = None,
    ) -> None:
        self.seconds, self.peak, self.floor, self.warmup_steps = seconds, peak, floor, warmup_steps
        self._started, self._val_images, self._every, self.clock = started, val_images, validate_every, clock
        self._agree = agree
        self._images = 0
        self._training = self._step = 0.0
        saved = saved or {}
        self._used, self._fraction = saved.get("used", 0.0), saved.get("fraction", 0.0)
        self._validation, self._validating = saved.get("validation"), saved.get("validating", 0.0)
        self._writing, self._start_up = saved.get("writing", WRITING_SECONDS), saved.get("start_up")
        self._began: float | None = None
        self._looked = 0.0

    @property
    def started(self) -> bool:
        """As of `ByEpochs`."""
        return self._began is not None

    @property
    def start_up(self) -> float:
        """Seconds before the first step of the whole run; so far, where it has not come yet."""
        return self.clock() - self._started if self._start_up is None else self._start_up

    def start(self) -> float:
        """As of `ByEpochs`."""
        self._start_up = self.start_up
        self._began = self._looked = self.clock()
        if self._seconds_left() > 0:
            _log.info("%.0f s until the first step; %.0f s are left", self.start_up, self._seconds_left())
        else:
            _log.warning("train.minutes were over before the first step; one step is the least there is")
        return self._began

    def state(self) -> dict[str, float]:
        """As of `ByEpochs`."""
        state = {"start_up": self.start_up, "used": self.used(), "fraction": self._fraction, "writing": self._writing}
        measured = {} if self._validation is None else {"validation": self._validation}
        return {**state, **measured, "validating": self._validating}

    def at(self, epoch: int, step: int) -> Progress:  # noqa: ARG002
        """As of `ByEpochs`. The fraction is 1 as soon as there is no time for most of a step."""
        if self._began is None:
            return Progress(epoch, None, self._fraction, max(0.0, self._seconds_left()))
        left, now = self.training_left(), self.clock()
        if left <= self._step / 2:
            self._fraction = 1.0
        else:
            self._fraction = 1 - (1 - self._fraction) * left / (left + now - self._looked)
        self._looked = now
        return Progress(epoch, None, self._agree(self._fraction), max(0.0, self._seconds_left()))

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

    def validation_seconds(self) -> float | None:
        """As of `ByEpochs`."""
        return max(0.0, self._seconds_left() - self._writing)

    def trained(self, images: int, *, since: float) -> float:
        """As of `ByEpochs`."""
        now = self.clock()
        self._step = now - since
        self._training += self._step
        self._images += images
        return now

    def validated(self, seconds: float) -> None:
        """As of `ByEpochs`."""
        self._validation = seconds
        self._validating += seconds

    def wrote(self, seconds: float) -> None:
        """As of `ByEpochs`."""
        self._writing = seconds

    def used(self) -> float:
        """As of `ByEpochs`."""
        return self._used + (0.0 if self._began is None else self.clock() - self._began)

    def __str__(self) -> str:
        total = (self.start_up + self.used()) / 60
        return f"{total:.1f} of {self.seconds / 60:g} minutes ({self.start_up:.0f} s before the first step)"

    def _seconds_left(self) -> float:
        return self.seconds - self.start_up - self.used()

    def training_left(self) -> float:
        """Seconds until the last validation has to begin."""
        reserve = MARGIN * (self._expected_validation() + self._writing)
        return max(0.0, self._seconds_left() - min(MOST_LAST * self.seconds, reserve))

    def _expected_validation(self) -> float:
        if self._validation is not None:
            return self._validation
        return VALIDATION_COST * self._training / max(1, self._images) * self._val_images


Pace = ByEpochs | ByMinutes
"""What decides over the course of a run."""
