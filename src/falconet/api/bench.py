"""`falconet.bench`: what models take on this machine, by engine, precision and threads.

Each combination runs in a process of its own (`falconet.api.timed`), one after the other and in two rounds, so that a
machine that grows slower does not decide which is the fastest.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from falconet.api.find import find_model
from falconet.api.timed import READY
from falconet.core.cpus import busy_cpus, said_busy, usable_cpus
from falconet.core.errors import ConfigError, ModelError
from falconet.core.exported_files import BESIDE
from falconet.core.figures import plural
from falconet.core.images import is_picture
from falconet.eval.latency import Latency, machine
from falconet.exporting.engines import ENGINES
from falconet.runtime.engines import check_cpus
from falconet.runtime.onnx_cost import multiply_adds
from falconet.runtime.roofline import measure_peak

_log = logging.getLogger(__name__)

ROUNDS = 2
PICTURES = 40
"""Drawn, where no pictures are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model in one engine.

    Attributes:
        model: as it was given.
        path: the file that was run.
        engine, version, precision, threads: what ran it, and how.
        foreign: a file of other programs, of which only the network is timed.
        start: seconds from starting Python to the first answer.
        latency: milliseconds of one picture through the network.
        per_second: pictures per second from files to answers, with `streams` at once; None where it was not measured.
        peak_mb: most memory of the process; None where the system does not tell.
        metrics: AP, or top-1, as fractions; empty without data.
        soak: of a long run, see `falconet.api.timed`.
        peak_share: multiply-adds per second over those of a float32 matrix product with as many threads, measured in
            the same run; None where the file's arithmetic cannot be told.
    """

    model: str
    path: Path
    engine: str
    version: str
    precision: str
    threads: int
    streams: int
    foreign: bool
    start: float
    latency: Latency
    per_second: float | None
    peak_mb: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    soak: dict[str, Any] | None = None
    peak_share: float | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, and where.

    Attributes:
        rows: in the order in which models, engines, precisions and threads were given.
        machine: processor, cores, system.
        busy: CPUs that others computed on at the start.
    """

    rows: tuple[Row, ...]
    machine: dict[str, str]
    busy: float

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        rows = [
            {**asdict(row), "path": str(row.path), "milliseconds": asdict(row.latency)}
            | ({} if row.soak is None else {"soak": row.soak})
            for row in self.rows
        ]
        for row in rows:
            del row["latency"]
        return {"machine": self.machine, "busy_cpus": round(self.busy, 2), "rows": rows}

    def fastest(self, *, key: Callable[[Row], float] = lambda row: row.latency.p50) -> Row:
        """The row of our own models that takes least."""
        own = [row for row in self.rows if not row.foreign] or list(self.rows)
        return min(own, key=key)


