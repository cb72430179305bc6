"""A weights file as an engine: torch does what an exported file does, on equal pixels."""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import falconet
from falconet.core.errors import ConfigError
from falconet.core.manifest import Manifest
from falconet.core.run_files import find_weights
from falconet.core.types import Pixels
from falconet.eval.latency import measure
from falconet.exporting.layers import Layers
from falconet.models import Classifier, ClassifierConfig, Network
from falconet.models.deployable import Deployable, DeployableClassifier, fold_input
from falconet.models.reparam import fuse
from falconet.models.weights import ModelCard, load_weights
from falconet.runtime.engines import named
from falconet.runtime.tasks import TASKS, Outputs

_log = logging.getLogger(__name__)

ALL_POINTS = sys.maxsize
"""`max_points` that decodes every point of the network."""


def manifest_of(card: ModelCard) -> Manifest:
    """What an exported file says about itself, from the description in its weights file."""
    return Manifest(
        task="classify" if isinstance(card.model, ClassifierConfig) else "detect",
        model=card.model.name,
        classes=card.classes,
        preprocess=card.model.input,
        selection=card.selection,
        falconet_version=falconet.__version__,
        source=card.source,
        licence=card.licence,
        calibration=card.calibration,
        calibrated_score_threshold=card.calibrated_score_threshold,
        operating_points=card.operating_points,
        calibration_target=card.calibration_target,
    )


def load_at(path: Path, size: tuple[int, int] | None, *, score: float | None = None) -> tuple[Network, ModelCard]:
    """The network of a weights file or a run folder, and what is known of it.

    Args:
        path: weights file, or run folder (its best weights).
        size: (height, width) of the input instead of the one that it was trained at.
        score: threshold of a detector instead of its own.

    Raises:
        ModelError: no weights there, or a file that is not Falconet's.
        ConfigError: a threshold of a classifier.
    """
    network, card = load_weights(find_weights(path))
    if size is not None:
        if card.calibration and size != (card.model.input.height, card.model.input.width):
            _log.warning(
                "%s: its scores were calibrated at another size of the input; calibrate the exported file again", path
            )
        rule = replace(card.model.input, height=size[0], width=size[1])
        card = card.model_copy(update={"model": card.model.model_copy(update={"input": rule})})
    if score is not None:
        if isinstance(card.model, ClassifierConfig):
            raise ConfigError(f"--score: {path} is a classifier, which has no threshold; leave it out")
        told = {"calibrated_score_threshold": score}
        own = {"selection": replace(card.selection, score_threshold=score)}
        card = card.model_copy(update=told if card.calibration else own)
    return network, card


def deployable(network: Network, card: ModelCard, *, max_points: int) -> Deployable | DeployableClassifier:
    """The fused network with everything around it, pixels to boxes or to probabilities, in eval mode.

    Args:
        max_points: decoded per image, see `Deployable`.
    """
    if isinstance(network, Classifier):
        return fold_input(DeployableClassifier(fuse(network), card.model.input)).eval()
    return fold_input(Deployable(fuse(network), card.model.input, max_points=max_points)).eval()


def shipped(
    weights: Path,
    *,
    size: tuple[int, int] | None = None,
    score: float | None = None,
    max_points: int | None = None,
    layers: bool = False,
) -> tuple[Deployable | DeployableClassifier | Layers, Manifest]:
    """What an exported file computes and what it says about itself, for a converter.

    Args:
        weights: weights file, or run folder (its best weights).
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.
        max_points: decoded per image of a detector; None: as many as enter NMS, see `points_to_decode`.
        layers: two numbers of each layer instead of the network's answer, see `Layers`.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there, or a file that is not Falconet's.
    """
    network, card = load_at(weights, size, score=score)
    manifest = manifest_of(card)
    module = deployable(network, card, max_points=points_to_decode(manifest) if max_points is None else max_points)
    if not layers:
        return module, manifest
    looked_at = Layers(module, (manifest.preprocess.height, manifest.preprocess.width)).eval()
    return looked_at, replace(manifest, task="classify", classes=looked_at.names)


class Plain(nn.Module):
    """A deployable network whose outputs are a plain tuple, for exporters that know no named one."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found: Any = self.whole(pixels)
        return tuple(found) if isinstance(found, tuple) else (found,)


class TorchEngine:
    """Runs a weights file with torch, in float32 on the CPU.

    Args:
        path: weights file, or run folder (its best weights).
        max_points: decoded per image of a detector; None takes as many as an exported file does.
        size: see `load_at`.
        layers: see `shipped`.

    Attributes:
        manifest: as in an exported file.
        path: the weights file.

    Raises:
        ModelError: no weights there, or a file that is not Falconet's.
    """

    name = "torch"
    version = str(torch.__version__)

    def __init__(
        self,
        path: str | Path,
        *,
        max_points: int | None = None,
        size: tuple[int, int] | None = None,
        layers: bool = False,
    ) -> None:
        self.path = find_weights(Path(path))
        self._module, self.manifest = shipped(self.path, size=size, max_points=max_points, layers=layers)
        self._outputs = tuple(TASKS[self.manifest.task].outputs(self.manifest))

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `falconet.runtime.engines.Engine`."""
        with torch.inference_mode():
            found = self._module(torch.from_numpy(np.ascontiguousarray(pixels)))
        return named(self._outputs, [one.numpy() for one in (found if isinstance(found, tuple) else (found,))])


def points_to_decode(manifest: Manifest) -> int:
    """As many points as (box, class) pairs may enter NMS, so that none is lost; 1,000 at least."""
    return max(1000, manifest.selection.max_candidates)


def milliseconds_of_both(
    one: Callable[[], object], other: Callable[[], object], *, threads: int, at_most: float = 5.0
) -> tuple[float, float]:
    """Medians of a call of torch, with `threads` threads, and of one of another engine.

    Args:
        at_most: seconds for each, on a machine that is busy with something else.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first = measure(one, warm_up=3, calls=15, at_most=at_most).p50
    finally:
        torch.set_num_threads(before)
    return first, measure(other, warm_up=3, calls=15, at_most=at_most).p50
