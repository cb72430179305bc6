"""A run over all blocks on a Ray cluster: each of its processes opens the model once, and writes tables itself.

Ray Data starts the processes, hands them blocks and starts them anew where one or its machine ends; what a block
becomes does not depend on who does it, or how often. Folders must be the same on all machines: shared, or
object storage.
"""

import os
import pickle
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from falconet.bulk.blocks import Block
from falconet.bulk.run import Results, Step, Work, in_streams
from falconet.core.errors import ConfigError
from falconet.core.figures import plural
from falconet.runtime.predictor import Predictor

WAIT = 10
"""Seconds in which a cluster must answer."""

PATIENCE = 120
"""Seconds that a machine of the cluster has to measure in; it waits for free CPUs meanwhile."""

WAVE = 1000
"""Blocks that Ray Data is handed at a time, so that memory does not grow with the number of pictures."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What each process needs; plain values.

    Attributes:
        folder: that relative paths start from.
        files: of the model, by name, the one that stands for it first.
        open: (its path) -> predictor.
        results: where tables go, and what they say about the model.
        top: classes of a classifier's rows.
        version: of Falconet, which must be the same everywhere.
    """

    folder: str
    files: Mapping[str, bytes]
    open: Callable[[Path], Predictor[Any]]
    results: Results
    top: int
    version: str


class _Answers:
    """One process of the cluster, which Ray hands a block at a time."""

    def __init__(self, packed: bytes) -> None:
        from falconet import __version__

        worker: Worker = pickle.loads(packed)
        if __version__ != worker.version:
            raise ConfigError(f"a machine of the cluster has Falconet {__version__}; this one has {worker.version}")
        try:
            os.chdir(worker.folder)
        except OSError as error:
            raise ConfigError(
                f"a machine of the cluster has no folder {worker.folder}; expected the same on all"
            ) from error
        with _laid_down(worker.files) as path:
            predictor = worker.open(path)
        self._work = in_streams(predictor, worker.results, top=worker.top)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        steps = [step for packed in batch["block"] for step in self._work(iter([pickle.loads(packed)]))]
        return {"pictures": [len(steps)], "broken": [sum(step.broken for step in steps)]}


def _ray() -> Any:
    """Ray with its data sets; without types, since it is rarely installed."""
    import_module("ray.data")
    return import_module("ray")


@contextmanager
def connected(address: str) -> Iterator[str]:
    """A connection to a Ray cluster, in the context; gives a sentence about it.

    Args:
        address: `local` starts one on this machine, `auto` takes the one this machine belongs to, HOST:PORT another.

    Raises:
        ConfigError: no cluster there.
    """
    ray = _ray()
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        if address not in ("local", "auto"):
            _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--cluster {address}: no Ray cluster answers {where} ({reason}); start one with 'ray start --head', or "
            "leave --cluster out: this machine's cores then do the work"
        ) from error
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        yield f"{plural(len(nodes), 'machine')} with {plural(int(ray.cluster_resources().get('CPU', 0)), 'CPU')}"
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError or ValueError where nothing answers; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT):
        pass


Measure = Callable[[Path, int], Any]
"""(the model's file, CPUs) -> what a machine measured."""


class Kind(NamedTuple):
    """Machines of a cluster that are alike.

    Attributes:
        machines: how many.
        cpus: of each, as Ray counts them.
        measured: by one of them; None where it had no CPUs free in time, or nothing was to be measured.
    """

    machines: int
    cpus: int
    measured: Any


def kinds(files: Mapping[str, bytes], measure: Measure | None, describe: Callable[[], str]) -> list[Kind]:
    """The kinds of machines in the connected cluster, with what one of each measured while nothing else ran there.

    Args:
        files: of the model, as of `Worker`.
        measure: plain value that the machines can be told; machines of a single CPU are not asked.
        describe: what tells machines apart that have as many CPUs, such as the name of the processor.
    """
    ray = _ray()
    where = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    cpus = {one["NodeID"]: int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]}
    cpus = {name: count for name, count in cpus.items() if count}

    def ask(function: Callable[..., Any], node: str, count: int, *arguments: Any) -> Any:
        strategy = where(node_id=node, soft=False)
        return ray.remote(function).options(num_cpus=count, scheduling_strategy=strategy).remote(*arguments)

    if measure is None or max(cpus.values(), default=0) < 2:
        return [Kind(count, each, None) for each, count in Counter(cpus.values()).items()]
    processors = ray.get([ask(describe, name, 0) for name in cpus], timeout=PATIENCE)
    alike: dict[tuple[str, int], list[str]] = {}
    for (name, count), processor in zip(cpus.items(), processors, strict=True):
        alike.setdefault((processor, count), []).append(name)
    packed = pickle.dumps((dict(files), measure))
    asked = [ask(_measured, nodes[0], count, packed, count) for (_, count), nodes in alike.items()]
    ready, waiting = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
    for one in waiting:
        ray.cancel(one)
    return [
        Kind(len(nodes), count, ray.get(one) if one in ready else None)
        for one, ((_, count), nodes) in zip(asked, alike.items(), strict=True)
    ]


def _measured(packed: bytes, cpus: int) -> Any:
    """What this machine measures."""
    files, measure = pickle.loads(packed)
    with _laid_down(files) as path:
        return measure(path, cpus)


@contextmanager
def _laid_down(files: Mapping[str, bytes]) -> Iterator[Path]:
    """The model's file, in a folder that is there for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        yield Path(folder, next(iter(files)))


def on_cluster(worker: Worker, *, threads: int = 1) -> Work:
    """Work of the connected cluster: as many processes as its CPUs have room for, each with one run at a time.

    Args:
        threads: of each run, for which each process takes as many CPUs.
    """

    def work(blocks: Iterator[Block]) -> Generator[Step, None, None]:
        ray = _ray()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        packed = pickle.dumps(worker)
        while wave := list(islice(blocks, WAVE)):
            room = sum(int(one["Resources"].get("CPU", 0)) // threads for one in ray.nodes() if one["Alive"])
            answers = ray.data.from_items(
                [{"block": pickle.dumps(block)} for block in wave], override_num_blocks=len(wave)
            ).map_batches(
                _Answers,
                fn_constructor_args=(packed,),
                batch_size=1,
                num_cpus=threads,
                concurrency=(1, max(1, min(room, len(wave)))),
            )
            for one in answers.iter_rows():
                yield Step(int(one["pictures"]), int(one["broken"]))

    return work
