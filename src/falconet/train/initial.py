"""The weights that a run starts from."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from falconet.core.manifest import Preprocess
from falconet.core.run_files import find_weights
from falconet.core.suggest import spelling
from falconet.models import Classifier, ClassifierConfig, Detector, ModelConfig, Network, build
from falconet.models.deployable import Normalize
from falconet.models.norms import measure_norms, unmeasured
from falconet.models.pretrained import other_options, take_backbone
from falconet.models.weights import ModelCard, load_extra, load_weights, transfer
from falconet.train.criteria import build_criterion
from falconet.train.loader import Loader
from falconet.train.run_config import RunConfig

_log = logging.getLogger(__name__)

MEASURED = 256
"""Images that batch norms of imported weights are measured on."""


class StartingPoint:
    """Trained weights that a run starts from, read once.

    Args:
        model: what is trained.
        weights: a weights file or a run's folder; None for a start from scratch.

    Attributes:
        path: the weights file; None for a start from scratch.
        tunes: whether the whole network starts from trained weights, and not only a detector's backbone.
    """

    def __init__(self, model: ModelConfig, weights: Path | None) -> None:
        self.path: Path | None = None if weights is None else find_weights(weights)
        self._trained: tuple[Network, ModelCard] | None = None if self.path is None else load_weights(self.path)
        self.tunes = self._trained is not None and (
            isinstance(self._trained[1].model, ClassifierConfig) == isinstance(model, ClassifierConfig)
        )

    def give(self, run: RunConfig, names: tuple[str, ...], network: Network) -> str:
        """Give a fresh network these weights, and say which these are.

        Where the weights know other classes than `names` (blanks and underscores are the same), the class outputs start
        anew; all else is taken over.

        Raises:
            ModelError: weights of another architecture.
        """
        if self._trained is None:
            return "weights: from scratch"
        source, card = self._trained
        if isinstance(source, Classifier) and isinstance(network, Detector):
            options, inputs = (run.model.backbone, card.model.backbone), (run.model.input, card.model.input)
            notes = take_backbone(network, source, options=options, inputs=inputs, origin=str(self.path))
            return "\n".join([f"weights: {self.path} ({card.source or 'a classifier'})", *notes])
        fresh = {name: network.state_dict()[name].clone() for name in network.class_outputs()}
        report = f"weights: {self.path}: {transfer(network, source.state_dict())}"
        if isinstance(network, Classifier):
            report = "\n".join([report, *other_options(run.model.backbone, card.model.backbone)])
        if tuple(map(spelling, card.classes)) == tuple(map(spelling, names)):
            return report
        with torch.no_grad():
            for name, rows in network.class_outputs().items():
                network.state_dict()[name][rows] = fresh[name][rows]
        return (
            f"{report}\nclass outputs start anew: {', '.join(names)} instead of {', '.join(card.classes[:20])}"
            f"{' ...' if len(card.classes) > 20 else ''}"
        )


def build_networks(
    run: RunConfig, names: tuple[str, ...], start: StartingPoint, loader: Loader, *, speak: bool
) -> nn.ModuleDict:
    """ "network" and "criterion" with the weights a run starts from, on the CPU; the same each time.

    Args:
        names: class names.
        start: trained weights, if any.
        loader: of the run; batch norms that were folded away are measured on its first images.
        speak: log what was taken over.
    """
    torch.manual_seed(run.seed)
    network = build(run.model, len(names))
    said = start.give(run, names, network)
    if speak:
        _log.info("%s", said)
    criterion = build_criterion(run.criterion, run.model, network, num_classes=len(names))
    if speak and criterion.extra_repr():
        _log.info("criterion: %s", criterion.extra_repr())
    if start.path is not None:
        _take_auxiliary(load_extra(start.path), criterion, speak=speak)
        _measure_norms(network, run.model.input, loader, speak=speak)
    return nn.ModuleDict({"network": network, "criterion": criterion}).train()


def _take_auxiliary(extra: dict[str, Tensor], criterion: nn.Module, *, speak: bool) -> None:
    """Give the criterion's own weights what is there of them."""
    own = criterion.state_dict()
    fitting = {name: value for name, value in extra.items() if name in own and value.shape == own[name].shape}
    criterion.load_state_dict(fitting, strict=False)
    if speak and any(name in own for name in extra):
        _log.info("auxiliary branch: %d of %d tensors from there", len(fitting), len(own))


def _measure_norms(network: Network, preprocess: Preprocess, loader: Loader, *, speak: bool) -> None:
    if not unmeasured(network):
        return
    normalize = Normalize(preprocess)
    batches = (normalize(batch.pixels) for batch in loader.first(max(1, MEASURED // loader.batch_size)))
    count = measure_norms(network, batches)
    if speak:
        _log.info("batch norms were folded away in these weights; measured anew on %d training images", count)
