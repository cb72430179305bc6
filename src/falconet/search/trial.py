"""A candidate that is trained, and a training that says little."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def few_words() -> Iterator[None]:
    """Without what each training tells on the terminal; its train.log has all of it."""

    def passes(record: logging.LogRecord) -> bool:
        return not record.name.startswith(("falconet.training", "falconet.data"))

    handlers = [*logging.getLogger().handlers, *logging.getLogger("falconet").handlers]
    for handler in handlers:
        handler.addFilter(passes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)
