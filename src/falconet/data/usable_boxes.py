"""Which of many boxes can be used, told from tables of corners at once."""

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats

TOLERANCE = 0.5
"""Pixels a box may stick out of its picture without mention: rounding of the annotation."""


def fractions(boxes: Floats) -> NDArray[np.bool_]:
    """[N] Where a box has less than a pixel and lies where fractions of the picture would."""
    with np.errstate(invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        small = ((sides > 0) & (sides <= 1)).all(1) & (sides < 1).any(1)
        return np.asarray(small & (boxes >= 0).all(1) & (boxes[:, :2] <= 1).all(1))


def suspects(boxes: Floats, limits: Floats) -> NDArray[np.bool_]:
    """[N] Boxes that are not finite, of no area, not inside their pictures of [N, 2] or [2], or fractions.

    Args:
        limits: width and height, infinite where unknown.
    """
    with np.errstate(invalid="ignore"):
        good = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        good &= (boxes[:, :2] >= -TOLERANCE).all(1) & (boxes[:, 2:] > 0).all(1)
        good &= (boxes[:, 2:] <= limits + TOLERANCE).all(1) & (boxes[:, :2] < limits).all(1)
    return np.logical_or(np.logical_not(good), fractions(boxes))


def usable(boxes: Floats, limits: Floats) -> NDArray[np.bool_]:
    """[N] Boxes of which something is left once they are cut to their pictures of [N, 2]: `suspects` that are finite,
    have an area, are no fractions and reach into the picture are among them."""
    with np.errstate(invalid="ignore"):
        some = np.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1) & ~fractions(boxes)
        return np.asarray(some & (boxes[:, :2] < limits).all(1) & (boxes[:, 2:] > 0).all(1))


def cut(boxes: Floats, limits: Floats) -> Floats:
    """Boxes [N, 4] cut to their pictures of [N, 2] (width, height)."""
    return np.asarray(np.clip(boxes, 0, np.concatenate([limits, limits], 1)), np.float32)
