"""PP-YOLOE's criterion as one would write it plainly in torch: one picture after the other, scores for every class.

The peer of `ppyoloe.py`: the published assignment and losses (arXiv:2203.16250), float32, autograd throughout. Targets
are matrices of predictions x classes, and assignment works on matrices of boxes x predictions, picture by picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from falconet.models.distances import boxes_at, expected_distances
from falconet.models.types import HeadOutputs
from falconet.training.batch import Targets
from falconet.training.losses import generalized_iou_loss, iou

CANDIDATES, NEAREST, ANCHOR_SCALE = 13, 9, 5
REG_MAX = 16


def plain_terms(raw: HeadOutputs, targets: Targets, *, static: bool) -> dict[str, Tensor]:
    """The weighted terms of the loss; `static` assigns by ATSS."""
    boxes = boxes_at(raw.priors, expected_distances(raw.box_code))
    probabilities = raw.logits.sigmoid()
    found = []
    for image in range(len(boxes)):
        real = targets.mask[image]
        truths, labels = targets.boxes[image][real], targets.labels[image][real]
        with torch.no_grad():
            if static:
                found.append(_atss(raw, boxes[image], truths, labels, probabilities.shape[2]))
            else:
                found.append(_task_aligned(raw, probabilities[image], boxes[image], truths, labels))
    scores = torch.stack([one[0] for one in found])
    matched = torch.stack([one[1] for one in found])
    total = scores.sum().clamp(min=1)

    weight = 0.75 * probabilities.square() * (scores == 0) + scores
    classes = (F.binary_cross_entropy(probabilities, scores, reduction="none") * weight).sum() / total
    image, place = (scores.sum(-1) > 0).nonzero(as_tuple=True)
    weights, truth = scores.sum(-1)[image, place], matched[image, place]
    box = (generalized_iou_loss(boxes[image, place], truth) * weights).sum() / total
    points, strides = raw.priors.points[place], raw.priors.strides[place]
    distances = torch.cat((points - truth[:, :2], truth[:, 2:] - points), -1) / strides
    distances = distances.clamp(0, REG_MAX - 0.01)
    bins = raw.box_code[image, place].unflatten(-1, (4, -1)).flatten(0, 1)
    low = distances.flatten().floor().long()
    share = distances.flatten() - low
    near, far = (F.cross_entropy(bins, low + step, reduction="none") for step in (0, 1))
    sides = (near * (1 - share) + far * share).unflatten(0, (-1, 4)).mean(1)
    return {"class": classes, "box": 2.5 * box, "distribution": 0.5 * (sides * weights).sum() / total}


def _task_aligned(
    raw: HeadOutputs, probabilities: Tensor, boxes: Tensor, truths: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    if not len(truths):
        return torch.zeros_like(probabilities), torch.zeros_like(boxes)
    overlaps = iou(truths[:, None], boxes[None])
    alignment = probabilities.T[labels] * overlaps**6
    inside = _inside(raw.priors.points, truths)
    best = (alignment * inside).topk(CANDIDATES, dim=1).indices
    taken = torch.zeros_like(inside).scatter_(1, best, True) & inside
    taken = _settle(taken, overlaps)
    alignment = alignment * taken
    scale = (overlaps * taken).amax(1, keepdim=True) / (alignment.amax(1, keepdim=True) + 1e-9)
    return _targets(taken, (alignment * scale).amax(0), truths, labels, probabilities.shape[1])


def _atss(raw: HeadOutputs, boxes: Tensor, truths: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    if not len(truths):
        return boxes.new_zeros(len(boxes), num_classes), torch.zeros_like(boxes)
    points, strides = raw.priors.points, raw.priors.strides
    half = ANCHOR_SCALE * strides / 2
    overlaps = iou(truths[:, None], torch.cat((points - half, points + half), -1)[None])
    centres = (truths[:, :2] + truths[:, 2:]) / 2
    distances = (points[None] - centres[:, None]).norm(dim=-1)
    near, start = [], 0
    for stride in strides.unique().tolist():
        size = int((strides == stride).sum())
        level = distances[:, start : start + size]
        near.append(level.topk(min(NEAREST, size), dim=1, largest=False).indices + start)
        start += size
    candidates = torch.cat(near, dim=1)
    values = overlaps.gather(1, candidates)
    good = torch.zeros_like(overlaps, dtype=torch.bool)
    good.scatter_(1, candidates, values > values.mean(1, keepdim=True) + values.std(1, keepdim=True))
    taken = _settle(good & _inside(points, truths), overlaps)
    return _targets(taken, (iou(truths[:, None], boxes[None]) * taken).amax(0), truths, labels, num_classes)


def _inside(points: Tensor, truths: Tensor) -> Tensor:
    sides = torch.cat((points[None] - truths[:, None, :2], truths[:, None, 2:] - points[None]), -1)
    return sides.amin(-1) > 1e-9


def _settle(taken: Tensor, overlaps: Tensor) -> Tensor:
    """Contested predictions go to the truth they overlap most."""
    contested = taken.sum(0) > 1
    best = F.one_hot(overlaps.argmax(0), len(overlaps)).T.bool()
    return torch.where(contested, best, taken)


def _targets(taken: Tensor, quality: Tensor, truths: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Scores of every class and the truth's box, for each prediction."""
    owner = taken.int().argmax(0)
    scores = F.one_hot(labels[owner], num_classes) * (quality * taken.any(0))[:, None]
    return scores, truths[owner]
