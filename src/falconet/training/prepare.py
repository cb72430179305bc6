"""Everything a run needs before its first step, made once: data, loader, networks, pace."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from falconet.core.cpus import busy_cpus, usable_cpus
from falconet.core.errors import ConfigError
from falconet.core.figures import plural
from falconet.core.types import Ints
from falconet.data.fingerprint import fingerprints
from falconet.models import Network
from falconet.models.cost import cost
from falconet.training.depthwise import use_fast_depthwise
from falconet.training.distributed import from_first
from falconet.training.folded_norms import fold_norms
from falconet.training.initial import StartingPoint, build_networks, build_slices
from falconet.training.loader import Loader, default_workers, make_dataset
from falconet.training.loggers import IN_FILE
from falconet.training.optim import Schedule
from falconet.training.plan import (
    FEW_STEPS,
    ROUNDED_RATE,
    LearningRate,
    choose_precision,
    resolve_learning_rate,
    validate_every,
    warmup_steps,
)
from falconet.training.preflight import preflight_warnings
from falconet.training.processes import Process
from falconet.training.progress import ByEpochs, ByMinutes, Pace
from falconet.training.rounded import round_in_training
from falconet.training.run_config import RunConfig
from falconet.training.run_data import RunData, load_data
from falconet.training.strided_pointwise import avoid_strided_pointwise
from falconet.training.tasks import TrainTask, task_of
from falconet.training.teacher import Teacher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first step, in one of its processes.

    Attributes:
        run: what is trained, on what, how.
        process: which of the run's processes this is.
        task: what differs between detectors and classifiers.
        data: class names and records.
        loader: of this process.
        networks: "network", "criterion" and, of a run that has some, "slices", on the device they train on.
        bfloat16: convolutions run in bfloat16.
        pace: learning rate, validations and end.
        trained_on: fingerprints of the training pictures.
        teacher: a detector that is learnt from, if any.
    """

    run: RunConfig
    process: Process
    task: TrainTask
    data: RunData
    loader: Loader
    networks: nn.ModuleDict
    bfloat16: bool
    pace: Pace
    trained_on: Ints
    teacher: Teacher | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device


def prepare(
    run: RunConfig,
    process: Process,
    *,
    started: float,
    state: dict[str, Any] | None,
    clock: Callable[[], float] = time.monotonic,
) -> Prepared:
    """Read the data and build the networks of a run.

    Args:
        run: with absolute paths.
        process: which of the run's processes this is.
        started: `clock()` when the run was asked for.
        state: of the run's folder, where it goes on.
        clock: seconds.

    Raises:
        ConfigError, DataError, ModelError: something in the run, the data or the weights is wrong.
    """
    task = task_of(run.model)
    device = _device(run, process)
    run = _settle_threads(run, process, device)
    _log.info("reading %s", run.data.train.place)
    data = load_data(run.data, image_level_labels=task.image_level_labels)
    for note in data.notes:
        _log.info("%s", note)
    for warning in preflight_warnings(run, data.train):
        _log.warning("%s", warning)
    workers = default_workers(devices=process.local_count) if run.data.workers == "auto" else run.data.workers
    loader = make_loader(run, data, process, workers=workers)
    # A run that goes on has its weights and its rate in the checkpoint.
    weights = run.train.weights
    start = StartingPoint(run.model, weights if state is None and isinstance(weights, Path) else None)
    if run.train.freeze == "backbone" and start.path is None and state is None:
        raise ConfigError(
            f"train.freeze={run.train.freeze}: there are no weights to keep; expected train.weights beside it"
        )
    run = start.settle(run, data.names)
    networks = _networks(run, data, start, loader, device, speak=state is None)
    teacher = _teacher(run, data, networks)
    precision, reason = choose_precision(run.train.precision, device=device)
    usual = start.rate(run.model, data.names, slices=run.slices) if run.train.round_to == "none" else ROUNDED_RATE
    pace = _pace(run, data, loader, usual=usual, state=state, started=started, clock=clock)
    minutes = run.train.minutes
    length = plural(run.train.epochs, "epoch") if minutes is None else plural(minutes, "minute")
    steps = f"{length}; an epoch has {plural(loader.steps, 'step')} of {plural(loader.batch_size, 'image')}"
    how = (
        f"{precision} ({reason}); {device.partition(':')[0]} x {process.count}, "
        f"{plural(torch.get_num_threads(), 'torch thread')}, {plural(workers, 'loader worker')}"
    )
    _log.info("%s", steps, extra={IN_FILE: f"{steps}; {how}"})
    trained_on = fingerprints(data.train)
    return Prepared(run, process, task, data, loader, networks, precision == "bfloat16", pace, trained_on, teacher)


