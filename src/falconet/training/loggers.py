"""Who hears of a run: a callback that follows it, and loggers that keep its metrics."""

import logging
import logging.handlers
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.core.figures import clock, percent
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from falconet.training.tasks import SHOWN_METRICS

_log = logging.getLogger(__name__)

IN_FILE = "in_file"
"""Attribute of a log record: what the file says instead of its message."""


class Callback(Protocol):
    """Follows a run while it goes on, for example as a progress bar."""

    def start(self, progress: Progress, *, steps: int) -> None:
        """The first step is about to come; an epoch has so many."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:
        """`step` of the epoch (from 1) was taken; `progress` is that before it, `loss` the epoch's mean so far."""

    def epoch(self, metrics: dict[str, Any], progress: Progress) -> None:
        """An epoch ended with these metrics, as in metrics.jsonl."""

    def stop(self) -> None:
        """The run is over, whether it ended well or not."""


class NullCallback(Callback):
    """A callback that does nothing."""


@contextmanager
def logging_to(path: Path) -> Iterator[logging.handlers.MemoryHandler]:
    """Also write what the package logs to the file `path`, from the moment on that `open_log` is called.

    The file also takes what is logged at DEBUG: figures for whoever wants to know exactly what was done.
    """
    buffer = logging.handlers.MemoryHandler(1_000_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    buffer.path = path  # type: ignore[attr-defined]
    ours = logging.getLogger("falconet")
    level = ours.level
    ours.setLevel(logging.DEBUG)
    ours.addHandler(buffer)
    try:
        yield buffer
    finally:
        ours.removeHandler(buffer)
        ours.setLevel(level)
        if buffer.target is not None:
            buffer.flush()
            buffer.target.close()
        buffer.close()


class _FileFormatter(logging.Formatter):
    """The file says more than the terminal where a record brings more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = getattr(record, IN_FILE, record.message)
        return super().formatMessage(record)


class _FileHandler(logging.FileHandler):
    """A file that is given up when it cannot be written: training is worth more than its log."""

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 (logging's name)
        if not self.failed:
            self.failed = True
            _log.warning("%s: cannot be written any more: %s", self.baseFilename, sys.exc_info()[1])


def open_log(buffer: logging.handlers.MemoryHandler) -> None:
    """Write what was logged so far, and from now on line by line."""
    path: Path = buffer.path  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _FileHandler(path, encoding="utf-8")
    handler.setFormatter(_FileFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    buffer.setTarget(handler)
    buffer.flush()
    buffer.flushLevel = logging.NOTSET


class MetricLogger(Protocol):
    """Keeps the metrics of epochs."""

    def log(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        """The numbers of an epoch, counted from 1."""
        ...

    def close(self, *, finished: bool) -> None:
        """The run is over, or it was interrupted and may go on later."""
        ...


class TensorBoardLogger:
    """Curves in the run's folder `tensorboard`."""

    def __init__(self, run: Config, folder: RunFolder, *, finished: int) -> None:  # noqa: ARG002
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=finished + 1)

    def log(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        """See `MetricLogger`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """See `MetricLogger`."""
        self._writer.close()


class MLflowLogger:
    """A run of MLflow's experiment "falconet", unless MLFLOW_EXPERIMENT_NAME is set; a resumed run goes on in it.

    MLflow keeps it where MLFLOW_TRACKING_URI says, else in the working folder's mlflow.db.
    """

    def __init__(self, run: Config, folder: RunFolder, *, finished: int) -> None:  # noqa: ARG002
        import mlflow  # type: ignore[import-not-found, unused-ignore]  # optional

        known = folder.path / "mlflow_run_id.txt"
        self._mlflow = mlflow
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "falconet"))
        active = mlflow.start_run(
            run_id=known.read_text(encoding="utf-8").strip() if known.is_file() else None, run_name=folder.path.name
        )
        if not known.is_file():
            known.write_text(active.info.run_id + "\n", encoding="utf-8")
            mlflow.log_dict(run.model_dump(mode="json"), "run.json")

    def log(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        """See `MetricLogger`."""
        self._mlflow.log_metrics(dict(metrics), step=epoch)

    def close(self, *, finished: bool) -> None:
        """See `MetricLogger`."""
        self._mlflow.end_run("FINISHED" if finished else "KILLED")


class WandbLogger:
    """A run of the Weights & Biases project "falconet"; a resumed run goes on in the same one."""

    def __init__(self, run: Config, folder: RunFolder, *, finished: int) -> None:  # noqa: ARG002
        import wandb  # type: ignore[import-not-found, unused-ignore]  # optional

        known = folder.path / "wandb_run_id.txt"
        name = known.read_text(encoding="utf-8").strip() if known.is_file() else uuid.uuid4().hex[:8]
        known.write_text(name + "\n", encoding="utf-8")
        self._run = wandb.init(
            project="falconet",
            name=folder.path.name,
            id=name,
            resume="allow",
            dir=str(folder.path),
            config=run.model_dump(mode="json"),
        )

    def log(self, metrics: Mapping[str, float], *, epoch: int) -> None:
        """See `MetricLogger`."""
        self._run.log(dict(metrics), step=epoch)

    def close(self, *, finished: bool) -> None:
        """See `MetricLogger`."""
        self._run.finish(exit_code=0 if finished else 1)


LOGGERS: Mapping[str, tuple[Any, str, str]] = {
    "tensorboard": (TensorBoardLogger, "tensorboard", "pip install 'falconet[train]'"),
    "mlflow": (MLflowLogger, "mlflow", "pip install 'falconet[mlflow]'"),
    "wandb": (WandbLogger, "wandb", "pip install 'falconet[wandb]'"),
}
"""By the name in `train.loggers`: (run, folder, finished=epochs) -> MetricLogger, the module it needs, and how to
install that."""


def require_loggers(names: Sequence[str]) -> None:
    """Raise ConfigError where a logger is not installed."""
    for name in names:
        _, module, install = LOGGERS[name]
        if find_spec(module) is None:
            raise ConfigError(f"train.loggers: {module} is not installed; install it with: {install}")


EXPLAINED = """AP tells how well objects are found and boxed, from 0 to 100: the mean over
boxes that must overlap by 50 to 95 %. AP50 asks for 50 % only."""
"""What stands above the first line of an epoch."""


class Loggers:
    """Metrics into metrics.jsonl, the log, and every logger that the run names.

    Args:
        run: with `train.loggers`.
        folder: of the run.
        finished: epochs that were done before; their metrics stay.

    Raises:
        ConfigError: a logger cannot be opened, for example because its server does not answer.
    """

    def __init__(self, run: Any, folder: RunFolder, *, finished: int) -> None:
        self._folder, self._explained = folder, finished > 0
        folder.keep_metrics_until(finished)
        self._loggers: dict[str, MetricLogger] = {}
        for name in run.train.loggers:
            try:
                self._loggers[name] = LOGGERS[name][0](run, folder, finished=finished)
            except Exception as error:  # loggers raise what they like
                self.close(finished=False)
                raise ConfigError(f"train.loggers: {name} cannot be opened: {error}") from error

    def log(self, metrics: dict[str, Any], progress: Progress, *, improved: bool = False) -> None:
        """Keep the metrics of an epoch. A logger that fails is told of; it costs neither the run nor its metrics.

        Args:
            improved: these weights are the best so far.
        """
        self._folder.add_metrics(metrics)
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        for name, logger in self._loggers.items():
            try:
                logger.log(numbers, epoch=metrics["epoch"])
            except Exception as error:
                where = self._folder.metrics
                _log.warning("%s did not take epoch %d, which is in %s: %s", name, metrics["epoch"], where, error)
        if "AP" in metrics and not self._explained:
            self._explained = True
            _log.info("%s", EXPLAINED)
        line = summary(metrics, progress, improved=improved)
        _log.info("%s", line, extra={IN_FILE: f"{line}  ({details(metrics)})"})

    def close(self, *, finished: bool) -> None:
        """Finish all files; `finished`: the run came to its end."""
        for name, logger in self._loggers.items():
            try:
                logger.close(finished=finished)
            except Exception as error:
                _log.warning("%s could not be closed: %s", name, error)


def summary(metrics: dict[str, Any], progress: Progress, *, improved: bool = False) -> str:
    """One line about an epoch, of at most 80 columns."""
    reached = "".join(f"  {name} {percent(metrics[name])}" for name in SHOWN_METRICS if name in metrics)
    if "val_images" in metrics:
        reached += f" ({metrics['val_images']} pictures)"
    place = f"/{progress.epochs}" if progress.epochs is not None else f" ({progress.fraction:.0%})"
    seconds = 0.0 if progress.fraction >= 1 else progress.seconds_left or 0.0
    left = f"  {clock(seconds)} left" if seconds >= 1 else ""
    best = "  best" if improved else ""
    return (
        f"epoch {metrics['epoch']}{place}  loss {metrics['loss']:.3f}{reached}  {metrics['seconds']:.1f} s{left}{best}"
    )


def details(metrics: dict[str, Any]) -> str:
    """The terms of the loss and the speed of an epoch."""
    terms = [f"{name.removeprefix('loss_')} {value:.3f}" for name, value in metrics.items() if name.startswith("loss_")]
    speed = f"{metrics['images_per_second']:.0f} images/s, {metrics['data_wait']:.0%} waiting for data"
    return ", ".join([*terms, speed])
