"""Adaptive training sample selection: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free
Detection via Adaptive Training Sample Selection", CVPR 2020 (https://arxiv.org/abs/1912.02424), algorithm 1.

What a truth takes depends on the geometry alone, not on what the network predicts. All images at once on padded
truths; the only loop is over the levels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.training.assign.pairs import resolve_conflicts
from falconet.training.batch import Targets
from falconet.training.losses import iou


@torch.no_grad()
def atss_assign(
    anchors: Float[Tensor, "P 4"],
    level_sizes: Sequence[int],
    targets: Targets,
    *,
    candidates: int = 9,
    inside_by: float = 0.01,
    variant: Literal["original", "paddle"] = "original",
) -> Int[Tensor, "B P"]:
    """The truth each prediction shall learn: an index into the padded truths of its image, -1 for background.

    On every level a truth looks at the `candidates` anchors whose centres are nearest to its own. It takes
    those whose IoU with it reaches mean + standard deviation (the unbiased one) over all its candidates, and
    whose centre lies inside of it. An anchor taken by several truths goes to the one of them it overlaps most.

    PaddleDetection does it a little differently: an IoU must exceed the threshold instead of reaching it, and an
    anchor taken by several truths goes to the truth it overlaps most of all those in the image.

    Args:
        anchors: xyxy, network-input pixels, level after level.
        level_sizes: numbers of anchors on each level; they add up to P.
        targets: padded truths.
        candidates: per level; all of a level that has fewer.
        inside_by: pixels by which a centre must lie inside the truth on every side.
        variant: "original" or "paddle".
    """
    B, G = targets.mask.shape
    P = len(anchors)
    if G == 0 or P == 0:
        return targets.labels.new_full((B, P), -1)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    nearest = _nearest(centres, level_sizes, targets.boxes, candidates)
    overlaps = iou(targets.boxes[:, :, None], anchors[nearest])
    spread = overlaps.std(-1, keepdim=True) if overlaps.shape[-1] > 1 else torch.zeros_like(overlaps)
    threshold = overlaps.mean(-1, keepdim=True) + spread
    taken = overlaps >= threshold if variant == "original" else overlaps > threshold
    taken &= _inside(centres[nearest], targets.boxes, inside_by) & targets.mask[:, :, None]

    if variant == "paddle":
        truth, image, place = resolve_conflicts(nearest, taken, count=P)
        truths = targets.boxes.masked_fill(~targets.mask[:, :, None], 0)
        truth[image, place] = iou(truths[image], anchors[place][:, None]).argmax(1)
        return truth
    table = overlaps.new_full((B, G, P), -1.0)
    table.scatter_(2, nearest, torch.where(taken, overlaps, -1.0))
    best, truth = table.max(1)
    return torch.where(best >= 0, truth, -1)


def _nearest(
    centres: Float[Tensor, "P 2"], level_sizes: Sequence[int], boxes: Float[Tensor, "B G 4"], candidates: int
) -> Int[Tensor, "B G K"]:
    """The anchors nearest to each truth's centre, `candidates` of each level."""
    middle_x, middle_y = ((boxes[..., :2] + boxes[..., 2:]) / 2).unsqueeze(2).unbind(-1)
    x, y = centres.unbind(-1)
    chosen, start = [], 0
    for size in level_sizes:
        level = slice(start, start + size)
        distances = (x[level] - middle_x).square_().add_((y[level] - middle_y).square_())
        chosen.append(distances.topk(min(candidates, size), dim=2, largest=False).indices + start)
        start += size
    return torch.cat(chosen, dim=2)


def _inside(points: Float[Tensor, "B G K 2"], boxes: Float[Tensor, "B G 4"], margin: float) -> Bool[Tensor, "B G K"]:
    sides = torch.cat((points - boxes[:, :, None, :2], boxes[:, :, None, 2:] - points), dim=-1)
    return sides.amin(-1) > margin
