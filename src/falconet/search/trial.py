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
    """

    candidate: Candidate
    start: Start
    folder: Path
    minutes: float
    ap: tuple[float, ...]
    interval: Interval | None = None
    failed: str = ""
