"""The processes of a run: started here, or by torchrun, which speaks of them in the environment in the same way."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import distributed
from torch.multiprocessing import ProcessExitedException, start_processes

from falconet.core import errors
from falconet.core.errors import ConfigError, FalconetError, ProcessError
from falconet.core.terminate import EXIT_CODE, Terminated, raise_on_sigterm

PATIENCE = timedelta(minutes=15)
"""That a process waits for the others, of which one may write or count for all, before it takes them for lost."""

_GRACE = 10.0
"""Seconds the other processes get to end by themselves after one has failed."""


_STOPPED: dict[str, type[BaseException]] = {one.__name__: one for one in (KeyboardInterrupt, Terminated)}


class Process(NamedTuple):
    """One process of a run; by default the only one."""

    rank: int = 0
    """Number among all, from 0."""
    count: int = 1
    local_rank: int = 0
    """Number among those of this machine, from 0."""
    local_count: int = 1


def launched() -> Process | None:
    """Which process of a launcher's group this is, by the environment that torchrun sets; None outside of one.

    Raises:
        ConfigError: the environment is not whole.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but RANK or LOCAL_RANK is not a number ({error}); start "
            "several processes with torchrun, or on this machine with train.devices"
        ) from error
    return Process(rank, count, *local)


@contextmanager
def joined(process: Process, accelerator: str) -> Iterator[None]:
    """Within the group of all processes, if there are several: gloo between CPUs, nccl between GPUs."""
    if process.count < 2:
        yield
        return
    cuda = accelerator != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(process.local_rank)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not _of_the_group(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ProcessError(
            f"another process of the run has ended or cannot be reached, so this one ends, too ({reason})"
        ) from error
    finally:
        distributed.destroy_process_group()


def _of_the_group(error: RuntimeError) -> bool:
    """Whether an error is about what processes say to one another; gloo's are plain RuntimeErrors."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)


def in_processes(work: Callable[..., None], count: int, arguments: tuple[Any, ...]) -> None:
    """Run `work(process, *arguments)` in `count` new processes and wait for all of them.

    Raises:
        FalconetError: the one that a process ended with.
        ProcessError: a process was killed from outside.
        RuntimeError: a process ended with something else; the message holds its traceback.
        KeyboardInterrupt, Terminated: by Ctrl-C, by SIGTERM.
    """
    failures: SimpleQueue[tuple[str, str]] = multiprocessing.get_context("spawn").SimpleQueue()
    level = logging.getLogger().getEffectiveLevel()
    started = (count, _free_port(), level, failures, work, arguments)
    running = start_processes(_enter, started, count, join=False, start_method="spawn")
    try:
        while not running.join(grace_period=_GRACE):
            pass
    except (KeyboardInterrupt, Terminated) as stopped:
        # They say how to go on. Ctrl-C reached them as well; SIGTERM may have come to this process alone.
        if isinstance(stopped, Terminated):
            for process in running.processes:
                process.terminate()
        for process in running.processes:
            process.join(_GRACE)
            process.kill()
        raise
    except ProcessExitedException as exited:
        raise _failure(failures, exited) from None


def _failure(failures: "SimpleQueue[tuple[str, str]]", exited: ProcessExitedException) -> BaseException:
    """What to raise: a user's error of any process before an error of the others, whom it cut off."""
    found = []
    while not failures.empty():
        found.append(failures.get())
    cut_off = [message for kind, message in found if kind == ProcessError.__name__]
    for kind, message in found:
        if kind == Terminated.__name__ and exited.exit_code != EXIT_CODE:
            continue  # by torch, after another one had failed
        if kind == ProcessError.__name__:
            continue
        if kind in _STOPPED:
            return _STOPPED[kind]()
        error = getattr(errors, kind, None)
        if isinstance(error, type) and issubclass(error, FalconetError):
            return error(message)
    failed = [message for kind, message in found if kind != ProcessError.__name__]
    if failed and exited.signal_name is None:
        return RuntimeError(f"a training process failed:\n{failed[0]}")
    if cut_off and exited.signal_name is None:
        return ProcessError(cut_off[0])
    how = exited.signal_name or f"exit code {exited.exit_code}"
    return ProcessError(f"a training process was killed from outside ({how}); there may be too little memory")


def _enter(
    rank: int,
    count: int,
    port: int,
    level: int,
    failures: "SimpleQueue[tuple[str, str]]",
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE=str(count),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(count),
    )
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].setLevel(max(level, logging.INFO))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise_on_sigterm()
    try:
        work(Process(rank, count, rank, count), *arguments)
    except KeyboardInterrupt:
        failures.put((KeyboardInterrupt.__name__, ""))
        sys.exit(130)
    except Terminated:
        failures.put((Terminated.__name__, ""))
        raise
    except FalconetError as error:
        failures.put((type(error).__name__, str(error)))
        sys.exit(2)
    except BaseException:
        failures.put(("", traceback.format_exc()))
        sys.exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