def bench(
    models: Sequence[str | Path],
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: Sequence[int] = (),
    against: Sequence[str | Path] = (),
    pictures: Sequence[Path] | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    calls: int = 100,
    rounds: int = ROUNDS,
    soak: float = 0.0,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Bench:
    """Measure models on this machine.

    Args:
        models: exported files or published names.
        engines: by name; none: all that are installed.
        precisions: float32, bfloat16; none: all that engine and processor compute in.
        threads: of each run; none: 1, and as many as CPUs are usable, up to four.
        against: ONNX files of other programs, whose network alone is timed.
        pictures: files to measure pictures per second with; None draws some, an empty list leaves this out.
        data: pictures with truth, for AP or top-1 of each engine and precision.
        split: part of the data.
        calls: of the network, in each round.
        rounds: through all combinations.
        soak: seconds that each combination goes on, in the last round.
        progress: wraps the combinations.

    Raises:
        ConfigError: an engine that is not known or not installed, or a precision nothing computes in.
        ModelError: a file that cannot be run.
    """
    found = {str(one): find_model(one).path for one in models}
    _check(list(found.values()))
    given = {str(one): Path(one) for one in against}
    _check_foreign(list(given.values()))
    counts = threads or sorted({1, min(usable_cpus(), 4)})
    for count in counts:
        check_cpus(count, 1)
    jobs = list(_jobs(found, engines, precisions, counts)) + list(
        _jobs(given, engines, precisions, counts, foreign=True)
    )
    busy = busy_cpus() or 0.0
    sides = _sides(jobs) if given else (0, 0)
    with _pictures(pictures) as files:
        measured: list[list[dict[str, Any]]] = [[] for _ in jobs]
        for number, (place, job) in progress(list(product(range(rounds), enumerate(jobs)))):
            last = number == rounds - 1
            extra = {"pictures": [] if job["foreign"] or not last else files, "soak": soak if last else 0.0}
            measured[place].append(_run(job | extra | {"calls": calls, "size": sides}))
    metrics = {} if data is None else _metrics(jobs, data, split)
    rows = tuple(_row(job, runs, metrics) for job, runs in zip(jobs, measured, strict=True))
    rows = _with_shares(rows, sides)
    return Bench(rows, machine(), busy)


def tell_busy(busy: float | None) -> bool:
    """Warn where others compute on this machine; whether they do.

    Args:
        busy: CPUs that they keep busy, see `falconet.core.cpus.busy_cpus`.
    """
    told = said_busy(busy)
    if told:
        _log.warning("%s", told)
    return bool(told)


def picture_seconds(
    model: Path, *, engine: str, precision: str, threads: int, pictures: Sequence[Path], calls: int
) -> list[float]:
    """Seconds from the pixels of a picture to its answer, in a process of its own.

    Args:
        pictures: are decoded before, and answered in turn.
        calls: that are timed.

    Raises:
        ModelError: the process ended.
    """
    job = {
        "model": str(model), "name": str(model), "engine": engine, "precision": precision, "threads": threads,
        "whole": [str(one) for one in pictures], "calls": calls,
    }  # fmt: skip
    seconds: list[float] = _run(job)["seconds"]
    return seconds


def _check(paths: Sequence[Path]) -> None:
    for path in paths:
        if is_picture(path):
            raise ModelError(f"{path}: is a picture; expected a model, and pictures behind --pictures")
        if path.suffix not in BESIDE:
            raise ModelError(
                f"{path}: is not an exported file; write one with 'falconet export {path} --out exported', "
                "or pass an ONNX file of another program behind --against"
            )


def _check_foreign(paths: Sequence[Path]) -> None:
    """Raise ModelError for what no process needs to be started for."""
    from falconet.runtime.onnx_engine import open_session

    for path in paths:
        if not path.is_file():
            raise ModelError(f"--against {path}: no such file; expected an ONNX file of another program")
        try:
            open_session(path, 1)
        except ModelError as error:
            raise ModelError(
                f"--against {path}: ONNX Runtime cannot open it ({error.__cause__ or error}); expected a complete "
                "ONNX file of another program"
            ) from error


def _jobs(
    models: dict[str, Path],
    engines: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    *,
    foreign: bool = False,
) -> Iterator[dict[str, Any]]:
    """Each combination that can be run here."""
    able = {name: row for name, row in ENGINES.items() if name != "torch"}
    for name in engines:
        if name not in able:
            raise ConfigError(f"engine '{name}' is not known; expected some of {', '.join(able)}")
        if find_spec(able[name].module) is None:
            raise ConfigError(f"engine {name} is not installed; install it with: {able[name].install}")
    wanted = engines or [name for name, row in able.items() if find_spec(row.module) is not None]
    known = {precision for name in wanted for precision in able[name].precisions}
    if unknown := [one for one in precisions if one not in known]:
        raise ConfigError(f"precision {unknown[0]}: expected some of {', '.join(sorted(known, reverse=True))}")
    for model, path in models.items():
        runs = [name for name in wanted if path.suffix in able[name].suffixes]
        if not runs:
            raise ConfigError(f"{model}: none of {', '.join(wanted)} runs such a file")
        for engine, count in product(runs, threads):
            computed = able[engine].computes()
            for precision in [one for one in computed if not precisions or one in precisions]:
                yield {
                    "model": str(path),
                    "name": model,
                    "engine": engine,
                    "precision": precision,
                    "threads": count,
                    "streams": max(1, usable_cpus() // count) if able[engine].streams else 1,
                    "foreign": foreign,
                }


def _sides(jobs: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """(height, width) for inputs of foreign files that leave them open: those of the first of our own."""
    from falconet.api.engines import open_engine

    own = [job for job in jobs if not job["foreign"]]
    if not own:
        return 416, 416
    rule = open_engine(Path(own[0]["model"]), engine=own[0]["engine"]).manifest.preprocess
    return rule.height, rule.width


@contextmanager
def _pictures(given: Sequence[Path] | None) -> Iterator[list[str]]:
    if given is not None:
        yield [str(path) for path in given]
        return
    from falconet.data.drawn import write_drawn_dataset

    with tempfile.TemporaryDirectory(prefix="falconet-bench-") as folder:
        write_drawn_dataset(Path(folder), train=PICTURES, val=1, size=(480, 640))
        yield [str(path) for path in sorted(Path(folder, "train").iterdir())]


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measured, and how long it took to its first answer."""
    command = [sys.executable, "-m", "falconet.api.timed"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with process.stdin:
                    process.stdin.write(json.dumps(job))
                first = process.stdout.readline()
                started = time.perf_counter() - start
                rest = process.stdout.read()
            except BaseException:  # Ctrl-C: nothing goes on behind one's back
                process.kill()
                raise
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
    where = f"{job['name']}: {job['engine']} {job['precision']}, {plural(job['threads'], 'thread')}"
    text = rest if first.strip() == READY else first
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        reason = last or [f"exit code {process.returncode}"]
        raise ModelError(f"{where}: the process that measures it ended: {reason[0]}") from error
    if "error" in found:
        raise ModelError(f"{where}: {found['error']}")
    return found | {"start": started}


def _metrics(jobs: Sequence[dict[str, Any]], data: str | Path, split: str | None) -> dict[tuple[str, ...], Any]:
    """AP or top-1 of each model, engine and precision."""
    from falconet.api.measure import evaluate

    found: dict[tuple[str, ...], dict[str, float]] = {}
    for job in jobs:
        key = (job["model"], job["engine"], job["precision"])
        if not job["foreign"] and key not in found:
            done = evaluate(job["model"], data, split=split, engine=job["engine"], precision=job["precision"])
            values = done.as_dict()
            found[key] = {name: values[name] for name in ("AP", "AP50", "top1") if name in values}
    return found


def _with_shares(rows: Sequence[Row], size: tuple[int, int]) -> tuple[Row, ...]:
    """The rows with the share of this machine's peak that each reaches, where its arithmetic can be told."""
    macs = {path: multiply_adds(path, size=size) for path in {row.path for row in rows}}
    if not any(macs.values()):
        return tuple(rows)
    peaks = {threads: measure_peak(threads).macs for threads in {row.threads for row in rows}}
    shares = [None if (count := macs[row.path]) is None else count / (row.latency.p50 / 1e3) for row in rows]
    return tuple(
        replace(row, peak_share=None if rate is None else rate / peaks[row.threads])
        for row, rate in zip(rows, shares, strict=True)
    )


def _row(job: dict[str, Any], runs: Sequence[dict[str, Any]], metrics: dict[tuple[str, ...], Any]) -> Row:
    last = runs[-1]
    peaks = [run["peak_mb"] for run in runs if run["peak_mb"] is not None]
    return Row(
        model=job["name"],
        path=Path(job["model"]),
        engine=job["engine"],
        version=metadata.version(ENGINES[job["engine"]].module),
        precision=job["precision"],
        threads=job["threads"],
        streams=job["streams"],
        foreign=job["foreign"],
        start=median(run["start"] for run in runs),
        latency=Latency.of([second for run in runs for second in run["seconds"]]),
        per_second=last.get("per_second"),
        peak_mb=max(peaks) if peaks else None,
        metrics=metrics.get((job["model"], job["engine"], job["precision"]), {}),
        soak=last.get("soak"),
    )
