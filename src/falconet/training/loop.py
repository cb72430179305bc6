"""The training loop: epochs, batches, step, average, validate, save."""

import logging
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from falconet import __version__
from falconet.core.errors import ModelError
from falconet.core.manifest import EVALUATION, Selection
from falconet.eval.operating_point import OperatingPoint
from falconet.models import Detector, Network
from falconet.models.deployable import Normalize
from falconet.models.weights import ModelCard, save_weights
from falconet.training.batch import Batch
from falconet.training.distributed import average_buffers, mean_over_processes, several_processes
from falconet.training.forecast import Forecast
from falconet.training.loggers import Callback, Loggers
from falconet.training.optim import set_rate
from falconet.training.prepare import Prepared
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from falconet.training.state import TrainState
from falconet.training.tasks import validate

_log = logging.getLogger(__name__)

POINT = ("F1", *(field.name for field in fields(OperatingPoint)))
"""What a validation says of the best score threshold."""


def train(
    prepared: Prepared, state: TrainState, folder: RunFolder, *, loggers: Loggers | None, callback: Callback
) -> None:
    """Train until the pace says that it is enough.

    Raises:
        KeyboardInterrupt: by Ctrl-C; the last checkpoint is that of the epoch before.
        FalconetError: loss or gradients not finite, or a file that cannot be written.
    """
    loader, pace = prepared.loader, prepared.pace
    state.freeze(prepared, pace.at(state.epoch, state.step))
    module = _distributed(TrainModule(prepared))
    reported: set[str] = set()
    mosaic_share = 1 - prepared.run.augment.mosaic_close
    callback.start(pace.at(state.epoch, state.step), steps=loader.steps)
    forecast = _forecast(prepared)
    while not state.stopped:
        state.begin_epoch(prepared)
        loader.with_mosaic = pace.at(state.epoch, state.step).before(mosaic_share)
        first_step, sums = state.step, Sums()
        began = lap = pace.clock()
        for index, batch in enumerate(loader):
            if not pace.started:  # with the first batch; all until here was start-up
                lap = pace.start()
            progress = pace.at(state.epoch, state.step)
            if progress.fraction >= 1 and state.step > first_step:
                loader.cancel()
                break
            loader.with_mosaic = progress.before(mosaic_share)
            if state.freeze(prepared, progress):
                module = _distributed(TrainModule(prepared))  # it asks once what learns
                forecast.begin_anew()
            rate = pace.rate(progress, state.step)
            part = Part.of(index, prepared.run.train.accumulate, loader.steps)
            sums.add(step(module, prepared, state, batch, progress, rate=rate, part=part))
            if part.last:
                total_steps = pace.total_steps(progress, state.step)
                state.average.update(prepared.networks, step=state.step, total_steps=total_steps)
            state.step += 1
            _report(batch.problems, reported)
            before, lap = lap, pace.trained(loader.batch_size, since=lap)
            forecast.stepped(lap - before, epoch=state.epoch, step=state.step, frozen=bool(state.frozen))
            callback.step(progress, step=state.step - first_step, loss=sums.mean_loss)
        for networks in (prepared.networks, state.average.module):
            average_buffers(networks)
        metrics = _metrics(state, sums, loader, seconds=pace.clock() - began, steps=state.step - first_step)
        metrics["learning_rate"], progress = rate, pace.at(state.epoch, state.step)
        last = progress.fraction >= 1
        if pace.validates(progress, last=last):
            metrics |= _validate(prepared, state, reported)
            last = last or pace.at(state.epoch, state.step).fraction >= 1
        improved = keep_best(prepared, state, metrics)
        state.stopped = last or _out_of_patience(prepared, state)
        state.epoch += 1
        lap = pace.clock()
        if loggers is not None:  # the first process writes
            _write(prepared, state, folder, metrics, improved=improved)
            loggers.log(metrics, progress, improved=improved)
            callback.epoch(metrics, progress)
            state.save(prepared, folder)
        pace.wrote(pace.clock() - lap)
    forecast.over(step=state.step)


def _forecast(prepared: Prepared) -> Forecast:
    loader, may_stop = prepared.loader, prepared.run.train.patience is not None
    return Forecast(prepared.pace, loader.steps, loader.batch_size, len(prepared.data.val), may_stop)


