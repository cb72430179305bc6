"""Measure how long an epoch will take, on networks that are thrown away."""

import time

import torch
from torch import nn

from falconet.core.manifest import Preprocess
from falconet.models import Network
from falconet.models.deployable import Normalize
from falconet.train.loader import Loader
from falconet.train.module import learn
from falconet.train.optim import WeightAverage, build_optimizer
from falconet.train.plan import Pace
from falconet.train.tasks import Task

WARM_UP, TIMED = 3, 8
"""Steps before the clock starts (memory, kernels, the loader's queue) and steps that count."""

LATE = 1 << 30
"""An epoch after every change of the criterion."""


def measure_pace(
    networks: nn.ModuleDict, loader: Loader, preprocess: Preprocess, *, task: Task, half: bool, drops_auxiliary: bool
) -> Pace:
    """Seconds of an epoch and of a validation, from a few steps of the real thing.

    Args:
        networks: "network" and "criterion", built for this; they do not come out as they went in.
        loader: of the run.
        task: of the run.
        half: convolutions run in bfloat16.
        drops_auxiliary: later epochs run without the auxiliary branch.
    """
    guided = _seconds_per_step(networks, loader, preprocess, epoch=0, half=half) * loader.steps
    alone = guided
    if drops_auxiliary:
        alone = _seconds_per_step(networks, loader, preprocess, epoch=LATE, half=half) * loader.steps
    network = networks["network"]
    assert isinstance(network, Network)
    return Pace(guided=guided, alone=alone, validation=_seconds_of_validation(network, loader, preprocess, task))


def _seconds_per_step(
    networks: nn.ModuleDict, loader: Loader, preprocess: Preprocess, *, epoch: int, half: bool
) -> float:
    device = next(networks.parameters()).device
    normalize = Normalize(preprocess).to(device)
    optimizer = build_optimizer(networks, weight_decay=0.0)
    average = WeightAverage(networks, decay=0.5)
    started, pixels = 0.0, 0
    for number, batch in enumerate(loader.first(WARM_UP + TIMED)):
        if number == WARM_UP:
            started, pixels = time.perf_counter(), 0
        pixels += batch.pixels[0, :, :, 0].numel()
        targets = type(batch.targets)(*(part.to(device) for part in batch.targets))
        batch = batch._replace(pixels=batch.pixels.to(device), targets=targets)
        loss = torch.stack(list(learn(networks, normalize, batch, epoch=epoch, half=half).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(networks, step=number, total_steps=TIMED)
        loss.item()
    # Batches of several sizes: these few may be smaller or larger than the average.
    return (time.perf_counter() - started) / pixels * loader.mean_pixels


def _seconds_of_validation(network: Network, loader: Loader, preprocess: Preprocess, task: Task) -> float:
    device = next(network.parameters()).device
    deployable = task.deployable(network, preprocess).to(device)
    started = time.perf_counter()
    pictures = 0
    batches = loader.validation(batch_size=loader.batch_size)
    for number, batch in enumerate(batches):
        if number == 1:
            started = time.perf_counter()
        if number >= 1:
            pictures += len(batch.indices)
        task.answer(deployable, [batch], device=device)
        if number == 4:
            break
    if not pictures:
        pictures = len(loader.pictures.val)
    seconds = (time.perf_counter() - started) / max(1, pictures) * len(loader.pictures.val)
    network.train()
    return seconds
