"""A criterion by its settings, and where in a run it is asked."""

from typing import Any

from torch import nn

from falconet.models import ModelConfig, Network
from falconet.training.criteria import CRITERIA, build_criterion
from falconet.training.progress import Progress


def make_criterion(model: ModelConfig, network: Network, *, num_classes: int, **settings: Any) -> nn.Module:
    """The criterion of `model` with some of its settings changed."""
    return build_criterion(CRITERIA[model.name].config(**settings), model, network, num_classes=num_classes)


def at(epoch: int, epochs: int = 100) -> Progress:
    """The start of an epoch, counted from 0."""
    return Progress(epoch, epochs, epoch / epochs)
