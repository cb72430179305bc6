"""A training step of NanoDet-Plus-m at 320 in Falconet's way against the same recipe in plain torch.

The peer is float32 in torch's default memory format, torch's own depthwise gradients, and the auxiliary branch run
to the end, as in the original. Both read the same drawn 640 x 480 JPEGs through the same loader and augmentation and
use the same criterion, optimiser, clipping and average of the weights; steps are measured in turn.

    python benchmarks/training.py [--steps 12]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from common import write
from torch import nn

from falconet.data.augment import Augment
from falconet.data.drawn import write_drawn_dataset
from falconet.data.formats import open_dataset
from falconet.models import PRESETS, build
from falconet.models.deployable import Normalize
from falconet.training.batch import Batch
from falconet.training.criteria import build_criterion
from falconet.training.criteria.nanodet_plus import NanoDetPlusCriterionConfig
from falconet.training.depthwise import use_fast_depthwise
from falconet.training.loader import Loader, make_dataset
from falconet.training.optim import WeightAverage, build_optimizer
from falconet.training.progress import Progress

PRESET, CLASSES, BATCH = "nanodet-plus-m-320", 80, 16
EPOCHS = 100
DETACH = 3
"""The run whose mean step is reported: the branch guides as many epochs as by default."""


class Trainer:
    """One way of training.

    Args:
        fast: Falconet's way, else plain torch.
        auxiliary: what becomes of the branch at the detach epoch.
        epoch: 0 with the branch, `DETACH` after it is detached or dropped.
    """

    def __init__(self, *, fast: bool, auxiliary: Literal["drop", "keep"], epoch: int) -> None:
        torch.manual_seed(0)
        config = PRESETS[PRESET]
        detector = build(config, CLASSES)
        criterion = build_criterion(
            NanoDetPlusCriterionConfig(auxiliary=auxiliary, detach_epoch=DETACH), config, detector, num_classes=CLASSES
        )
        networks = nn.ModuleDict({"detector": detector, "criterion": criterion}).train()
        self.fast, self.epoch = fast, epoch
        if fast:
            networks = networks.to(memory_format=torch.channels_last)
            use_fast_depthwise(networks)
        if epoch and auxiliary == "drop":
            criterion.requires_grad_(False)
        self.networks, self.normalize = networks, Normalize(config.input)
        self.optimizer = build_optimizer(networks, weight_decay=0.05)
        self.average = WeightAverage(networks, decay=0.999)

    def step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        images = self.normalize(batch.pixels)
        if not self.fast:
            images = images.contiguous()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fast):
            trace = self.networks["detector"].forward_outputs(images)
            terms = self.networks["criterion"](trace, batch.targets, Progress(self.epoch, EPOCHS, self.epoch / EPOCHS))
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), 35.0)
        self.optimizer.step()
        self.average.update(self.networks, step=1000, total_steps=10000)
        assert torch.isfinite(loss)


def endless(loader: Loader) -> Iterator[Batch]:
    """Batches of one epoch after the other."""
    while True:
        yield from loader
        loader.epoch += 1


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        write_drawn_dataset(Path(folder), train=320, val=1, size=(480, 640))
        records = open_dataset(Path(folder) / "train.json").records
        pictures = make_dataset(
            records,
            records[:1],
            preprocess=PRESETS[PRESET].input,
            augmentation=Augment(),
            seed=0,
            cache_mb=0,
            workers=1,
        )
        loader = Loader(pictures, batch_size=BATCH, workers=1)
        seconds, waited = measure(loader, steps=steps)
    median = {name: float(np.median(values)) / BATCH * 1e3 for name, values in seconds.items()}
    plain = (DETACH * median["plain, branch on"] + (EPOCHS - DETACH) * median["plain, branch detached"]) / EPOCHS
    ours = (DETACH * median["falconet, branch on"] + (EPOCHS - DETACH) * median["falconet, branch dropped"]) / EPOCHS
    table: list[dict[str, object]] = [
        {"step": name, "ms per image": f"{value:.1f}", "x plain": f"{value / plain:.3f}"}
        for name, value in median.items()
    ]
    table.append({"step": f"plain, mean of {EPOCHS} epochs", "ms per image": f"{plain:.1f}", "x plain": "1.000"})
    table.append(
        {"step": f"falconet, mean of {EPOCHS} epochs", "ms per image": f"{ours:.1f}", "x plain": f"{ours / plain:.3f}"}
    )
    write(
        "training",
        f"Training {PRESET}",
        "python benchmarks/training.py",
        table,
        f"Batch {BATCH}, {torch.get_num_threads()} torch threads and one loader worker, medians of {steps} steps from "
        f"the request for a batch to the averaged weights; waiting for data took {waited:.1%} of falconet's time. The "
        f"means are of a run of {EPOCHS} epochs whose branch is detached or dropped after {DETACH}.",
    )


def measure(loader: Loader, *, steps: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of each kind of step, and the share of Falconet's that went into waiting for data."""
    trainers = {
        "plain, branch on": Trainer(fast=False, auxiliary="keep", epoch=0),
        "plain, branch detached": Trainer(fast=False, auxiliary="keep", epoch=DETACH),
        "falconet, branch on": Trainer(fast=True, auxiliary="drop", epoch=0),
        "falconet, branch dropped": Trainer(fast=True, auxiliary="drop", epoch=DETACH),
    }
    batches = endless(loader)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    waited = total = 0.0
    rounds, warm_up = 3, 2
    # Several steps of one kind in a row, so that the loader's lead is the one of that kind.
    for _ in range(rounds):
        for name, trainer in trainers.items():
            for index in range(warm_up + steps // rounds):
                start, before = time.perf_counter(), loader.waited
                trainer.step(next(batches))
                if index >= warm_up:
                    seconds[name].append(time.perf_counter() - start)
                    if name == "falconet, branch dropped":
                        waited += loader.waited - before
                        total += seconds[name][-1]
    return seconds, waited / total


if __name__ == "__main__":
    main()
