"""What changes in the course of a run, and its checkpoint."""

from typing import Any

import numpy as np
import torch
from torch import nn

from falconet.core.errors import ConfigError, ModelError
from falconet.training.optim import WeightAverage, build_optimizer, restore_optimizer
from falconet.training.prepare import Prepared
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder

_NETWORK = 2
"""Stream of random numbers for what draws them inside the networks (dropout)."""


class TrainState:
    """A run in progress, in one of its processes.

    Attributes:
        epoch, step: the ones in progress, from 0 (steps over all epochs).
        best: key metric, second metric and the epoch (from 1) of the best validation so far.
        score: threshold of the best F1 at the last validation; None where nothing was found, or by a classifier.
        stopped: no epoch shall follow.
        frozen: parameters that keep their values at present, and learn later.
        average: moving average of the networks, which is validated and kept.
        optimizer: over the networks.
    """

    def __init__(self, prepared: Prepared) -> None:
        train = prepared.run.train
        self.epoch = self.step = 0
        self.frozen: list[nn.Parameter] = []
        self.best: dict[str, float] | None = None
        self.score: float | None = None
        self.stopped = False
        self.average = WeightAverage(prepared.networks, decay=train.average_decay)
        assert train.backbone_rate != "auto", "it was settled before the first step"
        self.optimizer = build_optimizer(
            prepared.networks,
            weight_decay=train.weight_decay,
            backbone_rate=train.backbone_rate,
            name=train.optimizer,
            momentum=train.momentum,
        )

    def begin_epoch(self, prepared: Prepared) -> None:
        """Set everything that makes this epoch the same whenever and wherever it is run."""
        seeds = np.random.SeedSequence([prepared.run.seed, _NETWORK, self.epoch, prepared.process.rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        prepared.loader.epoch = self.epoch
        prepared.loader.waited = 0.0
        prepared.networks.train()
        if self.frozen:
            prepared.networks["network"].get_submodule("backbone").eval()

    def freeze(self, prepared: Prepared, progress: Progress) -> bool:
        """Keep the backbone as it is while the run says so, else let it learn; whether that has changed."""
        train = prepared.run.train
        assert train.freeze_share != "auto", "it was settled before the first step"
        freezes = train.freeze == "backbone" and progress.fraction < train.freeze_share
        if freezes == bool(self.frozen):
            return False
        backbone = prepared.networks["network"].get_submodule("backbone")
        if freezes:
            self.frozen = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        for parameter in self.frozen:
            parameter.requires_grad_(not freezes)
        if not freezes:
            self.frozen = []
        backbone.train(not freezes)
        return True

    def save(self, prepared: Prepared, folder: RunFolder) -> None:
        """Write the checkpoint."""
        folder.write_state(
            {
                "epoch": self.epoch,
                "step": self.step,
                "pace": prepared.pace.state(),
                "peak_rate": prepared.pace.peak,
                "best": self.best,
                "score": self.score,
                "stopped": self.stopped,
                "classes": list(prepared.data.names),
                "images": len(prepared.data.train),
                "networks": prepared.networks.state_dict(),
                "average": self.average.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def restore(self, prepared: Prepared, state: dict[str, Any], folder: RunFolder) -> None:
        """Go on from a checkpoint.

        Raises:
            ConfigError: the data has changed.
            ModelError: a checkpoint of something else.
        """
        names, images = prepared.data.names, len(prepared.data.train)
        if tuple(state["classes"]) != names or state["images"] != images:
            raise ConfigError(
                f"{folder.path}: the data has changed since this run began: it had {state['images']} training "
                f"images of {', '.join(state['classes'])}, now there are {images} of {', '.join(names)}; "
                f"restore the data, or start a new run with train.weights={folder.last}"
            )
        try:
            prepared.networks.load_state_dict(state["networks"])
            self.average.module.load_state_dict(state["average"])
            restore_optimizer(self.optimizer, state["optimizer"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{folder.state}: does not fit this run, or is damaged: {reason}") from error
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.score = state.get("score")
