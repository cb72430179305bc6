"""How long a run will take on this machine, told after its first steps; and afterwards how good that was."""

import logging
from dataclasses import dataclass, field

from falconet.core.figures import duration, plural
from falconet.training.progress import VALIDATION_COST, ByEpochs, Pace

_log = logging.getLogger(__name__)

WARM_UP, STEPS = 2, 20
"""Steps that are not counted, since memory and threads are set up in them, and those that are measured then."""

SHARE = 0.1
"""Of a run of epochs, which is the most that is measured before it is told."""

PATIENCE = 60.0
"""Seconds after which fewer steps have to do; one at least."""


@dataclass(slots=True)
class Forecast:
    """What is told of a run of epochs: its time; of a run of minutes: its epochs.

    Args:
        pace: of the run.
        steps: per epoch.
        batch_size: pictures of a step.
        val_images: of a validation.
        may_stop: the run may end earlier.
    """

    pace: Pace
    steps: int
    batch_size: int
    val_images: int
    may_stop: bool = False
    _times: list[float] = field(default_factory=list)
    _skipped: int = 0
    _silent: bool = False
    _told: float | None = None

    def begin_anew(self) -> None:
        """More of the network learns from now on, so steps take longer."""
        self._times, self._silent, self._skipped = [], False, 0

    def stepped(self, seconds: float, *, epoch: int, step: int, frozen: bool) -> None:
        """A step took so long, and `step` of them are over in all; tells the forecast when it is known well enough."""
        if self._silent:
            return
        if self._skipped < WARM_UP:
            self._skipped += 1
            return
        self._times.append(seconds)
        if len(self._times) < self._enough() and sum(self._times) < PATIENCE:
            return
        self._silent = True
        mean = sum(self._times) / len(self._times)
        if isinstance(self.pace, ByEpochs):
            self._tell_time(self.pace, mean, epoch, step, frozen)
        else:
            self._tell_epochs(mean, step, self.pace.training_left())

    def _enough(self) -> int:
        """Steps that are measured."""
        whole = self.pace.schedule.total_steps if isinstance(self.pace, ByEpochs) else STEPS / SHARE
        return min(STEPS, max(1, round(SHARE * whole)))

    def _tell_time(self, pace: ByEpochs, mean: float, epoch: int, step: int, frozen: bool) -> None:
        validation = VALIDATION_COST * mean / self.batch_size * self.val_images
        left = mean * (pace.schedule.total_steps - step) + validation * pace.validations_left(epoch)
        again, self._told = self._told is not None, pace.used() + left
        until = "; steps will take longer once the backbone learns as well, which is told again then" if frozen else ""
        most = "at most " if self.may_stop else ""
        _log.info(
            "%s will take %sabout %s%s: %.2f s a step, %s an epoch, and validations%s",
            plural(pace.epochs, "epoch"),
            most,
            duration(self._told),
            " now" if again else "",
            mean,
            plural(self.steps, "step"),
            until,
        )

    def _tell_epochs(self, mean: float, step: int, left: float) -> None:
        self._told = (step + left / mean) / self.steps
        _log.info(
            "there is time for about %.1f epochs: %.2f s a step, %s an epoch",
            self._told,
            mean,
            plural(self.steps, "step"),
        )

    def over(self, *, step: int) -> None:
        """The run is over after so many steps; says how good the forecast was."""
        if self._told is None:
            return
        if isinstance(self.pace, ByEpochs):
            if step < self.pace.schedule.total_steps:
                return  # it stopped earlier
            took, told = duration(self.pace.used()), duration(self._told)
            off = self.pace.used() / self._told - 1
        else:
            took, told = f"{step / self.steps:.1f} epochs", f"{self._told:.1f}"
            off = step / self.steps / self._told - 1
        _log.info("forecast: %s; it was %s (%+.0f %%)", told, took, 100 * off)
