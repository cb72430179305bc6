"""What `falconet tune` found out about a model on this machine, and whoever opens the model without naming an engine
takes."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.core.cache import cache_folder, read_notes, write_notes
from falconet.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from falconet.api.bench import Bench, Row

_log = logging.getLogger(__name__)

MODULES = ("onnxruntime", "openvino")
"""A new version of one of these may be faster or slower than that which was measured."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """How to run a file."""

    engine: str
    precision: str


def tune(
    model: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    threads: int | None = None,
    loss: float = 0.002,
    calls: int = 100,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> "tuple[Bench, Row, Path]":
    """Measure a model in every engine, and remember the fastest one for this machine.

    Args:
        model: exported file or published name.
        data: pictures with truth; a precision below float32 is only measured, and taken, where they show its cost.
        split: part of the data.
        threads: of each run; None takes the usable CPUs, at most four.
        loss: AP or top-1, a fraction, that a lower precision may cost.
        calls: timed runs of the network, in each of two rounds.
        progress: wraps what is measured.

    Returns:
        What was measured, the row that is taken from now on, and the file that remembers it.

    Raises:
        ConfigError, ModelError: as `falconet.api.bench.bench`; a cache folder that nothing can be remembered in.
    """
    from falconet.api.bench import bench
    from falconet.runtime.engines import default_threads

    _check_writable(_path())
    found = bench(
        [model],
        precisions=("float32",) if data is None else (),
        threads=[threads or default_threads()],
        pictures=[],
        data=data,
        split=split,
        calls=calls,
        progress=progress,
    )
    chosen = fastest(found.rows, loss=loss)
    return found, chosen, remember(chosen)


def fastest(rows: "Sequence[Row]", *, loss: float) -> "Row":
    """The row of the least median time among those that cost at most `loss` against float32 in the same engine."""
    full = {row.engine: row.metrics for row in rows if row.precision == "float32"}

    def allowed(row: "Row") -> bool:
        if row.precision == "float32":
            return True
        before = full.get(row.engine, {})
        return bool(row.metrics) and all(value >= before.get(name, 1.0) - loss for name, value in row.metrics.items())

    return min(filter(allowed, rows), key=lambda row: row.latency.p50)


def remember(row: "Row") -> Path:
    """Write down what is taken for the row's file from now on; returns where."""
    path = _path()
    known = read_notes(path)
    known[str(row.path.resolve())] = {
        **_circumstances(row.path),
        "engine": row.engine,
        "precision": row.precision,
        "p50_ms": row.latency.p50,
        "metrics": row.metrics,
    }
    write_notes(path, known)
    return path


def _check_writable(path: Path) -> None:
    """Raise ConfigError before minutes are spent on what could not be remembered."""
    try:
        write_notes(path, read_notes(path))
    except DataError as error:
        raise ConfigError(
            f"{error}; what tune finds would be lost. Let XDG_CACHE_HOME name a folder that can be written, or measure "
            "with 'falconet bench', and pass --engine and --precision to predict and eval"
        ) from error


def tuned(model: Path) -> Tuned | None:
    """What was found out about this file; None where nothing was, or something has changed since, which is told."""
    entry = read_notes(_path()).get(str(model.resolve()))
    if not isinstance(entry, dict) or not model.is_file():
        return None
    changed = [key for key, value in _circumstances(model).items() if entry.get(key) != value]
    if changed:
        what = "the file has" if {"size", "changed"} & set(changed) else "the processor or an engine's version has"
        _log.warning("%s changed since 'falconet tune %s', which has to be repeated", what, model)
        return None
    found = Tuned(str(entry.get("engine")), str(entry.get("precision")))
    _log.info("engine: %s in %s, as 'falconet tune' found; --engine and --precision say otherwise", *astuple(found))
    return found


def _circumstances(model: Path) -> dict[str, Any]:
    """All that has to be as it was: the file, the processor, the engines."""
    state = model.stat()
    return {"size": state.st_size, "changed": state.st_mtime_ns, **circumstances()}


def circumstances() -> dict[str, Any]:
    """What milliseconds on this machine depend on, whatever the model: the processor, the engines."""
    from falconet.eval.latency import machine

    told = machine()
    return {
        "processor": told["processor"],
        "cores": told["cores"],
        "versions": {name: _version(name) for name in MODULES},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _path() -> Path:
    return cache_folder() / "tuned.json"
