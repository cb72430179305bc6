"""How many runs of a network a machine does best at once, and with how many threads each: measured once, remembered.

Each number of threads is tried with as many runs at the same time as the CPUs have room for, since runs that go on
beside one another share memory and caches: one run by itself would promise too much.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from falconet.api.engines import open_engine
from falconet.api.tuned import circumstances
from falconet.core.cache import cache_folder, read_notes, write_notes
from falconet.core.cpus import BUSY, busy_cpus
from falconet.core.errors import DataError
from falconet.core.exported_files import model_files
from falconet.eval.latency import machine
from falconet.runtime.engines import Engine, Use

_log = logging.getLogger(__name__)

SECONDS = 0.4
"""That each number of threads is measured for, after the first calls, which do not count."""

CALLS = 4
"""Of each run at least, however slow the model is."""

WORSE = 0.8
"""Share of the best so far below which more threads are not tried."""

ALIKE = 0.95
"""Share of the most pictures per second from which on fewer threads are preferred."""

MOST_AT_ONCE = 16
"""Runs that are measured at the same time at most."""


@dataclass(frozen=True, slots=True)
class Point:
    """A number of threads, measured.

    Attributes:
        threads: of each run.
        at_once: runs that the CPUs have room for.
        p50_ms: median milliseconds of a picture through the network, while as many others go on.
    """

    threads: int
    at_once: int
    p50_ms: float

    @property
    def per_second(self) -> float:
        """Pictures per second of all runs together."""
        return 1e3 * self.at_once / self.p50_ms


@dataclass(frozen=True, slots=True)
class Chosen:
    """How a network is run.

    Attributes:
        threads: of each run.
        at_once: runs at the same time; of a cluster on all machines together.
        why: in words.
        curve: what was measured; empty where nothing was.
    """

    threads: int
    at_once: int
    why: str
    curve: tuple[Point, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        points = [
            {**asdict(one), "p50_ms": round(one.p50_ms, 3), "per_second": round(one.per_second, 1)}
            for one in self.curve
        ]
        return {"at_once": self.at_once, "threads": self.threads, "why": self.why, "curve": points}


def curve(path: Path, engine: str, precision: str, cpus: int, *, most: int | None = None) -> tuple[Point, ...]:
    """Measure a model with 1, 2, 4 and so on threads, or take what was measured here before.

    Args:
        path: exported file.
        engine, precision: as in `falconet.api.engines.open_engine`.
        cpus: that all runs together may use.
        most: runs at the same time; None: as many as there is room for.
    """
    key = "|".join(map(str, (_digest(path), engine, precision, cpus, most)))
    known = read_notes(_path())
    there = known.get(key)
    if isinstance(there, dict) and there.get("circumstances") == circumstances():
        return tuple(Point(*one) for one in there["points"])
    points: list[Point] = []
    for threads in _candidates(cpus):
        room = max(1, cpus // threads if most is None else min(most, cpus // threads))
        opened = open_engine(path, engine=engine, use=Use(threads, min(room, MOST_AT_ONCE), precision))
        points.append(Point(threads, room, 1e3 * _median(opened, min(room, MOST_AT_ONCE))))
        if points[-1].per_second < WORSE * max(one.per_second for one in points):
            break
    known[key] = {
        "circumstances": circumstances(),
        "points": [(one.threads, one.at_once, one.p50_ms) for one in points],
    }
    try:
        write_notes(_path(), known)
    except DataError as error:
        _log.info("what was measured is not remembered: %s", error)
    return tuple(points)


def choose(path: Path, engine: str, precision: str, cpus: int, *, most: int) -> Chosen:
    """How this machine answers most pictures per second.

    Args:
        path, engine, precision, cpus, most: as of `curve`.
    """
    if cpus < 2:
        return Chosen(1, 1, "there is one CPU")
    if (busy := busy_cpus() or 0.0) >= BUSY:
        return Chosen(1, min(cpus, most), f"not measured, since others keep {busy:.1f} CPUs busy: one thread each")
    return best(curve(path, engine, precision, cpus, most=most))


def processor() -> str:
    """The name of this machine's processor."""
    return machine()["processor"]


def best(points: Sequence[Point]) -> Chosen:
    """The fewest threads that give as good as the most pictures per second."""
    return together([(1, points)])


def together(kinds: Sequence[tuple[int, Sequence[Point]]]) -> Chosen:
    """The same for several kinds of machines, which all take one number of threads.

    Args:
        kinds: how many machines of a kind there are, and what one of them measured.
    """
    rates: dict[int, float] = {}
    runs: dict[int, int] = {}
    for machines, points in kinds:
        for one in points:
            rates[one.threads] = rates.get(one.threads, 0.0) + machines * one.per_second
            runs[one.threads] = runs.get(one.threads, 0) + machines * one.at_once
    threads = min(one for one, rate in rates.items() if rate >= ALIKE * max(rates.values()))
    told = ", ".join(f"{rate:.1f} with {one}" for one, rate in sorted(rates.items()))
    why = f"measured, pictures per second of the network alone by threads of a run: {told}"
    return Chosen(threads, runs[threads], why, tuple(one for _, points in kinds for one in points))


def _candidates(cpus: int) -> list[int]:
    return [2**power for power in range(cpus.bit_length()) if 2**power <= cpus]


def _median(engine: Engine, at_once: int) -> float:
    """Median seconds of a picture, while `at_once` runs go on."""
    rule = engine.manifest.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    started = threading.Barrier(at_once)
    took: list[list[float]] = [[] for _ in range(at_once)]
    threads = [threading.Thread(target=_calls, args=(lambda: engine(pixels), started, one)) for one in took]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return median(seconds for one in took for seconds in one)


def _calls(call: Callable[[], object], started: threading.Barrier, took: list[float]) -> None:
    for _ in range(2):
        call()
    started.wait()
    end = time.perf_counter() + SECONDS
    while len(took) < CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)


def _digest(path: Path) -> str:
    digest = sha256()
    for file in model_files(path):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _path() -> Path:
    return cache_folder() / "threads.json"
