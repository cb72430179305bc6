"""Does an imported detector compute what its source computes? Both run on the same pictures."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from falconet.core.manifest import Preprocess
from falconet.core.types import Floats, Pixels
from falconet.models.deployable import Normalize
from falconet.models.detector import Detector

LIMIT = 1e-3
"""Largest difference of an import that counts as the same function, relative to the largest output."""


class Outputs(NamedTuple):
    """What a network says before places are chosen and boxes decoded."""

    scores: Floats
    """[P, C] 0..1."""
    code: Floats
    """[P, K] box code."""


class Parity(NamedTuple):
    """Largest differences over all pictures."""

    scores: float
    """absolute, of numbers 0..1."""
    code: float
    """relative to the largest number of the reference's box codes."""
    pictures: int

    @property
    def equal(self) -> bool:
        """Whether both are within `LIMIT`."""
        return max(self.scores, self.code) < LIMIT

    def __str__(self) -> str:
        return (
            f"largest difference on {self.pictures} pictures: scores {self.scores:.2g}, "
            f"boxes {self.code:.2g} (relative)"
        )


def compare(
    detector: Detector, preprocess: Preprocess, reference: Callable[[Pixels], Outputs], pictures: Sequence[Pixels]
) -> Parity:
    """`detector` against `reference` on pictures uint8 [H, W, 3] of the input's size."""
    normalize = Normalize(preprocess)
    scores, code = 0.0, 0.0
    for pixels in pictures:
        expected = reference(pixels)
        with torch.no_grad():
            raw = detector(normalize(torch.from_numpy(pixels)[None]))
        got = Outputs(raw.logits[0].sigmoid().numpy(), raw.box_code[0].numpy())
        if got.scores.shape != expected.scores.shape or got.code.shape != expected.code.shape:
            return Parity(float("inf"), float("inf"), len(pictures))
        scores = max(scores, float(np.abs(got.scores - expected.scores).max()))
        code = max(code, float(np.abs(got.code - expected.code).max() / np.abs(expected.code).max()))
    return Parity(scores, code, len(pictures))


def standard_images(height: int, width: int) -> list[Pixels]:
    """Four pictures that are always the same: noise, smoothed noise, a gradient with rectangles, grey."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    blocks = np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)[:height, :width]
    slope = np.linspace(0, 255, width, dtype=np.float32)[None, :, None] * np.ones((height, 1, 3), np.float32)
    scene = slope.astype(np.uint8)
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        scene[top : top + height // 4, left : left + width // 5] = rng.integers(0, 256, 3)
    return [noise, np.ascontiguousarray(blocks), scene, np.full((height, width, 3), 128, np.uint8)]