class TrainModule(nn.Module):
    """From a batch to the criterion's terms: what several processes run in parallel.

    Args:
        prepared: holds network and criterion.
    """

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self.networks = prepared.networks
        self.normalize = Normalize(prepared.run.model.input).to(prepared.device)
        self.bfloat16 = prepared.bfloat16
        self.teacher = prepared.teacher

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        network = self.networks["network"]
        assert isinstance(network, Network)
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=self.bfloat16):
            images = self.normalize(batch.pixels)
            outputs = network.forward_outputs(images)
            terms: dict[str, Tensor] = self.networks["criterion"](outputs, batch.targets, progress)
            if "slices" in self.networks:
                narrower = self.networks["slices"](network, images)
                all_terms = [terms, *(self.networks["criterion"](one, batch.targets, progress) for one in narrower)]
                terms = {name: torch.stack([one[name] for one in all_terms]).mean() for name in terms}
            if self.teacher is not None:
                assert isinstance(network, Detector)
                terms |= self.teacher.terms(network, outputs.raw, batch.pixels)
        return terms


class Part(NamedTuple):
    """What a batch is of the step it belongs to; an epoch ends with a whole step."""

    first: bool
    last: bool
    share: float

    @classmethod
    def of(cls, index: int, count: int, batches: int) -> "Part":
        """The part of batch `index`, where `count` make a step and `batches` an epoch."""
        begins = index - index % count
        return cls(index == begins, (index + 1) % count == 0 or index + 1 == batches, 1 / min(count, batches - begins))


WHOLE = Part(first=True, last=True, share=1.0)


def step(
    module: nn.Module,
    prepared: Prepared,
    state: TrainState,
    batch: Batch,
    progress: Progress,
    *,
    rate: float,
    part: Part = WHOLE,
) -> dict[str, Tensor]:
    """One step of the optimiser, or a part of it; the detached terms of the loss and, as "loss", their sum."""
    optimizer, parameters = state.optimizer, list(prepared.networks.parameters())
    set_rate(optimizer, rate)
    apart = module.no_sync() if isinstance(module, DistributedDataParallel) and not part.last else nullcontext()
    with apart:
        loss, terms = _backward(module, prepared, state, batch, progress, part)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not torch.isfinite(norm):
        raise _broken(prepared, state, batch, "the gradients are not finite")
    if part.last:
        if prepared.run.train.clip_gradients is not None:
            nn.utils.clip_grads_with_norm_(parameters, prepared.run.train.clip_gradients, norm)
        optimizer.step()
    return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}


def _backward(
    module: nn.Module, prepared: Prepared, state: TrainState, batch: Batch, progress: Progress, part: Part
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradients of a batch; its loss and terms."""
    try:
        terms = module(batch.to(prepared.device), progress)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ModelError(
            f"a batch of {len(batch.indices)} leaves batch norms one value per channel; expected a larger "
            "train.batch_size, more training pictures, or a larger model.input"
        ) from error
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        named = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        raise _broken(prepared, state, batch, f"the loss is not finite ({named})")
    if part.first:
        state.optimizer.zero_grad()
    (loss * part.share).backward()
    return loss, terms


class Sums:
    """Adds up the terms of an epoch's steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._steps = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """The terms of one step."""
        for name, value in terms.items():
            self._sums[name] = self._sums[name].to(value.device) + value
        self._steps += 1

    @property
    def mean_loss(self) -> float:
        """Mean loss of the steps so far, in this process."""
        return float(self._sums["loss"]) / self._steps

    def means(self) -> dict[str, float]:
        """Mean loss and terms, over all processes."""
        names = list(self._sums)
        values = mean_over_processes(torch.stack([self._sums[name] for name in names]) / max(1, self._steps))
        means = dict(zip(names, values.tolist(), strict=True))
        return {name if name == "loss" else f"loss_{name}": value for name, value in means.items()}


def _distributed(module: TrainModule) -> nn.Module:
    if not several_processes():
        return module
    # A criterion may stop using weights of its own; what no process used keeps no gradient.
    own = any(True for _ in module.networks["criterion"].parameters())
    return DistributedDataParallel(module, find_unused_parameters=own)


def _metrics(state: TrainState, sums: Sums, loader: Any, *, seconds: float, steps: int) -> dict[str, Any]:
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        **sums.means(),
        "seconds": seconds,
        "images_per_second": steps * loader.batch_size / seconds,
        "data_wait": loader.waited / seconds,
    }


