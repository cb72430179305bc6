"""What a model learns from. A criterion is a module because some own weights that only training needs.

`criterion(outputs, targets, progress)` returns named, weighted terms; their sum is the loss. What it changes in the
course of a run it decides by itself from the `Progress`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Union

from pydantic import Field
from torch import nn

from falconet.core.config import Config
from falconet.models import ModelConfig, Network
from falconet.training.criteria import classifier, nanodet, nanodet_plus, ppyoloe, yolov3


class CriterionRow(NamedTuple):
    """One criterion: its settings in a run file, and what builds it."""

    config: type[Config]
    build: Callable[..., nn.Module]
    """(settings, model's config, network, num_classes=C) -> criterion."""
    unguided: Mapping[str, tuple[Any, Any]] = MappingProxyType({})
    """Of a trained network beside an auxiliary branch that is not: {setting: (what leaves it open, its value then)}."""
    alone: Mapping[str, Any] = MappingProxyType({})
    """Settings with which it has no weights of its own, so that it serves networks of any width."""
    folds: bool = False
    """Whether `train.norms=auto` folds the norms of a trained network: where that was measured to pay."""


CRITERIA: Mapping[str, CriterionRow] = {
    "nanodet-plus": CriterionRow(
        nanodet_plus.NanoDetPlusCriterionConfig,
        nanodet_plus.build,
        nanodet_plus.UNGUIDED,
        nanodet_plus.ALONE,
        folds=True,
    ),
    "nanodet": CriterionRow(nanodet.NanoDetCriterionConfig, nanodet.build, folds=True),
    "yolov3": CriterionRow(yolov3.YOLOv3CriterionConfig, yolov3.build),
    "ppyoloe": CriterionRow(ppyoloe.PPYOLOECriterionConfig, ppyoloe.build, alone=ppyoloe.ALONE),
    "classifier": CriterionRow(classifier.ClassifierCriterionConfig, classifier.build),
}
"""By the name of the model."""

CriterionConfig = Annotated[Union[*(row.config for row in CRITERIA.values())], Field(discriminator="name")]
"""What `criterion:` in a run file may hold."""


def build_criterion(settings: Any, model: ModelConfig, network: Network, *, num_classes: int) -> nn.Module:
    """The criterion for a network.

    Args:
        settings: a `CriterionConfig` of the model's name.
        model: what `network` was built from.
        network: with the weights training starts from.
        num_classes: C.
    """
    return CRITERIA[model.name].build(settings, model, network, num_classes=num_classes)
