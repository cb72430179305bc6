"""Pure functions on boxes: float arrays [N, 4], `xyxy` corners unless the name says otherwise."""

import numpy as np

from falconet.core.types import Floats


def area(boxes: Floats) -> Floats:
    """Areas [..., N] of boxes [..., N, 4]; 0 where a side is negative."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def pairwise_iou(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union [..., N, M] of boxes [..., N, 4] and others [..., M, 4]; 0 where both have no area."""
    top_left = np.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    bottom_right = np.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    overlap = sides[..., 0] * sides[..., 1]
    union = area(boxes)[..., :, None] + area(others)[..., None, :] - overlap
    iou: Floats = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def clip(boxes: Floats, *, height: int, width: int) -> Floats:
    """Boxes [N, 4] cut to the picture 0..width, 0..height."""
    limit = np.array([width, height, width, height], np.float32)
    return np.asarray(np.clip(boxes, 0, limit), np.float32)


def xyxy_to_cxcywh(boxes: Floats) -> Floats:
    """[N, 4] corners to centre x, centre y, width, height."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
