"""The weights that a run starts from."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.core.run_files import find_weights
from falconet.core.suggest import listed
from falconet.models import Classifier, ClassifierConfig, Detector, ModelConfig, Network, build
from falconet.models.channels import narrow
from falconet.models.class_rows import same_classes, take_class_rows
from falconet.models.deployable import Normalize
from falconet.models.norms import measure_norms, unmeasured
from falconet.models.pretrained import other_options, take_backbone
from falconet.models.related import differences, relation
from falconet.models.weights import ModelCard, load_extra, load_weights, transfer
from falconet.training.criteria import CRITERIA, build_criterion
from falconet.training.loader import Loader
from falconet.training.loggers import IN_FILE
from falconet.training.plan import NEW_CLASSES_RATE, PRUNED_RATE, SCRATCH_RATE, TUNING_RATE
from falconet.training.run_config import RunConfig, Train
from falconet.training.slices import PLACES, Slices, make_slices

_log = logging.getLogger(__name__)

SHOWN = 20
"""Names in a message before it says "and so many more"."""

BACKBONE_SHARE = 0.1
"""Of the learning rate, for a backbone that is trained beside parts that are not."""

FROZEN_SHARE, KNOWN_SHARE = 0.7, 0.5
"""A backbone keeps its weights in the first share of a run, whose steps then take less time, where the weights know
the other share of the classes by name: what shows these objects it has learnt before."""

MEASURED = 256
"""Images that batch norms of imported weights are measured on."""


SEEN = 64
"""Images that say which channels of a network matter to its slices."""


class Told(NamedTuple):
    """A line for the terminal, and what train.log says more."""

    short: str
    more: str = ""


class StartingPoint:
    """Trained weights that a run starts from, read once.

    Args:
        model: what is trained.
        weights: a weights file or a run's folder; None for a start from scratch.

    Attributes:
        path: the weights file; None for a start from scratch.
        tunes: whether the whole network starts from trained weights.
        trains_backbone: whether its backbone alone does.
        classes: that the weights know; none for a start from scratch.
    """

    def __init__(self, model: ModelConfig, weights: Path | None) -> None:
        self.path: Path | None = None if weights is None else find_weights(weights)
        self._trained: tuple[Network, ModelCard] | None = None if self.path is None else load_weights(self.path)
        card = None if self._trained is None else self._trained[1]
        same_task = card is not None and isinstance(card.model, ClassifierConfig) == isinstance(model, ClassifierConfig)
        self.tunes = same_task and card is not None and card.trained == "all"
        self.trains_backbone = card is not None and not self.tunes
        self.classes = () if card is None else card.classes
        if self.tunes and card is not None and relation(model, card.model) == "backbone":
            self.tunes, self.trains_backbone = False, True

    def settle(self, run: RunConfig, names: tuple[str, ...]) -> RunConfig:
        """`run` with a value for each setting that was left to what the weights are.

        Args:
            run: as it was asked for.
            names: of the data's classes.
        """
        train, criterion = run.train, run.criterion
        if run.slices:
            criterion = None if criterion is None else criterion.model_copy(update=dict(CRITERIA[criterion.name].alone))
            if train.freeze == "auto":  # slices of a trained backbone have lost channels: they have to learn
                train = train.model_copy(update={"freeze": "none"})
        train = self._settle(train, run.model, names)
        branch = CRITERIA[run.model.name].unguided
        if self.tunes and self.path is not None and branch and (self.is_wider(run.model) or not _branch(self.path)):
            settled = {
                key: value for key, (open_value, value) in branch.items() if getattr(criterion, key) == open_value
            }
            if criterion is not None and settled:
                _log.debug(
                    "auxiliary branch: left out, since these weights have none of it and an untrained one misleads"
                )
                criterion = criterion.model_copy(update=settled)
        return run.model_copy(update={"train": train, "criterion": criterion})

    def _settle(self, train: Train, model: ModelConfig, names: tuple[str, ...]) -> Train:
        folds = self.tunes and CRITERIA[model.name].folds and not self.is_wider(model)
        if train.backbone_rate == "auto":
            share = BACKBONE_SHARE if self.trains_backbone and not isinstance(model, ClassifierConfig) else 1.0
            train = train.model_copy(update={"backbone_rate": share})
        if train.norms == "auto":
            train = train.model_copy(update={"norms": "folded" if folds else "batch"})
        share = train.freeze_share
        if train.freeze == "auto":
            first = folds and train.norms == "folded" and train.round_to == "none" and self.knows(names)
            train = train.model_copy(update={"freeze": "backbone" if first else "none"})
            share = FROZEN_SHARE if first and share == "auto" else share
        return train.model_copy(update={"freeze_share": 1.0 if share == "auto" else share})

    def is_wider(self, model: ModelConfig) -> bool:
        """Whether the weights are of a network of the same layers as `model` with more channels."""
        return self._trained is not None and relation(model, self._trained[1].model) == "wider"

    def knows(self, names: Sequence[str]) -> bool:
        """Whether the weights know enough of these classes by name: what shows such objects they have learnt before."""
        known = sum(place is not None for place in same_classes(names, self.classes))
        return known >= KNOWN_SHARE * len(names)

    def rate(self, model: ModelConfig, names: Sequence[str], *, slices: Sequence[ModelConfig] = ()) -> float:
        """The learning rate of a run that starts from here, at a batch of 16, where none is given."""
        if not self.tunes:
            return SCRATCH_RATE
        if slices or self.is_wider(model):
            return PRUNED_RATE
        # Measured with the NanoDets alone, which fold their norms.
        return NEW_CLASSES_RATE if CRITERIA[model.name].folds and not self.knows(names) else TUNING_RATE

    def give(self, run: RunConfig, names: tuple[str, ...], network: Network, images: Iterable[Tensor]) -> list[Told]:
        """Give a fresh network these weights, and say which these are: lines for the terminal and for the file.

        Where the weights know other classes than `names`, class outputs are taken over by name. Those of new classes
        start from the mean of all trained ones in a detector, which then finds objects, if not yet which; in a
        classifier they start anew. All else is taken over.

        Raises:
            ModelError: weights of another architecture, or of a narrower network.
        """
        if self._trained is None:
            return [Told("weights: from scratch")]
        source, card = self._trained
        report = []
        if self.tunes and relation(run.model, card.model) == "none":
            raise ModelError(
                f"{self.path}: these are the weights of another network: {differences(run.model, card.model)}; "
                "expected weights of this one, of a wider one of the same layers, or of one with the same backbone"
            )
        if self.is_wider(run.model):
            wide, source = source, build(run.model, len(card.classes))
            report.append(Told(f"pruned: {narrow(source, wide, images)}"))
        if self.trains_backbone and isinstance(network, Detector):
            options, inputs = (run.model.backbone, card.model.backbone), (run.model.input, card.model.input)
            notes = take_backbone(network, source, options=options, inputs=inputs, origin=str(self.path))
            return [*report, Told(f"weights: {self.path} ({card.source or 'of its backbone'})"), *map(Told, notes)]
        fresh = {name: network.state_dict()[name].clone() for name in network.class_outputs()}
        moved = transfer(network, source.state_dict())
        report = [Told(f"weights: {self.path}", f": {moved}"), *report]
        if isinstance(network, Classifier):
            report += map(Told, other_options(run.model.backbone, card.model.backbone))
        places = same_classes(names, card.classes)
        if places == list(range(len(card.classes))):
            return report
        with torch.no_grad():
            for name, rows in network.class_outputs().items():
                target, trained = network.state_dict()[name], source.state_dict().get(name)
                target[rows] = fresh[name][rows]
                if trained is not None and trained.shape[1:] == target.shape[1:]:
                    mean = isinstance(network, Detector)
                    take_class_rows(target, trained, rows, places=places, count=len(card.classes), mean=mean)
        start = "from the mean of all" if isinstance(network, Detector) else "anew"
        return [*report, *_class_report(names, card.classes, places, start)]


def _class_report(names: Sequence[str], known: Sequence[str], places: Sequence[int | None], start: str) -> list[Told]:
    """Which class outputs were taken over, and which are new."""
    taken = [
        name if known[place] == name else f"{name} (there {known[place]})"
        for name, place in zip(names, places, strict=True)
        if place is not None
    ]
    anew = [name for name, place in zip(names, places, strict=True) if place is None]
    lines = [Told(f"class outputs taken over by name: {listed(taken, SHOWN)}")] if taken else []
    if anew:
        more = f" (class outputs start {start}; the weights know {listed(known, SHOWN)})"
        lines.append(Told(f"classes new to these weights: {listed(anew, SHOWN)}", more))
    return lines


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
    said = start.give(run, names, network, first_images(run.model.input, loader, MEASURED))
    for line in said if speak else ():
        _log.info("%s", line.short, extra={IN_FILE: line.short + line.more})
    criterion = build_criterion(run.criterion, run.model, network, num_classes=len(names))
    if speak and criterion.extra_repr():
        _log.debug("criterion: %s", criterion.extra_repr())
    if start.path is not None:
        _take_auxiliary(start, names, criterion, speak=speak)
        if run.train.norms == "batch":
            known = network.backbone if start.trains_backbone else network
            _measure_norms(known, run.model.input, loader, speak=speak)
    return nn.ModuleDict({"network": network, "criterion": criterion}).train()


def build_slices(
    run: RunConfig, names: tuple[str, ...], network: Network, start: StartingPoint, loader: Loader
) -> Slices:
    """The narrower networks of a run, within the network that `build_networks` made.

    Args:
        names, start, loader: as of `build_networks`. From scratch, all channels are worth the same.
    """
    trained = start.path is not None
    return make_slices(
        run.slices,
        run.model,
        network,
        classes=len(names),
        images=first_images(run.model.input, loader, SEEN) if trained else (),
        known={} if start.path is None else load_extra(start.path),
    )


def _take_auxiliary(start: StartingPoint, names: tuple[str, ...], criterion: nn.Module, *, speak: bool) -> None:
    """Give the criterion's own weights what is there of them; class outputs by the names of the classes."""
    assert start.path is not None
    extra, own = _branch(start.path), criterion.state_dict()
    known = start.classes
    places = same_classes(names, known)
    fitting = {name: value for name, value in extra.items() if name in own and value.shape == own[name].shape}
    if places != list(range(len(known))):
        for name in (name for name in own if ".class_output." in name and name in extra):
            fitting[name] = own[name].clone()
            if extra[name].shape[1:] == own[name].shape[1:]:
                take_class_rows(
                    fitting[name], extra[name], slice(0, len(names)), places=places, count=len(known), mean=True
                )
    criterion.load_state_dict(fitting, strict=False)
    if speak and any(name in own for name in extra):
        _log.debug("auxiliary branch: %d of %d tensors from there", len(fitting), len(own))


def _branch(weights: Path) -> dict[str, Tensor]:
    """What a weights file has for a criterion: all that only training needs but where slices lie."""
    return {name: value for name, value in load_extra(weights).items() if not name.startswith(PLACES)}


def _measure_norms(network: nn.Module, preprocess: Preprocess, loader: Loader, *, speak: bool) -> None:
    if not unmeasured(network):
        return
    count = measure_norms(network, first_images(preprocess, loader, MEASURED))
    if speak:
        _log.debug("batch norms were folded away in these weights; measured anew on %d training images", count)


def first_images(preprocess: Preprocess, loader: Loader, count: int) -> Iterator[Tensor]:
    """About so many training images as the network sees them, in batches; the same each time."""
    normalize = Normalize(preprocess)
    for batch in loader.first(max(1, count // loader.batch_size)):
        yield normalize(batch.pixels)
