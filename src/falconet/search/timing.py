"""Milliseconds of networks that are not trained, from pixels to selected boxes, in this process."""

import logging
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from falconet.api.engines import open_engine
from falconet.core.types import Pixels
from falconet.exporting.untrained import write_untrained
from falconet.models import ModelConfig
from falconet.runtime.engines import Use
from falconet.runtime.predictor import Predictor
from falconet.search.space import Shape

_log = logging.getLogger(__name__)

WARM_UP, LEAST, MOST, SECONDS = 3, 12, 60, 0.6
"""Calls that do not count; calls that do, at least and at most; seconds after which the least are enough."""


class Timing(NamedTuple):
    """Milliseconds of one picture, from its pixels to its boxes."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Way:
    """How networks are run."""

    engine: str
    precision: str
    threads: int

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}, {self.threads} thread{'s' if self.threads > 1 else ''}"


class Stopwatch:
    """Times untrained networks, each once.

    Args:
        way: how they are run.
        classes: that they would know.
        pictures: uint8 [H, W, 3], what they look at.
        known: what was measured before, by the network's configuration.
        measured: is told of each new figure: (configuration as JSON, figure).
    """

    def __init__(
        self,
        way: Way,
        classes: tuple[str, ...],
        pictures: Sequence[Pixels],
        known: dict[str, Timing],
        measured: Callable[[str, Timing], None],
    ) -> None:
        self.way, self.classes, self.pictures = way, classes, pictures
        self._known, self._measured = known, measured

    def __call__(self, model: ModelConfig) -> Timing:
        """The time of the network `model`."""
        key = model.model_dump_json()
        if key not in self._known:
            self._known[key] = untrained_timing(model, self.classes, self.way, self.pictures)
            self._measured(key, self._known[key])
        return self._known[key]


def untrained_timing(model: ModelConfig, classes: tuple[str, ...], way: Way, pictures: Sequence[Pixels]) -> Timing:
    """Build, write and time one network."""
    with tempfile.TemporaryDirectory(prefix="falconet-fit-") as folder:
        file = write_untrained(model, classes, Path(folder, "candidate.onnx"))
        engine = open_engine(file, engine=way.engine, use=Use(way.threads, precision=way.precision))
        predictor: Predictor[Any] = Predictor(engine)
        return timing([lambda one=one: predictor.predict(one) for one in pictures])


def timing(calls: Sequence[Callable[[], object]]) -> Timing:
    """The time of calls, one after the other and around again."""
    for number in range(WARM_UP):
        calls[number % len(calls)]()
    taken: list[float] = []
    start = time.perf_counter()
    while len(taken) < MOST and (len(taken) < LEAST or time.perf_counter() - start < SECONDS):
        before = time.perf_counter()
        calls[len(taken) % len(calls)]()
        taken.append(1e3 * (time.perf_counter() - before))
    return Timing(float(np.median(taken)), float(np.percentile(taken, 95)))


SURE = 1.1
"""A time that is expected this much above or below the budget needs no measurement: it grows about as the pixels."""

FIXED = 0.022
"""Of the budget, that a network may take whatever the pixels: of so much more are larger inputs expected to take."""


def largest_size(
    shape: Shape,
    sizes: Sequence[tuple[int, int]],
    budget: float,
    clock: Callable[[ModelConfig], Timing],
    *,
    first: int | None = None,
) -> tuple[int, Timing] | None:
    """The largest input at which a network takes at most `budget` milliseconds (p95), and its time; None where the
    smallest takes longer.

    Args:
        sizes: (height, width), ascending.
        first: that is measured first, by its place among the sizes; None: the one in the middle.

    Returns:
        Place among the sizes, and what was measured there.
    """
    low, high = -1, len(sizes)  # `low` fits, `high` does not
    fitting: Timing | None = None
    guess = len(sizes) // 2 if first is None else first
    while high - low > 1:
        found = clock(shape.at(sizes[guess]))
        if found.p95 <= budget:
            low, fitting = guess, found
        else:
            high = guess
        growth = [math.prod(size) / math.prod(sizes[guess]) for size in sizes]
        expected = [found.p95 * one for one in growth]
        sure = [(SURE + FIXED * max(0.0, one - 1)) * budget for one in growth]
        high = min([high, *(place for place in range(low + 1, high) if expected[place] > sure[place])])
        likely = sum(one <= budget for one in expected) - 1
        guess = min(max(likely, low + 1), high - 1)
    return None if fitting is None else (low, fitting)
