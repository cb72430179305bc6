"""One run while it goes on: what an epoch begins and ends with. Knows nothing of Lightning."""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from falconet import __version__
from falconet.core.errors import ConfigError
from falconet.core.types import Record
from falconet.models import Network
from falconet.models.weights import Card, save_weights
from falconet.train.batch import Batch
from falconet.train.journal import Journal, Watcher
from falconet.train.loader import Loader
from falconet.train.optim import WeightAverage, restore_optimizer
from falconet.train.plan import Pace, Plan, adjusted
from falconet.train.run_config import RunConfig
from falconet.train.run_folder import RunFolder
from falconet.train.tasks import task_of

_log = logging.getLogger(__name__)

_NETWORK = 2
"""Stream of chance for what draws numbers inside the networks (dropout)."""


class Session:
    """A run in progress, in one of its processes.

    Args:
        run, folder: what is trained, and where it is written.
        names: class names.
        networks: "network" and "criterion", on the device they train on.
        loader: of this process.
        plan: epochs and rates.
        pace: expected times, for a run of given minutes.
        half: convolutions run in bfloat16.
        started: `time.monotonic` at the start, from which the minutes count.
        watcher: follows the run.
        state: of the run folder, to go on from.

    Attributes:
        epoch, step: the ones in progress, from 0 (steps over all epochs).
        first_epoch: where this process began.
        best: the headline figures and the epoch (from 1) of the best validation so far.
        stopped: no epoch shall follow.
    """

    def __init__(
        self,
        run: RunConfig,
        folder: RunFolder,
        *,
        names: tuple[str, ...],
        networks: nn.ModuleDict,
        loader: Loader,
        plan: Plan,
        pace: Pace | None,
        half: bool,
        started: float,
        watcher: Watcher,
        state: dict[str, Any] | None,
    ) -> None:
        self.run, self.folder, self.names = run, folder, names
        self.task = task_of(run.model)
        self.networks, self.loader = networks, loader
        self.plan, self.pace, self.half = plan, pace, half
        self.watcher = watcher
        self.average = WeightAverage(networks, decay=run.train.average_decay)
        self.epoch = self.first_epoch = 0
        self.step = 0
        self.best: dict[str, float] | None = None
        self.stopped = False
        self.current: list[int] = []
        self._started = started
        self._optimizer_state: dict[str, Any] | None = None
        self._journal: Journal | None = None
        self._reported: set[str] = set()
        self._sums: dict[str, Tensor] = {}
        self._epoch_started = 0.0
        if state is not None:
            self._restore(state)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @property
    def recording(self) -> bool:
        """Whether this process writes the files of the run."""
        return self._journal is not None

    @property
    def val_records(self) -> Sequence[Record]:
        """All validation records, of all processes."""
        return self.loader.pictures.val

    def current_files(self) -> list[Path]:
        """Pictures of the batch in progress."""
        return [self.loader.pictures.train[index].path for index in self.current]

    def rate(self) -> float:
        """Learning rate of the step in progress."""
        return self.plan.schedule.rate(self.step)

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give a new optimiser the moments of the checkpoint, if there is one."""
        if self._optimizer_state is not None:
            restore_optimizer(optimizer, self._optimizer_state)
            self._optimizer_state = None

    def open(self, *, rank: int) -> None:
        """Agree with the other processes on the plan; the first one starts to record."""
        self.plan = _from_first(self.plan)
        self.pace = _from_first(self.pace)
        if rank == 0:
            self._journal = Journal(self.folder, finished=self.epoch)
            self.watcher.start(epochs=self.plan.epochs, steps=self.loader.steps, finished=self.epoch)

    def close(self) -> None:
        """The run is over, well or not."""
        if self._journal is not None:
            self._journal.close()
        self.watcher.stop()

    def begin_epoch(self, *, rank: int) -> None:
        """Set everything that makes this epoch the same whenever and wherever it is run."""
        seeds = np.random.SeedSequence([self.run.seed, _NETWORK, self.epoch, rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        self.loader.epoch = self.epoch
        self.loader.with_mosaic = self.epoch < self.plan.epochs * (1 - self.run.augment.mosaic_close)
        self.loader.waited = 0.0
        self.networks.train()
        self._sums = defaultdict(lambda: torch.zeros((), device=self.device))
        self._epoch_started = time.monotonic()

    def forget_dropped(self) -> None:
        """Take the zero gradients that several processes agreed on from a dropped branch.

        Without a gradient not even weight decay touches it: its last weights stay what they were.
        """
        if self.run.train.auxiliary == "drop" and self.epoch >= self.plan.detach_epoch:
            for parameter in self.networks["criterion"].parameters():
                parameter.grad = None

    def add_terms(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Count the terms of a step towards the epoch's means."""
        for name, value in terms.items():
            self._sums[f"loss_{name}"] += value.detach()
        self._sums["loss"] += loss.detach()

    def end_step(self, batch: Batch) -> None:
        """After the optimiser's step."""
        self.average.update(self.networks, step=self.step, total_steps=self.plan.total_steps)
        self._report(batch.problems)
        if self._journal is not None:
            in_epoch = self.step - self.epoch * self.loader.steps
            mean = float(self._sums["loss"]) / (in_epoch + 1)
            self.watcher.step(epoch=self.epoch, epochs=self.plan.epochs, step=in_epoch, loss=mean)
        self.step += 1

    def end_epoch(self, optimizer_state: dict[str, Any], *, rank: int) -> None:
        """Validate, write weights, figures and checkpoint, and fit the plan to the time that is left."""
        seconds = time.monotonic() - self._epoch_started
        figures: dict[str, Any] = {"epoch": self.epoch + 1, "step": self.step}
        figures |= self._means()
        figures["learning_rate"] = self.plan.schedule.rate(self.step - 1)
        figures["seconds"] = seconds
        figures["images_per_second"] = self.loader.steps * self.loader.batch_size / seconds
        figures["data_wait"] = self.loader.waited / seconds
        self._fit_time()
        if self.plan.validates(self.epoch):
            figures |= self._validate()
        first, second = self.task.headline
        improved = first in figures and (self.best is None or figures[first] > self.best[first])
        if improved:
            self.best = {first: figures[first], second: figures[second], "epoch": self.epoch + 1}
        self.stopped = self._shall_stop()
        self.epoch += 1
        if rank == 0:
            self._write(figures, optimizer_state, improved=improved)

    def spent(self) -> float:
        """Seconds since the start, over all resumptions."""
        return time.monotonic() - self._started

    def _means(self) -> dict[str, float]:
        """Mean loss and terms of the epoch, over all processes."""
        names = list(self._sums)
        values = torch.stack([self._sums[name] for name in names]) / self.loader.steps
        if _several():
            distributed.all_reduce(values)
            values /= distributed.get_world_size()
        means = dict(zip(names, values.tolist(), strict=True))
        return {"loss": means.pop("loss")} | means

    def _fit_time(self) -> None:
        if self.pace is None or self.run.train.minutes is None:
            return
        spent = _from_first(self.spent())
        plan = adjusted(self.plan, pace=self.pace, done=self.epoch + 1, spent=spent, budget=60 * self.run.train.minutes)
        if abs(plan.epochs - self.plan.epochs) > 0.05 * self.plan.epochs:
            _log.info(
                "epochs: %d instead of %d fit into %g minutes at the speed so far",
                plan.epochs,
                self.plan.epochs,
                self.run.train.minutes,
            )
        self.plan = plan

    def _validate(self) -> dict[str, Any]:
        deployable = self.task.deployable(self.average.module["network"], self.run.model.input)
        figures, problems = self.task.measure(
            deployable.to(self.device),
            self.loader.validation(batch_size=self.loader.batch_size),
            names=self.names,
            records=self.val_records,
            device=self.device,
        )
        self._report(tuple(problems))
        return figures

    def _shall_stop(self) -> bool:
        patience = self.run.train.patience
        if self.epoch + 1 >= self.plan.epochs:
            return True
        if patience is None or self.best is None or self.epoch + 1 - self.best["epoch"] < patience:
            return False
        name = self.task.headline[0]
        _log.info("stopped early: no better %s since epoch %d (train.patience=%d)", name, self.best["epoch"], patience)
        return True

    def _write(self, figures: dict[str, Any], optimizer_state: dict[str, Any], *, improved: bool) -> None:
        """Weights first, the checkpoint last: a crash in between repeats the epoch and writes the same again."""
        if improved:
            self._save(self.folder.best, figures)
        self._save(self.folder.last, figures)
        assert self._journal is not None
        self._journal.write(figures, epochs=self.plan.epochs)
        self.watcher.epoch(figures)
        self.folder.write_state(
            {
                "epoch": self.epoch,
                "step": self.step,
                "plan": self.plan.model_dump(),
                "pace": None if self.pace is None else self.pace.model_dump(),
                "seconds": self.spent(),
                "best": self.best,
                "stopped": self.stopped,
                "classes": list(self.names),
                "pictures": len(self.loader.pictures.train),
                "networks": self.networks.state_dict(),
                "average": self.average.module.state_dict(),
                "optimizer": optimizer_state,
            }
        )

    def _save(self, path: Path, figures: dict[str, Any]) -> None:
        network = self.average.module["network"]
        assert isinstance(network, Network)
        card = Card(
            model=self.run.model,
            classes=self.names,
            source=f"trained by Falconet {__version__}, epoch {figures['epoch']} of {self.plan.epochs}",
            falconet_version=__version__,
            metrics={
                name: float(value)
                for name, value in figures.items()
                if name in ("epoch", "loss") or name.startswith(("AP", "AR", "top"))
            },
        )
        save_weights(path, network, card, extra=dict(self.average.module["criterion"].state_dict()))

    def _restore(self, state: dict[str, Any]) -> None:
        if tuple(state["classes"]) != self.names or state["pictures"] != len(self.loader.pictures.train):
            raise ConfigError(
                f"{self.folder.path}: the data has changed since this run began: it had {state['pictures']} training "
                f"pictures of {', '.join(state['classes'])}, now there are {len(self.loader.pictures.train)} of "
                f"{', '.join(self.names)}; restore the data, or start a new run with train.weights={self.folder.last}"
            )
        self.networks.load_state_dict(state["networks"])
        self.average.module.load_state_dict(state["average"])
        self._optimizer_state = state["optimizer"]
        self.epoch = self.first_epoch = state["epoch"]
        self.step = state["step"]
        self.best = state["best"]
        self._started = time.monotonic() - state["seconds"]

    def _report(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._reported:
                self._reported.add(problem)
                _log.warning("left out, training goes on: %s", problem)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _from_first(value: Any) -> Any:
    """The value that the first process holds."""
    if not _several():
        return value
    holder = [value]
    distributed.broadcast_object_list(holder, src=0)
    return holder[0]
