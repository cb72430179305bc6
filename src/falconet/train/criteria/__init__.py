"""What a model learns from. A criterion is a module because some own weights that only training needs.

`criterion(trace, targets, epoch)` returns named, weighted terms; their sum is the loss.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.models import Classifier, Network
from falconet.train.criteria import nanodet, nanodet_plus, ppyoloe, yolov3
from falconet.train.criteria.classifier import ClassifierCriterion
from falconet.train.criteria.phases import Phases

CRITERIA: dict[str, Callable[..., nn.Module]] = {
    "nanodet-plus": nanodet_plus.build,
    "nanodet": nanodet.build,
    "yolov3": yolov3.build,
    "ppyoloe": ppyoloe.build,
}
"""The builder of each detector's criterion, by the name of its config: it is called with the config, the detector,
`num_classes` and `phases`."""


def build_criterion(
    config: Config,
    network: Network,
    *,
    num_classes: int,
    auxiliary: Literal["drop", "keep"],
    detach_epoch: int,
    static_epochs: int = 0,
    label_smoothing: float = 0.0,
) -> nn.Module:
    """The criterion for a network that `config` describes.

    Args:
        config: of the model; its `name` chooses the criterion.
        network: built from it, with the weights training starts from.
        num_classes: C.
        auxiliary, detach_epoch, static_epochs: when the criterion changes; see `Phases`.
        label_smoothing: share of the truth that a classifier spreads over all classes.

    Raises:
        ConfigError: there is no criterion for this model.
    """
    if isinstance(network, Classifier):
        return ClassifierCriterion(label_smoothing=label_smoothing)
    name: Any = getattr(config, "name", None)
    if name not in CRITERIA:
        raise ConfigError(f"model {name!r} cannot be trained; expected one of: {', '.join(CRITERIA)}")
    phases = Phases(auxiliary, detach_epoch, static_epochs)
    return CRITERIA[name](config, network, num_classes=num_classes, phases=phases)
