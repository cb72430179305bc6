"""`falconet.train`: from a preset or a run file and pictures to a finished run."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from falconet.core.errors import FalconetError
from falconet.core.figures import percent
from falconet.core.run_files import METRICS, find_weights

if TYPE_CHECKING:
    from falconet.training import RunConfig
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of training, in its folder.

    Attributes:
        path: the folder; see docs/train.md for what lies in it. Every function takes it for a model.
    """

    path: Path

    @property
    def weights(self) -> Path:
        """The weights of the best validation."""
        return find_weights(self.path)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The metrics of each epoch, as fractions."""
        from falconet.eval.report import read_history

        return read_history(self.path / METRICS)

    @property
    def metrics(self) -> dict[str, float]:
        """What the best weights reached on the validation pictures, as fractions: "AP", "AP50", ..., or "top1"."""
        from falconet.models.weights import read_card

        return dict(read_card(self.weights).metrics)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        shown = [f"{name} {percent(value)}" for name, value in self.metrics.items() if name in ("AP", "AP50", "top1")]
        return f"{self.path}: {', '.join(shown) or 'not validated'}"


def train(
    run: str | Path,
    data: str | Path | None = None,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    weights: str | Path | None = None,
    output: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    callback: "Callback | None" = None,
) -> Run:
    """Train a detector or a classifier, as `falconet train` does.

    Call it under `if __name__ == "__main__":`: processes that read pictures may import the calling program anew.

    Args:
        run: preset or run file (.yaml).
        data: a data set's file or folder, whose parts called train and val are found; None where the run file says it.
        minutes: end after this time.
        epochs: or after so many passes over the pictures.
        weights: what to start from; None leaves it to the preset or the run file, "none" is from scratch.
        output: folder of the run; None takes that of the run file, of a preset the first of runs/PRESET,
            runs/PRESET-2, ... that is free.
        changes: further keys of the run file, as in {"train.batch_size": 8}.
        callback: follows the run.

    Raises:
        ConfigError, DataError, ModelError, ProcessError: as `falconet.training.fit`.
    """
    named = {
        "data": data,
        "train.minutes": minutes,
        "train.epochs": epochs,
        "train.weights": weights,
        "output": output,
        **(changes or {}),
    }
    overrides = [f"{key}={as_text(value)}" for key, value in named.items() if value is not None]
    with spoken():
        return train_with(str(run), overrides, callback=callback)


def train_with(
    run: str,
    overrides: Sequence[str],
    *,
    recipe: Literal["default", "original"] = "default",
    callback: "Callback | None" = None,
) -> Run:
    """`train`, with the changes as texts, KEY=VALUE."""
    started = time.monotonic()  # importing torch is part of the time a person waits, a download is not
    from falconet.api.require import require

    require(["torch", "hotcoco"], extra="train", purpose="training")
    from falconet import training

    asked = training.read_run(run, overrides, recipe)
    before = time.monotonic()
    asked = with_weights(asked)
    started += time.monotonic() - before
    if not Path(run).is_file() and not any(override.startswith("output=") for override in overrides):
        asked = _in_a_folder_of_its_own(asked)
    return Run(training.fit(asked, callback=callback, started=started))


@contextmanager
def spoken() -> Iterator[None]:
    """What is logged goes to standard error, unless the calling program has told its logging where to."""
    ours = logging.getLogger("falconet")
    if ours.handlers or logging.getLogger().handlers:
        yield
        return
    handler, level = logging.StreamHandler(), ours.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.INFO)
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)


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


def as_text(value: Any) -> str:
    """A value as `falconet train` takes it: paths as they are, all else as YAML reads it."""
    return str(value) if isinstance(value, str | Path | Run) else json.dumps(value)


def with_weights(run: "RunConfig") -> "RunConfig":
    """`run`, with a file of ours in place of a published name, a run folder or a foreign file."""
    from falconet.api.find import find_model, usual_weights, weights_to_start_from

    path, wanted = None, run.train.weights
    if wanted == "auto" and (usual := usual_weights(run.model)) is not None:
        try:
            path = weights_to_start_from(usual, run.model)
            _log.info("starting from %s, published weights (train.weights=none starts from scratch)", usual)
        except FalconetError as error:
            _log.warning("from scratch, since the published weights cannot be had: %s", error)
    elif wanted is not None and wanted != "auto":
        path = weights_to_start_from(wanted, run.model)
    teacher = None if run.train.teacher is None else find_model(run.train.teacher, weights=True).path
    return run.model_copy(update={"train": run.train.model_copy(update={"weights": path, "teacher": teacher})})


def _in_a_folder_of_its_own(run: "RunConfig") -> "RunConfig":
    """`run` with the first of runs/PRESET, runs/PRESET-2, ... that is not there yet: nobody named a folder."""
    output = free_folder(run.output)
    if output != run.output:
        _log.info("%s is there already; this run goes into %s", run.output, output)
    return run.model_copy(update={"output": output})


def free_folder(wanted: Path) -> Path:
    """The first of NAME, NAME-2, NAME-3, ... that is not there yet."""
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(path for path in chain([wanted], numbered) if not path.exists())