def _networks(
    run: RunConfig, data: RunData, start: StartingPoint, loader: Loader, device: str, *, speak: bool
) -> nn.ModuleDict:
    """ "network", "criterion" and, of a run that has some, "slices" on the device, as they train."""
    networks = build_networks(run, data.names, start, loader, speak=speak)
    slices = None
    if run.slices:
        network = networks["network"]
        assert isinstance(network, Network)
        slices = networks["slices"] = build_slices(run, data.names, network, start, loader)
    size = run.model.input
    told = (
        f"model: {run.model.name}, {plural(len(data.names), 'class', 'classes')}, {size.height} x {size.width} pixels"
    )
    _log.info("%s", told, extra={IN_FILE: f"{told}; {cost(run.model, len(data.names))}"})
    assert run.train.norms != "auto", "it was settled with the weights"
    if run.train.freeze == "backbone" and speak:
        assert run.train.freeze_share != "auto", "it was settled with the weights"
        share = 100 * run.train.freeze_share
        _log.debug("backbone: keeps its weights in the first %.0f%% of the run (train.freeze)", share)
    if run.train.norms == "folded":
        _log.debug("batch norms: %d folded into the convolutions (train.norms)", fold_norms(networks["network"]))
        if slices is not None:
            fold_norms(slices)
    if device == "cpu":
        use_fast_depthwise(networks)
        avoid_strided_pointwise(networks)
    if run.train.round_to == "int8":
        if run.train.norms != "folded":
            raise ConfigError(
                "train.round_to=int8: rounds weights with their norms folded in; expected train.weights of a trained "
                f"NanoDet beside it, or train.norms=folded, but norms are {run.train.norms}"
            )
        _log.debug("rounding: %d convolutions, as 8-bit integers", round_in_training(networks["network"]))
    if slices is not None:
        slices.hollow()
        _log.debug("slices: %d narrower networks learn beside it, on its weights", len(run.slices))
    return networks.to(device, memory_format=torch.channels_last)


def _teacher(run: RunConfig, data: RunData, networks: nn.ModuleDict) -> Teacher | None:
    if run.train.teacher is None:
        return None
    network = networks["network"]
    assert isinstance(network, Network)
    teacher = Teacher(run.train.teacher, data.names, network)
    _log.info("teacher: %s", run.train.teacher)
    return teacher.to(next(network.parameters()).device)


def _settle_threads(run: RunConfig, process: Process, device: str) -> RunConfig:
    """Take the run's number of torch threads; where it is open, leave out the CPUs that others keep busy.

    Threads on a CPU that computes something else make all others wait: a step then takes longer than with fewer.
    Processes of the same run would take each other for others, and share the CPUs already.
    """
    threads, usual = run.train.threads, torch.get_num_threads()
    if threads == "auto":
        busy = busy_cpus() if device == "cpu" and process.count == 1 and usual > 1 else None
        threads = usual if busy is None else max(1, usual - round(busy))
        if threads < usual:
            _log.warning(
                "others keep %.1f of %d CPUs busy: %d torch threads instead of %d (train.threads)",
                busy,
                usable_cpus(),
                threads,
                usual,
            )
    torch.set_num_threads(threads)
    return run.model_copy(update={"train": run.train.model_copy(update={"threads": threads})})


def _device(run: RunConfig, process: Process) -> str:
    if run.train.accelerator == "cpu" or (run.train.accelerator == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError("train.accelerator is cuda, but torch sees no such device; use auto or cpu")
    if process.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"{process.local_count} processes on this machine need as many GPUs, but torch sees "
            f"{torch.cuda.device_count()}; lower train.devices"
        )
    return f"cuda:{process.local_rank}"


def make_loader(run: RunConfig, data: RunData, process: Process, *, workers: int) -> Loader:
    """What delivers the batches of a run."""
    dataset = make_dataset(
        data.train,
        data.val,
        preprocess=run.model.input,
        augmentation=run.augment,
        seed=run.seed,
        cache_mb=run.data.cache_mb // process.local_count,
        workers=workers,
        image_level_labels=task_of(run.model).image_level_labels,
        multi_scale=run.train.multi_scale,
        shuffle_buffer=run.data.shuffle_buffer,
    )
    if dataset.sizes:
        _log.info("sizes of the input, one per batch: %s", ", ".join(f"{h}x{w}" for h, w in dataset.sizes))
    loader = Loader(
        dataset, batch_size=run.train.batch_size, workers=workers, rank=process.rank, processes=process.count
    )
    if loader.batch_size < run.train.batch_size:
        _log.info(
            "batch of %d instead of %d: there are no more training images", loader.batch_size, run.train.batch_size
        )
    return loader


def _pace(
    run: RunConfig,
    data: RunData,
    loader: Loader,
    *,
    usual: float,
    state: dict[str, Any] | None,
    started: float,
    clock: Callable[[], float],
) -> Pace:
    train, saved = run.train, None
    if state is None:
        rate = resolve_learning_rate(train, batch_size=loader.batch_size * train.accumulate, usual=usual)
    else:
        rate, saved = LearningRate(state["peak_rate"], f"{state['peak_rate']:.3g} as before"), state["pace"]
    end = f"cosine to {rate.peak * train.final_rate:.2g}"
    if train.minutes is None:
        total = train.epochs * loader.steps
        if total < FEW_STEPS and state is None:
            _log.warning(
                "%s in all are few; for most data 1,000 are the least: train.epochs=%d, or a smaller train.batch_size",
                plural(total, "step"),
                math.ceil(FEW_STEPS / loader.steps),
            )
        warmup = warmup_steps(train, total_steps=total)
        _log.debug("learning rate: %s; warm-up over %d steps, %s at step %d", rate.origin, warmup, end, total)
        schedule = Schedule(rate.peak, warmup, total, train.final_rate)
        every = validate_every(train, epochs=train.epochs)
        return ByEpochs(train.epochs, schedule, validate_every=every, clock=clock, saved=saved)
    warmup = warmup_steps(train, total_steps=None)
    _log.debug(
        "learning rate: %s; warm-up over %d steps, a tenth of the time at most, %s after %g minutes",
        rate.origin,
        warmup,
        end,
        train.minutes,
    )
    return ByMinutes(
        60 * train.minutes,
        started=started,
        peak=rate.peak,
        floor=train.final_rate,
        warmup_steps=warmup,
        val_images=len(data.val),
        validate_every=None if train.validate_every == "auto" else train.validate_every,
        clock=clock,
        agree=from_first,
        saved=saved,
    )
