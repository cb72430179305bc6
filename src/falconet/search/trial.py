"""A candidate that is trained."""

from dataclasses import dataclass
from pathlib import Path

from falconet.eval.bootstrap import Interval
from falconet.search.candidates import Candidate, Start


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a candidate that was trained.

    Attributes:
        candidate: the network, and how long it takes.
        start: what it started from.
        folder: of its last training.
        minutes: that it was trained, altogether.
        ap: after each of its trainings, a fraction.
        interval: of the last one, see `falconet.eval.bootstrap`.
        failed: why the last one ended before its time.
        shared: minutes of those in which other widths of the same network learnt with it, on the same weights.
        siblings: these other widths, while they learn together; what this trial is, they are at most as good as.
    """

    candidate: Candidate
    start: Start
    folder: Path
    minutes: float
    ap: tuple[float, ...]
    interval: Interval | None = None
    failed: str = ""
    shared: float = 0.0
    siblings: tuple["Trial", ...] = ()

    @property
    def members(self) -> tuple["Trial", ...]:
        """All that learn together."""
        return (self, *self.siblings)
