"""What a model learns from. A criterion is a module because some own weights that only training needs.

`criterion(trace, targets, epoch)` returns named, weighted terms; their sum is the loss.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.models.detector import Detector
from falconet.train.criteria import nanodet, nanodet_plus

CRITERIA: dict[str, Callable[..., nn.Module]] = {
    "nanodet-plus": nanodet_plus.build,
    "nanodet": nanodet.build,
}
"""The criterion of each architecture, by the name of its config."""


def build_criterion(
    config: Config, detector: Detector, *, num_classes: int, auxiliary: Literal["drop", "keep"], detach_epoch: int
) -> nn.Module:
    """The criterion for a detector that `config` describes.

    Args:
        config: of the model; its `name` chooses the criterion.
        detector: built from it, with the weights training starts from.
        num_classes: C.
        auxiliary: what becomes of an auxiliary branch at `detach_epoch`: "keep" goes on with it as the original
            does, cut off from the network's gradients; "drop" stops running it.
        detach_epoch: the first epoch, counted from 0, without the auxiliary branch's gradients.

    Raises:
        ConfigError: there is no criterion for this model.
    """
    name: Any = getattr(config, "name", None)
    if name not in CRITERIA:
        raise ConfigError(f"model {name!r} cannot be trained; expected one of: {', '.join(CRITERIA)}")
    return CRITERIA[name](config, detector, num_classes=num_classes, auxiliary=auxiliary, detach_epoch=detach_epoch)
