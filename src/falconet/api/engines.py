"""A model in an engine, as it was asked for or as `falconet tune` found it the fastest."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from falconet.core.errors import ConfigError, ModelError
from falconet.exporting.engines import ENGINES, open_torch
from falconet.runtime.engines import DEFAULT_USE, Engine, Use, check_numbers, choose_engine


def open_engine(
    path: Path, *, engine: str = "auto", use: Use = DEFAULT_USE, size: tuple[int, int] | None = None
) -> Engine:
    """An engine with the model of an exported file or a weights file.

    Args:
        engine: a name in `ENGINES`; `auto` takes what `falconet tune` found the fastest, else the first that runs files
            of this ending.
        use: threads, streams and precision.
        size: (height, width) of the input of a weights file; None: that of the training.

    Raises:
        ModelError: not a model of ours, damaged, or an engine that does not run it.
        ConfigError: an engine that is not known, or not installed; a size for an exported file, whose own is fixed;
            streams or a precision that the engine has not.
    """
    if path.suffix in ENGINES["torch"].suffixes and engine in ("auto", "torch") and find_spec("torch") is None:
        raise ModelError(
            f"{path}: running weights needs torch, which is not installed; export them where it is, with "
            f"'falconet export {path} --to onnx --out FOLDER', and pass the .onnx file, or "
            f"{ENGINES['torch'].install}"
        )
    engine, use = as_tuned(path, engine, use)
    chosen = choose_engine(path, engine, engines=ENGINES)
    _check_use(chosen, use)
    if size is None:
        return ENGINES[chosen].open(path, use)
    if chosen != "torch":
        raise ConfigError(f"--size: the input of {path} is fixed; pass the weights it was exported from")
    return open_torch(path, use, size)


def as_tuned(path: Path, engine: str, use: Use) -> tuple[str, Use]:
    """Engine and precision that `falconet tune` found the fastest for this file, where neither was asked for."""
    if engine != "auto" or path.suffix != ".onnx" or use.precision != "auto":
        return engine, use
    from falconet.api.tuned import tuned

    found = tuned(path)
    if found is None or found.engine not in ENGINES or find_spec(ENGINES[found.engine].module) is None:
        return engine, use
    return found.engine, replace(use, precision=found.precision)


def _check_use(engine: str, use: Use) -> None:
    check_numbers(use.threads, use.streams)
    row = ENGINES[engine]
    if use.precision not in ("auto", *row.precisions):
        able = [name for name, other in ENGINES.items() if use.precision in other.precisions]
        others = f"; {' or '.join(able)} can" if able else ""
        raise ConfigError(
            f"precision {use.precision}: engine {engine} has none but {', '.join(row.precisions)}{others}"
        )
    if use.streams > 1 and not row.streams:
        raise ConfigError(f"streams {use.streams}: engine {engine} runs one at a time; leave streams out")
