"""One model measured in a process of its own, which `falconet.api.bench` starts.

It tells when the first answer is there, then milliseconds, pictures per second and peak memory.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from falconet.api.engines import open_engine
from falconet.core.errors import ConfigError, FalconetError, ModelError
from falconet.runtime.engines import Use

READY = "ready"
"""The line that tells of the first answer."""

LONGEST = 30.0
"""Seconds after which a slow model has been called often enough."""

SAMPLES = 20
"""Points of time at which a long run is looked at."""

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def main() -> None:
    """Read what to measure (JSON) from standard input; write the line `READY`, then what was measured as JSON."""
    job: dict[str, Any] = json.load(sys.stdin)
    try:
        found = _measure(job)
    except FalconetError as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps(found))


def _measure(job: dict[str, Any]) -> dict[str, Any]:
    path, use = Path(job["model"]), Use(job["threads"], precision=job["precision"])
    if job.get("whole"):
        call = _whole(path, job["engine"], use, job["whole"])
        call()
        print(READY, flush=True)
        return {"seconds": _seconds(call, job["calls"])}
    call = _foreign(path, job) if job["foreign"] else _own(path, job["engine"], use)
    call()
    print(READY, flush=True)
    found: dict[str, Any] = {"seconds": _seconds(call, job["calls"]), "peak_mb": peak_mb()}
    if job["pictures"]:
        found["per_second"] = _per_second(path, job, Use(job["threads"], job["streams"], job["precision"]))
        found["peak_mb"] = peak_mb()
    if job["soak"]:
        found["soak"] = _soak(call, job["soak"])
    return found


def _own(path: Path, engine: str, use: Use) -> Callable[[], object]:
    opened = open_engine(path, engine=engine, use=use)
    rule = opened.manifest.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    return lambda: opened(pixels)


def _whole(path: Path, engine: str, use: Use, pictures: list[str]) -> Callable[[], object]:
    """A call from the pixels of a picture to its answer; of each picture in turn."""
    from falconet.core.images import read_image
    from falconet.runtime.predictor import Predictor

    predictor: Predictor[Any] = Predictor(open_engine(path, engine=engine, use=use))
    decoded = cycle([read_image(one)[0] for one in pictures])
    return lambda: predictor.predict(next(decoded))


def _foreign(path: Path, job: dict[str, Any]) -> Callable[[], object]:
    """A call of anybody's ONNX file, on noise of its input's shape; open sides are those of `size`."""
    from falconet.runtime.onnx_engine import open_session

    session = open_session(path, job["threads"])
    values = {one.name: _noise(path, one.type, one.shape, job["size"]) for one in session.get_inputs()}
    if job["engine"] == "onnxruntime":
        return lambda: session.run(None, values)
    from falconet.runtime.openvino_engine import open_any

    return open_any(path, list(values.values()), threads=job["threads"], precision=job["precision"])


def _noise(path: Path, kind: str, shape: list[int | str | None], size: tuple[int, int]) -> Any:
    if kind not in _FLOATS or len(shape) != 4:
        raise ModelError(
            f"{path}: its input is {kind} {shape}; expected pixels: four dimensions of float32, float16 or uint8"
        )
    channels_last = shape[3] in (1, 3)
    usual = (1, *size, 3) if channels_last else (1, 3, *size)
    sides = [one if isinstance(one, int) and one > 0 else other for one, other in zip(shape, usual, strict=True)]
    values = np.random.default_rng(0).random(sides)
    return (255 * values).astype(np.uint8) if kind == "tensor(uint8)" else values.astype(_FLOATS[kind])


def _seconds(call: Callable[[], object], calls: int) -> list[float]:
    end = time.perf_counter() + LONGEST
    for _ in range(max(2, calls // 5)):
        call()
    seconds: list[float] = []
    while len(seconds) < calls and (len(seconds) < 3 or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _per_second(path: Path, job: dict[str, Any], use: Use) -> float:
    """Pictures per second from files to answers, after a first round that does not count."""
    from falconet.runtime.pipeline import predict_frames
    from falconet.runtime.predictor import Predictor
    from falconet.runtime.stream import Broken, ImageFile

    predictor: Predictor[Any] = Predictor(open_engine(path, engine=job["engine"], use=use))
    files = [ImageFile(Path(one), str(number)) for number, one in enumerate(job["pictures"])]
    counted = max(len(files), min(200, job["calls"]))
    first = len(files)
    start = 0.0
    for number, item in enumerate(predict_frames(predictor, list(islice(cycle(files), first + counted)))):
        if isinstance(item, Broken):
            raise ConfigError(f"pictures to measure with must be readable: {item.error}")
        if number == first - 1:
            start = time.perf_counter()
    return counted / (time.perf_counter() - start)


def _soak(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """What many calls do to memory and time: the median of milliseconds and the memory in each `SAMPLES`th."""
    parts = []
    for part in _parts(seconds):
        took = []
        while time.perf_counter() < part:
            start = time.perf_counter()
            call()
            took.append(time.perf_counter() - start)
        parts.append({"calls": len(took), "p50_ms": 1e3 * float(np.median(took)), "rss_mb": rss_mb()})
    return {"seconds": seconds, "calls": sum(one["calls"] for one in parts), "parts": parts}


def _parts(seconds: float) -> Iterator[float]:
    start = time.perf_counter()
    for number in range(SAMPLES):
        yield start + (number + 1) * seconds / SAMPLES


def peak_mb() -> float | None:
    """Most memory this process has had, megabytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**20 if sys.platform == "darwin" else 2**10))


def rss_mb() -> float | None:
    """Memory this process has now, megabytes; None where the system does not tell (everywhere but on Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
