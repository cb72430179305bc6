"""What differs between training a detector and a classifier; everything else is the same loop."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from falconet.core.manifest import Preprocess
from falconet.core.types import Record
from falconet.models import ClassifierConfig, ModelConfig, Network
from falconet.models.classifier import Classifier
from falconet.models.deployable import Deployable, DeployableClassifier
from falconet.models.detector import Detector
from falconet.train import validation
from falconet.train.batch import Batch


class Task(Protocol):
    """What a run needs to know of its task.

    Attributes:
        whole_pictures: a label stands for a whole picture, not for a box in it.
        headline: two figures of a validation, by name; the first one decides which weights are the best.
    """

    whole_pictures: bool
    headline: tuple[str, str]

    def deployable(self, network: Network, preprocess: Preprocess) -> nn.Module:
        """Everything from pixels to answers, in evaluation mode; `network` is part of it."""
        ...

    def answer(self, deployable: nn.Module, batches: Iterable[Batch], *, device: torch.device) -> object:
        """Run a validation's batches; what comes out is only good for `measure`."""
        ...

    def measure(
        self,
        deployable: nn.Module,
        batches: Iterable[Batch],
        *,
        names: Sequence[str],
        records: Sequence[Record],
        device: torch.device,
    ) -> tuple[dict[str, Any], list[str]]:
        """Figures over the pictures of all processes, as in metrics.jsonl, and why some of this one's are left out."""
        ...


class Detection:
    """Boxes in pictures; COCO's average precision."""

    whole_pictures = False
    headline = ("AP", "AP50")

    def deployable(self, network: Network, preprocess: Preprocess) -> nn.Module:
        assert isinstance(network, Detector)
        return Deployable(network, preprocess).eval()

    def answer(self, deployable: nn.Module, batches: Iterable[Batch], *, device: torch.device) -> object:
        assert isinstance(deployable, Deployable)
        return validation.detect(deployable, batches, device=device)

    def measure(
        self,
        deployable: nn.Module,
        batches: Iterable[Batch],
        *,
        names: Sequence[str],
        records: Sequence[Record],
        device: torch.device,
    ) -> tuple[dict[str, Any], list[str]]:
        assert isinstance(deployable, Deployable)
        metrics, problems = validation.measure(
            deployable.detector, batches, deployable=deployable, names=names, records=records, device=device
        )
        return {**metrics.as_dict(), "per_class": dict(metrics.per_class)}, problems


class Classification:
    """Classes of pictures; how often the true one is the best or among the best five."""

    whole_pictures = True
    headline = ("top1", "top5")

    def deployable(self, network: Network, preprocess: Preprocess) -> nn.Module:
        assert isinstance(network, Classifier)
        return DeployableClassifier(network, preprocess).eval()

    def answer(self, deployable: nn.Module, batches: Iterable[Batch], *, device: torch.device) -> object:
        return validation.classify(deployable, batches, device=device)

    def measure(
        self,
        deployable: nn.Module,
        batches: Iterable[Batch],
        *,
        names: Sequence[str],
        records: Sequence[Record],
        device: torch.device,
    ) -> tuple[dict[str, Any], list[str]]:
        accuracy, problems = validation.measure_classes(
            deployable, batches, names=names, records=records, device=device
        )
        return {**accuracy.as_dict(), "per_class": accuracy.per_class}, problems


def task_of(config: ModelConfig) -> Task:
    """The task of the network that `config` describes."""
    return Classification() if isinstance(config, ClassifierConfig) else Detection()