def _validate(prepared: Prepared, state: TrainState, reported: set[str]) -> dict[str, Any]:
    pace = prepared.pace
    began = pace.clock()
    limit = pace.validation_seconds()
    deployable = prepared.task.deployable(state.average.module["network"], prepared.run.model.input)
    metrics, problems = validate(
        prepared.task,
        deployable.eval().to(prepared.device),
        # A part of the images, where there is no time for all, shall be a fair one.
        prepared.loader.validation(batch_size=prepared.loader.batch_size, shuffled=limit is not None),
        over=lambda: limit is not None and pace.clock() - began > limit,
        names=prepared.data.names,
        records=prepared.data.val,
        selection=replace(_selection(prepared), score_threshold=EVALUATION.score_threshold),
        device=prepared.device,
    )
    _report(problems, reported)
    if state.score is None or "val_images" not in metrics:
        state.score = metrics.get("score")
    pace.validated(pace.clock() - began)
    return metrics


def keep_best(prepared: Prepared, state: TrainState, metrics: dict[str, Any]) -> bool:
    """Whether these weights are the best so far; figures of a part of the images are worth less than those of all."""
    key, second = prepared.task.key_metric, prepared.task.second_metric
    if key not in metrics:
        return False
    images = metrics.get("val_images", len(prepared.data.val))
    if state.best is not None:
        known = state.best.get("val_images", len(prepared.data.val))
        if (images, metrics[key]) <= (known, state.best[key]):
            return False
    state.best = {key: metrics[key], second: metrics[second], "epoch": state.epoch + 1}
    state.best |= {name: metrics[name] for name in POINT if name in metrics}
    if images < len(prepared.data.val):
        state.best["val_images"] = images
    return True


def _out_of_patience(prepared: Prepared, state: TrainState) -> bool:
    patience = prepared.run.train.patience
    if patience is None or state.best is None or state.epoch + 1 - state.best["epoch"] < patience:
        return False
    name, epoch = prepared.task.key_metric, state.best["epoch"]
    _log.info("stopped early: no better %s since epoch %d (train.patience=%d)", name, epoch, patience)
    return True


def _write(
    prepared: Prepared, state: TrainState, folder: RunFolder, metrics: dict[str, Any], *, improved: bool
) -> None:
    """Write the averaged weights. The checkpoint comes after them: a crash in between repeats the epoch."""
    network = state.average.module["network"]
    assert isinstance(network, Network)
    numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    card = ModelCard(
        model=prepared.run.model,
        classes=prepared.data.names,
        selection=_selection(prepared, state.score),
        source=f"trained by Falconet {__version__}, epoch {metrics['epoch']}",
        falconet_version=__version__,
        metrics={name: value for name, value in numbers.items() if _is_result(name)},
        data=prepared.run.data.model_dump(mode="json", include={"train", "val", "val_fraction", "classes"}),
    )
    extra = {
        name: tensor
        for part in ("criterion", "slices")
        if part in state.average.module
        for name, tensor in state.average.module[part].state_dict().items()
    }
    for path in [folder.best] * improved + [folder.last]:
        save_weights(path, network, card, extra=extra, trained_on=prepared.trained_on)


def _selection(prepared: Prepared, score: float | None = None) -> Selection:
    """What the trained model selects on the device; a classifier selects nothing.

    Args:
        score: measured threshold, which takes the place of one that nobody chose.
    """
    model = prepared.run.model
    found: Selection = getattr(model, "selection", Selection())
    usual = type(model).model_fields["selection"].default if hasattr(model, "selection") else found
    if score is None or found.score_threshold != usual.score_threshold:
        return found
    return replace(found, score_threshold=score)


def _is_result(name: str) -> bool:
    """Whether a metric says how good the weights are, and not how fast they were made."""
    return name in ("epoch", "loss", *POINT) or name.startswith(("AP", "AR", "top"))


def _report(problems: Any, reported: set[str]) -> None:
    for problem in problems:
        if problem not in reported:
            reported.add(problem)
            _log.warning("left out, training goes on: %s", problem)


def _broken(prepared: Prepared, state: TrainState, batch: Batch, what: str) -> ModelError:
    files = [str(prepared.data.train[index].path) for index in batch.indices.tolist()]
    return ModelError(
        f"epoch {state.epoch + 1}, step {state.step + 1}: {what}; training stops, and the weights of earlier epochs "
        "stay as they are. Images of this batch:\n  "
        + "\n  ".join(files)
        + "\nLook at them with 'falconet data show'; a smaller train.learning_rate or train.precision=float32 "
        "may help too"
    )
