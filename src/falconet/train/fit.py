"""`fit`: the one entry point of training. `resume` goes on with an interrupted run."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from falconet.core.errors import ConfigError
from falconet.core.manifest import Preprocess
from falconet.core.run_files import find_weights
from falconet.models import Classifier, ClassifierConfig, Detector, Network, build
from falconet.models.deployable import Normalize
from falconet.models.norms import measure_norms, unmeasured
from falconet.models.pretrained import other_options, take_backbone
from falconet.models.weights import load_extra, load_weights, read_card, transfer
from falconet.train.advice import advice
from falconet.train.criteria import build_criterion
from falconet.train.depthwise import use_fast_depthwise
from falconet.train.journal import Silent, Watcher, logging_to
from falconet.train.loader import Loader, default_workers, make_pictures
from falconet.train.module import Interrupted, run_epochs
from falconet.train.pace import measure_pace
from falconet.train.plan import Pace, Plan, choose_precision, epochs_in, make_plan, rate_arithmetic, settle_rate
from falconet.train.processes import in_processes
from falconet.train.run_config import RunConfig
from falconet.train.run_data import RunData, load_data
from falconet.train.run_folder import RunFolder
from falconet.train.session import Session
from falconet.train.tasks import task_of

_log = logging.getLogger(__name__)

MEASURED = 256
"""Pictures that batch norms of imported weights are measured on."""


def fit(run: RunConfig, *, watcher: Watcher | None = None) -> Path:
    """Train a detector or a classifier.

    With `train.devices` above 1, processes are started that import the calling program anew: call it under
    `if __name__ == "__main__":` then.

    Args:
        run: what to train, on what, how.
        watcher: follows the run.

    Returns:
        The run's folder; see `falconet.train.run_folder` for what lies in it.

    Raises:
        ConfigError, DataError, ModelError: something in the run, the data or the weights is wrong, the folder holds
            another run, or the loss is no longer finite.
        KeyboardInterrupt: by Ctrl-C; the run can be resumed.
    """
    run = run.absolute()
    folder = RunFolder(run.output)
    folder.refuse_if_used()
    data = load_data(run.data, whole_pictures=task_of(run.model).whole_pictures)
    load_initial(run, data.names, build(run.model, len(data.names)))
    folder.write_run(run)
    return _train(run, folder, watcher or Silent())


def resume(path: Path, *, watcher: Watcher | None = None) -> Path:
    """Go on with the run in a folder, from its last finished epoch, as if it had never stopped.

    Raises:
        ConfigError: not the folder of a run, or the data has changed.
        Otherwise as `fit`.
    """
    folder = RunFolder(Path(path).absolute())
    return _train(folder.read_run(), folder, watcher or Silent())


def _train(run: RunConfig, folder: RunFolder, watcher: Watcher) -> Path:
    started = time.monotonic()
    if run.train.devices > 1:
        in_processes(_train_one, run.train.devices, (run, folder, watcher, started))
    else:
        _train_one(0, run, folder, watcher, started)
    return folder.path


def _train_one(rank: int, run: RunConfig, folder: RunFolder, watcher: Watcher, started: float) -> None:
    """Train in one of the run's processes."""
    if rank:
        for name in ("falconet", "pytorch_lightning", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        _run(rank, run, folder, Silent(), started)
        return
    with logging_to(folder.log):
        _run(rank, run, folder, watcher, started)


def _run(rank: int, run: RunConfig, folder: RunFolder, watcher: Watcher, started: float) -> None:
    state = folder.read_state()
    if state is not None and state["stopped"]:
        _log.info("%s: this run is finished; nothing is left to do", folder.path)
        return
    session = _prepare(rank, run, folder, watcher, started, state)
    try:
        run_epochs(session, device=_device(run), devices=run.train.devices)
    except Interrupted:
        _log.info(
            "interrupted in epoch %d; go on with it by: falconet train --resume %s", session.epoch + 1, folder.path
        )
        raise KeyboardInterrupt from None
    finally:
        session.close()
    _farewell(session)


def _prepare(
    rank: int, run: RunConfig, folder: RunFolder, watcher: Watcher, started: float, state: dict[str, Any] | None
) -> Session:
    data = load_data(run.data, whole_pictures=task_of(run.model).whole_pictures)
    for note in data.notes:
        _log.info("%s", note)
    for warning in advice(run, data.train):
        _log.warning("%s", warning)
    device = _device(run)
    workers = default_workers(devices=run.train.devices) if run.data.workers == "auto" else run.data.workers
    loader = _loader(rank, run, data, workers=workers)
    precision, reason = choose_precision(run.train.precision, device=device)
    half = precision == "bfloat16"
    run = run.model_copy(update={"train": settle_rate(run.train, tunes=_tunes(run))})
    plan, pace = _plan(run, data, loader, half=half, state=state, spent=time.monotonic() - started)
    _log.info("%s", rate_arithmetic(run.train, plan, batch_size=loader.batch_size))
    _log.info(
        "%d epochs of %d steps of %d pictures; %s (%s); %s x %d, %d torch threads, %d loader workers",
        plan.epochs,
        plan.steps_per_epoch,
        loader.batch_size,
        precision,
        reason,
        device,
        run.train.devices,
        torch.get_num_threads(),
        workers,
    )
    session = Session(
        run,
        folder,
        names=data.names,
        networks=_networks(
            run, data, loader, detach_epoch=plan.detach_epoch, static_epochs=plan.static_epochs, speak=state is None
        ),
        loader=loader,
        plan=plan,
        pace=pace,
        half=half,
        started=started,
        watcher=watcher,
        state=state,
    )
    if state is not None:
        _log.info("resumed after epoch %d of %d", session.epoch, plan.epochs)
    return session


def _tunes(run: RunConfig) -> bool:
    """Whether the whole network starts from trained weights, and not only a detector's backbone or nothing of it."""
    if run.train.weights is None:
        return False
    trained = read_card(find_weights(run.train.weights)).model
    return isinstance(trained, ClassifierConfig) == isinstance(run.model, ClassifierConfig)


def _device(run: RunConfig) -> str:
    if run.train.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if run.train.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.accelerator is cuda, but torch sees no such device; use auto or cpu")
    return run.train.accelerator


def _loader(rank: int, run: RunConfig, data: RunData, *, workers: int) -> Loader:
    pictures = make_pictures(
        data.train,
        data.val,
        preprocess=run.model.input,
        variation=run.augment,
        seed=run.seed,
        cache_mb=run.data.cache_mb // run.train.devices,
        workers=workers,
        whole_pictures=task_of(run.model).whole_pictures,
        multi_scale=run.train.multi_scale,
    )
    if pictures.sizes:
        _log.info("sizes of the input, one per batch: %s", ", ".join(f"{h}x{w}" for h, w in pictures.sizes))
    loader = Loader(pictures, batch_size=run.train.batch_size, workers=workers, rank=rank, processes=run.train.devices)
    if loader.batch_size < run.train.batch_size:
        _log.info(
            "batch of %d instead of %d: there are no more training pictures", loader.batch_size, run.train.batch_size
        )
    return loader


def _networks(
    run: RunConfig, data: RunData, loader: Loader, *, detach_epoch: int, static_epochs: int, speak: bool
) -> nn.ModuleDict:
    """Network and criterion with the weights a run starts from; the same each time."""
    torch.manual_seed(run.seed)
    network = build(run.model, len(data.names))
    started_from = load_initial(run, data.names, network)
    if speak:
        _log.info("%s", started_from)
    criterion = build_criterion(
        run.model,
        network,
        num_classes=len(data.names),
        auxiliary=run.train.auxiliary,
        detach_epoch=detach_epoch,
        static_epochs=static_epochs,
        label_smoothing=run.train.label_smoothing,
    )
    if speak and criterion.extra_repr():
        _log.info("criterion: %s", criterion.extra_repr())
    if run.train.weights is not None:
        _finish_initial(find_weights(run.train.weights), network, criterion, run.model.input, loader, speak=speak)
    networks = nn.ModuleDict({"network": network, "criterion": criterion}).train()
    if _device(run) == "cpu":
        use_fast_depthwise(networks)
    return networks.to(_device(run), memory_format=torch.channels_last)


def load_initial(run: RunConfig, names: tuple[str, ...], network: Network) -> str:
    """Give a fresh network the weights that `run` starts from, and say which these are.

    Where the weights know other classes than `names`, the class outputs start anew; all else is taken over.

    Raises:
        ModelError: no weights there, or of another architecture.
    """
    if run.train.weights is None:
        return "weights: from scratch"
    path = find_weights(run.train.weights)
    source, card = load_weights(path)
    if isinstance(source, Classifier) and isinstance(network, Detector):
        options, inputs = (run.model.backbone, card.model.backbone), (run.model.input, card.model.input)
        notes = take_backbone(network, source, options=options, inputs=inputs, origin=str(path))
        return "\n".join([f"weights: {path} ({card.source or 'a classifier'})", *notes])
    fresh = {name: network.state_dict()[name].clone() for name in network.class_outputs()}
    report = f"weights: {path}: {transfer(network, source.state_dict())}"
    if isinstance(network, Classifier):
        report = "\n".join([report, *other_options(run.model.backbone, card.model.backbone)])
    if card.classes == names:
        return report
    with torch.no_grad():
        for name, rows in network.class_outputs().items():
            network.state_dict()[name][rows] = fresh[name][rows]
    return (
        f"{report}\nclass outputs start anew: {', '.join(names)} instead of {', '.join(card.classes[:20])}"
        f"{' ...' if len(card.classes) > 20 else ''}"
    )


def _finish_initial(
    weights: Path, network: Network, criterion: nn.Module, preprocess: Preprocess, loader: Loader, *, speak: bool
) -> None:
    """What weights for training need beyond those of the network: the auxiliary branch, statistics of its norms."""
    own = criterion.state_dict()
    extra = {name: value for name, value in load_extra(weights).items() if name in own}
    fitting = {name: value for name, value in extra.items() if value.shape == own[name].shape}
    criterion.load_state_dict(fitting, strict=False)
    if speak and extra:
        _log.info("auxiliary branch: %d of %d tensors from there", len(fitting), len(own))
    if unmeasured(network):
        normalize = Normalize(preprocess)
        batches = (normalize(batch.pixels) for batch in loader.first(max(1, MEASURED // loader.batch_size)))
        count = measure_norms(network, batches)
        if speak:
            _log.info("batch norms were folded away in these weights; measured anew on %d training pictures", count)


def _plan(
    run: RunConfig, data: RunData, loader: Loader, *, half: bool, state: dict[str, Any] | None, spent: float
) -> tuple[Plan, Pace | None]:
    """The course of the run; that of the checkpoint when there is one."""
    if state is not None:
        pace = None if state["pace"] is None else Pace.model_validate(state["pace"])
        return Plan.model_validate(state["plan"]), pace
    if run.train.minutes is None:
        return _planned(run, loader, run.train.epochs), None
    began = time.monotonic()
    pace = measure_pace(
        _networks(run, data, loader, detach_epoch=1, static_epochs=1, speak=False),
        loader,
        run.model.input,
        task=task_of(run.model),
        half=half,
        drops_auxiliary=run.train.auxiliary == "drop",
    )
    left = 60 * run.train.minutes - spent - (time.monotonic() - began)
    epochs = epochs_in(left, train=run.train, pace=pace, steps_per_epoch=loader.steps, batch_size=loader.batch_size)
    _log.info(
        "%g minutes: an epoch is expected to take %.1f s at first, %.1f s later, a validation %.1f s, so %d epochs fit",
        run.train.minutes,
        pace.guided,
        pace.alone,
        pace.validation,
        epochs,
    )
    plan = _planned(run, loader, epochs)
    least = pace.expected(plan, 0, 1)
    if least > left:
        _log.warning("one epoch is the least there is; it will take %.0f s, but %.0f s are left", least, max(0.0, left))
    return plan, pace


def _planned(run: RunConfig, loader: Loader, epochs: int) -> Plan:
    return make_plan(run.train, epochs=epochs, steps_per_epoch=loader.steps, batch_size=loader.batch_size)


def _farewell(session: Session) -> None:
    if session.best is None or not session.recording:
        return
    first, second = session.task.headline
    _log.info(
        "done after %d epochs in %.1f minutes: best %s %.3f (%s %.3f) in epoch %d; %s",
        session.epoch,
        session.spent() / 60,
        first,
        session.best[first],
        second,
        session.best[second],
        session.best["epoch"],
        session.folder.best,
    )
