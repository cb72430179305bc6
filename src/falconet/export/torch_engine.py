"""A weights file as an engine: torch does what an exported file does, on equal pixels."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import falconet
from falconet.core.errors import ModelError
from falconet.core.manifest import Manifest
from falconet.core.types import Floats, Pixels
from falconet.eval.latency import measure
from falconet.models import Classifier, ClassifierConfig, Network
from falconet.models.deployable import Deployable, DeployableClassifier, fold_input
from falconet.models.reparam import fuse
from falconet.models.weights import Card, find_weights, load_weights

ALL_POINTS = sys.maxsize
"""`max_points` that decodes every point of the network."""


def manifest_of(card: Card) -> Manifest:
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
    )


def deployable(network: Network, card: Card, *, max_points: int) -> Deployable | DeployableClassifier:
    """The fused network with everything around it, pixels to boxes or to probabilities, in eval mode.

    Args:
        max_points: decoded per picture, see `Deployable`.
    """
    if isinstance(network, Classifier):
        return fold_input(DeployableClassifier(fuse(network), card.model.input)).eval()
    return fold_input(Deployable(fuse(network), card.model.input, max_points=max_points)).eval()


class TorchEngine:
    """Runs a weights file with torch, in float32 on the CPU.

    Args:
        path: weights file, or run folder (its best weights).
        max_points: decoded per picture; None takes as many as an exported file does.

    Attributes:
        manifest: as in an exported file.
        path: the weights file.

    Raises:
        ModelError: no weights there, or a file that is not Falconet's.
    """

    def __init__(self, path: str | Path, *, max_points: int | None = None) -> None:
        self.path = find_weights(Path(path))
        detector, card = load_weights(self.path)
        if isinstance(detector, Classifier):
            raise ModelError(
                f"{self.path}: is a classifier, not a detector; run it with 'falconet predict --task classify'"
            )
        self.manifest = manifest_of(card)
        points = points_to_decode(self.manifest) if max_points is None else max_points
        self._module = deployable(detector, card, max_points=points)

    def __call__(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """Boxes [B, N, 4] xyxy in input pixels, clipped to the input, and scores [B, N, C] of pixels [B, H, W, 3]."""
        with torch.inference_mode():
            boxes, scores = self._module(torch.from_numpy(np.ascontiguousarray(pixels)))
        return boxes.numpy(), scores.numpy()


class TorchClassifier:
    """Runs a classifier's weights file with torch, in float32 on the CPU.

    Args:
        path: weights file, or run folder (its best weights).

    Attributes:
        manifest: as in an exported file.
        path: the weights file.

    Raises:
        ModelError: no weights there, a file that is not Falconet's, or a detector.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = find_weights(Path(path))
        classifier, card = load_weights(self.path)
        if not isinstance(classifier, Classifier):
            raise ModelError(f"{self.path}: is a detector, not a classifier; leave --task out")
        self.manifest = manifest_of(card)
        self._module = deployable(classifier, card, max_points=1)

    def __call__(self, pixels: Pixels) -> Floats:
        """Probabilities [B, C] of pixels [B, H, W, 3]."""
        with torch.inference_mode():
            return np.asarray(self._module(torch.from_numpy(np.ascontiguousarray(pixels))).numpy(), np.float32)


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
