"""How long a call takes, as percentiles, and on which machine."""

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from falconet.core.cpus import usable_cpus

Stage = tuple[str, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call: median, 90th, 95th and 99th percentile, mean, and how many calls were timed."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """Percentiles of measured times.

        Raises:
            ValueError: no times.
        """
        if not len(seconds):
            raise ValueError("a latency needs at least one timed call, but got none")
        times = np.asarray(seconds, np.float64) * 1e3
        p50, p90, p95, p99 = (float(value) for value in np.percentile(times, (50, 90, 95, 99)))
        return cls(p50, p90, p95, p99, float(times.mean()), len(times))


def measure(call: Callable[[], object], *, warm_up: int = 10, calls: int = 100, at_most: float = math.inf) -> Latency:
    """The latency of `call`, after `warm_up` calls that do not count; fewer calls once `at_most` seconds are over."""
    end = time.perf_counter() + at_most
    for _ in range(warm_up):
        call()
        if time.perf_counter() > end:
            break
    seconds: list[float] = []
    while len(seconds) < calls and (not seconds or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Latency.of(seconds)


def measure_stages(stages: Sequence[Stage], inputs: Sequence[Any], *, warm_up: int = 3) -> dict[str, Latency]:
    """Latency of each stage of a chain and of the whole ("total").

    Args:
        stages: (name, function) in order; each receives what the one before returned.
        inputs: each goes once through the chain and is timed.
        warm_up: of the first inputs go through beforehand and do not count.

    Raises:
        ValueError: no inputs.
    """
    for value in inputs[:warm_up]:
        _times(stages, value)
    rows = np.array([_times(stages, value) for value in inputs]).reshape(len(inputs), len(stages))
    timed = {name: Latency.of(rows[:, column].tolist()) for column, (name, _) in enumerate(stages)}
    return {**timed, "total": Latency.of(rows.sum(1).tolist())}


def machine() -> dict[str, str]:
    """What a timing depends on: processor, cores this process may use, operating system, versions."""
    return {
        "processor": _processor(),
        "cores": str(usable_cpus()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": metadata.version("onnxruntime"),
    }


def _times(stages: Sequence[Stage], value: Any) -> list[float]:
    seconds = []
    for _, function in stages:
        start = time.perf_counter()
        value = function(value)
        seconds.append(time.perf_counter() - start)
    return seconds


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
