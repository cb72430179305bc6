"""`falconet.evaluate` and `falconet.compare`: how good a run, a weights file or an exported model is."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from falconet.api import evaluation
from falconet.api.compare import Comparison
from falconet.api.engines import open_engine
from falconet.api.evaluation import Evaluation
from falconet.api.find import FoundModel, find_model, tell_unfinished
from falconet.api.ground_truth import open_ground_truth, trained_on
from falconet.core.errors import ConfigError
from falconet.core.suggest import did_you_mean
from falconet.core.types import Record
from falconet.runtime.engines import Engine, Use


def evaluate(
    model: "str | os.PathLike[str]",
    data: str | Path | None = None,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    size: tuple[int, int] | None = None,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
    **options: Any,
) -> Evaluation:
    """Measure a model on pictures with truth, as `falconet eval` does.

    Args:
        model: run folder, weights file, exported .onnx file or published name.
        data: annotations in any format, of a classifier a folder of folders; None takes what the model was validated
            on.
        images: folder of the pictures, where it cannot be told.
        split: part of the data.
        engine: see `falconet.load`.
        threads: see `falconet.load`.
        precision: likewise.
        size: (height, width) of the input of weights; None: that of the training.
        progress: wraps the records, to show how far it is.
        options: `score`, `protocol`, `voc`, `operating_point` of a detector; `intervals`, on unless it is False; see
            `falconet.api.evaluation.evaluate`.

    Returns:
        The evaluation: `result["AP50"]`, `result.as_dict()`, `result.save(folder)` for the report; `print` shows it.

    Raises:
        ConfigError, DataError, ModelError: nothing to measure on, nothing to measure, or options that do not fit.
    """
    _refuse_foreign(options)
    found, opened = _opened(model, engine, threads, precision, size)
    paths = [None if path is None else Path(path) for path in (data, images)]
    truth = open_ground_truth(found, paths[0], paths[1], split, task=opened.manifest.task)
    return evaluation.evaluate(found, opened, truth, progress=progress, **{"intervals": True, **options})


def compare(
    first: "str | os.PathLike[str]",
    second: "str | os.PathLike[str]",
    data: str | Path | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    size: tuple[int, int] | None = None,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
    **options: Any,
) -> Comparison:
    """Measure two models on the same pictures, as `falconet eval FIRST SECOND` does: which one is better, and can so
    many pictures tell?

    Args:
        first, second: as of `evaluate`.
        data: None takes what the first one was validated on.
        engine, threads, precision, size, progress: of both, as of `evaluate`.
        options: likewise; and `images`, `split` of the data.

    Returns:
        The comparison: `result.sentence`, `result.as_dict()`, `result.save(folder)` for a page; `print` shows it.

    Raises:
        As `evaluate`.
    """
    _refuse_foreign({name: value for name, value in options.items() if name not in ("images", "split")})
    models = [_opened(model, engine, threads, precision, size) for model in (first, second)]
    paths = [None if path is None else Path(path) for path in (data, options.pop("images", None))]
    truth = open_ground_truth(
        models[0][0], paths[0], paths[1], options.pop("split", None), task=models[0][1].manifest.task
    )
    evaluation.check_comparable(models, truth)  # before one of them takes time
    (one, opened), (other, other_opened) = models
    options = {"intervals": True, **options}
    measured = evaluation.evaluate(one, opened, truth, progress=progress, **options)
    truth = replace(truth, notes=trained_on(other, truth.records))
    return Comparison.of(measured, evaluation.evaluate(other, other_opened, truth, progress=progress, **options))


def _opened(
    model: "str | os.PathLike[str]", engine: str, threads: int | None, precision: str, size: tuple[int, int] | None
) -> tuple[FoundModel, Engine]:
    found = find_model(os.fspath(model), weights=engine == "torch" or size is not None)
    tell_unfinished(found)
    return found, open_engine(found.path, engine=engine, use=Use(threads, precision=precision), size=size)


def _refuse_foreign(options: dict[str, Any]) -> None:
    """Raise ConfigError where an option is none of `evaluate`."""
    known = {name for row in evaluation.EVALUATIONS.values() for name in row.options}
    if foreign := sorted(options.keys() - known):
        every = [*(name for name in signature(evaluate).parameters if name != "options"), *sorted(known)]
        hint = did_you_mean(foreign[0], every) or f"expected some of {', '.join(every)}"
        raise ConfigError(f"evaluate: {foreign[0]} is none of its options; {hint}")
