"""`falconet.fit`: the question of a user in plain values, for Python and for the command line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from falconet.api.require import require
from falconet.api.train import as_text, free_folder, spoken
from falconet.core.cpus import usable_cpus
from falconet.core.errors import ConfigError
from falconet.runtime.engines import default_threads

ENGINES = ("onnxruntime", "openvino")
"""That a budget may be meant for."""

if TYPE_CHECKING:
    from falconet.search.finish import Finished
    from falconet.search.request import Request
    from falconet.training.loggers import Callback


def fit(
    data: str | Path,
    budget_ms: float,
    *,
    minutes: float = 60,
    classes: Sequence[str] | None = None,
    threads: int | None = None,
    engine: str = "auto",
    reward: Literal["ap", "mnasnet"] = "ap",
    strategy: Literal["halving", "shared"] = "halving",
    space: str | Path | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    callback: "Callback | None" = None,
) -> "Finished":
    """Find the most accurate detector within milliseconds on this machine, as `falconet fit` does.

    Call it under `if __name__ == "__main__":`: processes that read pictures may import the calling program anew.

    Args:
        data: a data set's file or folder, whose parts called train and val are found.
        budget_ms: milliseconds (p95) of a picture, from its pixels to its boxes.
        minutes: of training, altogether; timing comes before.
        classes: that are learnt; None: all of the data.
        threads: that the budget is meant for; None: all usable CPUs, at most 4.
        engine: that it is meant for: "onnxruntime", "openvino"; "auto": the faster one here.
        reward: what is best within the budget: AP, or MnasNet's AP * (ms / budget) ** -0.07.
        strategy: how networks are compared: "halving", each in short trainings of its own; "shared", widths of one
            network in one training, as slices of its weights.
        space: what is searched, a YAML file; None: what `falconet fit --print-space` prints.
        seed: of what is drawn and of each training.
        output: folder of the search; None: the first of runs/fit, runs/fit-2, ... that is free.
        changes: of each training, as in {"train.batch_size": 8}.
        callback: follows each training.

    Raises:
        ConfigError: nothing in the space is fast enough, a folder that holds another search, or wrong changes.
        DataError, ModelError, ProcessError: as `falconet.train` and `falconet.export`.
    """
    require_what_fits()
    from falconet.search.fit import fit as search

    request = ask(
        Path(data),
        budget_ms,
        minutes=minutes,
        classes=classes,
        threads=threads,
        engine=engine,
        reward=reward,
        strategy=strategy,
        space=None if space is None else Path(space),
        seed=seed,
        overrides=[f"{key}={as_text(value)}" for key, value in (changes or {}).items()],
    )
    with spoken():
        return search(request, fit_folder(output), callback=callback)


def require_what_fits() -> None:
    """Raise ConfigError, with what to install, where a library is missing."""
    require(["torch", "onnx", "onnxscript", "hotcoco"], extra="train", purpose="fitting a detector")


def fit_folder(output: str | Path | None) -> Path:
    """The folder of a search: `output`, or the first free one of runs/fit, runs/fit-2, ..."""
    return free_folder(Path("runs", "fit")) if output is None else Path(output)


def ask(
    data: Path,
    budget_ms: float,
    *,
    minutes: float,
    classes: Sequence[str] | None,
    threads: int | None,
    engine: str,
    reward: Literal["ap", "mnasnet"],
    strategy: Literal["halving", "shared"],
    space: Path | None,
    seed: int,
    overrides: Sequence[str],
) -> "Request":
    """What is asked for, checked; the arguments are those of `fit`, but `overrides`: KEY=VALUE.

    Raises:
        ConfigError: more threads than CPUs, a wrong space, or changes that a search makes itself.
    """
    from falconet.core.config import validate
    from falconet.search.request import Request
    from falconet.search.space import read_space

    if threads is not None and threads > usable_cpus():
        raise ConfigError(f"--threads {threads}: expected at most {usable_cpus()}, since so many CPUs are usable here")
    if engine != "auto" and engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: expected auto, {' or '.join(ENGINES)}, which open .onnx files")
    if classes is not None and not classes:
        raise ConfigError("--classes: names no class; expected some of those of the data, or leave it out for all")
    if classes is not None:
        overrides = [*overrides, f"data.classes={json.dumps(list(classes))}"]
    asked = {
        "data": data.absolute(),
        "budget_ms": budget_ms,
        "minutes": minutes,
        "threads": threads or default_threads(),
        "engine": engine,
        "seed": seed,
        "overrides": tuple(overrides),
        "space": read_space(space),
        "reward": reward,
        "strategy": strategy,
    }
    return validate(Request, asked, name="falconet fit").check()
