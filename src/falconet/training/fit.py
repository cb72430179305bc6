"""`fit`: the one entry point of training. `resume` goes on with an interrupted run."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from falconet.core.errors import ConfigError, ProcessError
from falconet.core.lock import locked, refuse_if_locked
from falconet.core.terminal import argument
from falconet.core.terminate import Terminated
from falconet.eval.report import read_history
from falconet.training.loader import killed_workers_told
from falconet.training.loggers import Callback, Loggers, NullCallback, logging_to, open_log, require_loggers
from falconet.training.loop import train
from falconet.training.outcome import outcome
from falconet.training.preflight import check_space
from falconet.training.prepare import Prepared, prepare
from falconet.training.processes import Process, in_processes, joined, launched
from falconet.training.run_config import RunConfig
from falconet.training.run_folder import RunFolder
from falconet.training.state import TrainState

_log = logging.getLogger(__name__)


def fit(
    run: RunConfig,
    *,
    callback: Callback | None = None,
    clock: Callable[[], float] = time.monotonic,
    started: float | None = None,
) -> Path:
    """Train a detector or a classifier.

    With `train.devices` above 1, processes are started that import the calling program anew: call it under
    `if __name__ == "__main__":` then. Started by torchrun, this process takes part in torchrun's group instead.

    Args:
        run: what to train, on what, how.
        callback: follows the run.
        clock: seconds, of which `train.minutes` are made.
        started: of `clock`, from when on these minutes count; None is now.

    Returns:
        The run's folder; see `falconet.training.run_folder` for what lies in it.

    Raises:
        ConfigError, DataError, ModelError: something in the run, the data or the weights is wrong, the folder holds
            another run, or the loss is no longer finite.
        ProcessError: one of the run's processes was killed; the run can be resumed.
        KeyboardInterrupt, Terminated: by Ctrl-C, by SIGTERM (which the command line turns into an exception); the run
            can be resumed.
    """
    run = run.absolute()
    folder = RunFolder(run.output)
    _refuse_if_running(folder)
    folder.refuse_if_used()
    return _start(run, folder, callback or NullCallback(), clock, clock() if started is None else started)


def resume(path: Path, *, callback: Callback | None = None, clock: Callable[[], float] = time.monotonic) -> Path:
    """Go on with the run in a folder, from its last finished epoch, as if it had never stopped.

    Raises:
        ConfigError: not the folder of a run, or the data has changed.
        Otherwise as `fit`.
    """
    folder = RunFolder(Path(path).absolute())
    _refuse_if_running(folder)
    run = folder.read_run()
    if not folder.state.exists():
        _log.info("%s: no epoch was finished, so the run begins anew", folder.path)
    return _start(run, folder, callback or NullCallback(), clock, clock())


def _refuse_if_running(folder: RunFolder) -> None:
    """Before anything takes time; where several processes start together, the first of them may be at it already."""
    if launched() is None:
        refuse_if_locked(folder.path)


def _start(run: RunConfig, folder: RunFolder, callback: Callback, clock: Callable[[], float], started: float) -> Path:
    require_loggers(run.train.loggers)
    arguments = (run, folder, callback, clock, started)
    process = launched()
    if process is not None and run.train.devices not in (1, process.local_count):
        raise ConfigError(
            f"train.devices is {run.train.devices}, but the launcher started {process.local_count} processes on "
            "this machine; leave train.devices out"
        )
    try:
        if process is None and run.train.devices > 1:
            in_processes(_run, run.train.devices, arguments)
        else:
            _run(process or Process(), *arguments)
    except ProcessError as error:
        if not folder.run_file.is_file():
            raise
        again = argument(folder.path)
        raise ProcessError(f"{error}; go on with the run by: falconet train --resume {again}") from error
    return folder.path


def _run(
    process: Process, run: RunConfig, folder: RunFolder, callback: Callback, clock: Callable[[], float], started: float
) -> None:
    """Train in one of the run's processes; the first one speaks and writes."""
    if process.rank:
        callback = NullCallback()
    if run.train.batch_size % process.count:
        raise ConfigError(f"train.batch_size={run.train.batch_size} cannot be shared by {process.count} processes")
    state = folder.read_state()
    if state is not None and state["stopped"]:
        _log.info(
            "%s: this run is finished. To train longer, start a new run from its weights: falconet train %s "
            "train.weights=%s output=NEW",
            folder.path,
            argument(folder.run_file),
            argument(folder.path),
        )
        return
    with (
        _threads_restored(),
        joined(process, run.train.accelerator),
        warnings.catch_warnings(),
        logging_to(folder.log) as log,
        killed_workers_told(),
    ):
        if process.rank:
            logging.getLogger("falconet").setLevel(logging.ERROR)  # until `logging_to` is left
        # A gradient of a 1x1 convolution has two names for the same memory format; torch takes the slower copy.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view", category=UserWarning)
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified", category=UserWarning)
        prepared = prepare(run, process, started=started, state=state, clock=clock)
        train_state = TrainState(prepared)
        if state is not None:
            train_state.restore(prepared, state, folder)
            _log.info("resumed after epoch %d", train_state.epoch)
        with locked(folder.path) if process.rank == 0 else nullcontext():
            if process.rank == 0:
                if state is None and folder.state.exists():  # of a run that has begun and ended meanwhile
                    folder.refuse_if_used()
                check_space(folder.path, prepared.networks, resumed=state is not None)
                folder.write_run(prepared.run)
                open_log(log)
            _follow(prepared, train_state, folder, callback)


@contextmanager
def _threads_restored() -> Iterator[None]:
    """A run's number of torch threads is its own."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _follow(prepared: Prepared, state: TrainState, folder: RunFolder, callback: Callback) -> None:
    first = prepared.process.rank == 0
    loggers = Loggers(prepared.run, folder, finished=state.epoch) if first else None
    try:
        train(prepared, state, folder, loggers=loggers, callback=callback)
    except (KeyboardInterrupt, Terminated) as error:
        how = "terminated" if isinstance(error, Terminated) else "interrupted"
        kept = "" if folder.state.exists() else ", before anything was kept: it will begin anew"
        again = argument(folder.path)
        _log.info("%s in epoch %d%s; go on with it by: falconet train --resume %s", how, state.epoch + 1, kept, again)
        raise
    finally:
        if loggers is not None:
            loggers.close(finished=state.stopped)
        callback.stop()
    if first:
        _log_summary(prepared, state, folder)


def _log_summary(prepared: Prepared, state: TrainState, folder: RunFolder) -> None:
    if state.best is None:
        return
    took, key = str(prepared.pace), prepared.task.key_metric
    for line in outcome(read_history(folder.metrics), state.best, prepared.run.train, took=took, key=key):
        _log.info("%s", line)
