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
        targets = Targets(*(part.to(device, non_blocking=True) for part in self.targets))
        return self._replace(pixels=self.pixels.to(device, non_blocking=True), targets=targets)


def pad_targets(boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> Targets:
    """Boxes [G_i, 4] and labels [G_i] of each image as padded tensors."""
    most = max((len(b) for b in boxes), default=0)
    padded_boxes = torch.zeros(len(boxes), most, 4)
    padded_labels = torch.zeros(len(boxes), most, dtype=torch.int64)
    mask = torch.zeros(len(boxes), most, dtype=torch.bool)
    for row, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
        count = len(image_boxes)
        padded_boxes[row, :count] = torch.from_numpy(np.asarray(image_boxes, np.float32).reshape(-1, 4))
        padded_labels[row, :count] = torch.from_numpy(np.asarray(image_labels, np.int64))
        mask[row, :count] = True
    return Targets(padded_boxes, padded_labels, mask)
