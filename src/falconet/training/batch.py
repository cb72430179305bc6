"""What a training step sees: uint8 pixels and padded targets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from falconet.core.types import Placement


class Targets(NamedTuple):
    """Ground truth of a batch, padded to the largest number of boxes G (0 is allowed)."""

    boxes: Float[Tensor, "B G 4"]
    """xyxy in network-input pixels; zeros where padded."""
    labels: Int[Tensor, "B G"]
    """class indices; 0 where padded."""
    mask: Bool[Tensor, "B G"]
    """True where a box is real."""
    ignored: Float[Tensor, "B I 4"] | None = None
    """xyxy of areas about whose contents nothing is learnt, network-input pixels; zeros where padded. None: none."""


class Batch(NamedTuple):
    """A batch as the loader delivers it."""

    pixels: UInt8[Tensor, "B H W 3"]
    """blue-green-red; normalised by the model (`Normalize`), not by the loader."""
    targets: Targets
    indices: Int[Tensor, " B"]
    """positions in the data set's records."""
    placements: tuple[Placement, ...] = ()
    """how each image lies in the input (evaluation only)."""
    problems: tuple[str, ...] = ()
    """images that could not be read, each with why; another one stands in its place in training."""

    def to(self, device: torch.device) -> "Batch":
        """Pixels and targets on the device; indices stay."""
        moved = (None if part is None else part.to(device, non_blocking=True) for part in self.targets)
        targets = Targets(*moved)
        return self._replace(pixels=self.pixels.to(device, non_blocking=True), targets=targets)


def pad_targets(
    boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], ignored: Sequence[np.ndarray] = ()
) -> Targets:
    """Boxes [G_i, 4], labels [G_i] and ignored areas [I_i, 4] of each image as padded tensors."""
    padded_boxes = _padded(boxes)
    padded_labels = torch.zeros(padded_boxes.shape[:2], dtype=torch.int64)
    mask = torch.zeros(padded_boxes.shape[:2], dtype=torch.bool)
    for row, image_labels in enumerate(labels):
        assert len(image_labels) == len(boxes[row]), "one label per box"
        padded_labels[row, : len(image_labels)] = torch.from_numpy(np.asarray(image_labels, np.int64))
        mask[row, : len(image_labels)] = True
    return Targets(padded_boxes, padded_labels, mask, _padded(ignored) if any(map(len, ignored)) else None)


def _padded(boxes: Sequence[np.ndarray]) -> Float[Tensor, "B G 4"]:
    """Boxes [G_i, 4] of each image, with zeros up to the largest number."""
    padded = torch.zeros(len(boxes), max(map(len, boxes), default=0), 4)
    for row, image_boxes in enumerate(boxes):
        padded[row, : len(image_boxes)] = torch.from_numpy(np.asarray(image_boxes, np.float32).reshape(-1, 4))
    return padded
