"""Dynamic soft label assignment, the assigner of NanoDet-Plus.

Original: https://github.com/RangiLyu/nanodet (Apache-2.0), `DynamicSoftLabelAssigner`; the dynamic number of
predictions per truth comes from OTA (https://arxiv.org/abs/2103.14259) by way of YOLOX's SimOTA.

We differ in cost, not in result: all images at once on padded truths, and no tensor of predictions x truths x
classes. The class term of the original sums over the classes; all but the truth's own class contribute what
they would for background. So it is the background loss of the prediction (one number, whatever the truth)
plus what the truth's class changes, for which one column of logits is enough.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.training.assign.pairs import Assignment, pairwise_iou, resolve_conflicts
from falconet.training.batch import Targets
from falconet.training.losses import at_least_float32, background_focal


@torch.no_grad()
def dynamic_soft_assign(
    logits: Float[Tensor, "B P C"],
    boxes: Float[Tensor, "B P 4"],
    points: Float[Tensor, "P 2"],
    targets: Targets,
    *,
    background: Float[Tensor, "B P"] | None = None,
    candidates: int = 13,
    iou_weight: float = 3.0,
) -> Assignment:
    """The truth each prediction shall learn, chosen by what the predictions say at present.

    Predictions whose point lies strictly inside any truth compete. A truth takes the k predictions that cost
    it least, k being the sum of its `candidates` best IoUs, rounded down, at least 1. The cost is the quality
    focal loss the prediction would have plus `iou_weight` times -log IoU. A prediction taken by several truths
    goes to the one, of all truths of the image, for which its cost is lowest.

    As in the original, the point need not lie inside the truth that takes it: a truth so small that it holds
    no point takes one of another truth's. An image in which no point lies inside any truth is all background.

    Args:
        logits: class logits.
        boxes: decoded boxes, xyxy in network-input pixels.
        points: x, y of the predictions' places, network-input pixels.
        targets: padded truths.
        background: `background_focal(logits).loss`, if it is there already.
        candidates: how many best IoUs make up k, and so the largest k.
        iou_weight: of the IoU term in the cost.
    """
    B, P = logits.shape[:2]
    G = targets.mask.shape[1]
    if G == 0 or P == 0:
        return Assignment(targets.labels.new_full((B, P), -1), at_least_float32(logits.new_zeros(B, P)))
    if background is None:
        background = background_focal(logits).loss
    # Masks go into the small tensors, before they meet in pairs: a padded truth holds no point, the box of a
    # prediction that does not compete overlaps with nothing, and its cost is infinite.
    truths = targets.boxes.masked_fill(~targets.mask[:, :, None], 0)
    left_out = ~_inside_any(points, truths)
    overlaps = pairwise_iou(truths, at_least_float32(boxes).masked_fill(left_out[:, :, None], 0))
    background = background.masked_fill(left_out, torch.inf)
    cost = _cost(logits, targets.labels, overlaps, background, iou_weight=iou_weight)

    best = min(candidates, P)
    k = overlaps.topk(best, dim=2).values.sum(2).int().clamp(min=1)
    lowest = cost.topk(best, dim=2, largest=False)
    rank = torch.arange(best, device=k.device)
    taken = (rank < k[:, :, None]) & (lowest.values < torch.inf) & targets.mask[:, :, None]

    truth = _resolve(lowest.indices, taken, cost, targets.mask)
    quality = overlaps.gather(1, truth.clamp(min=0)[:, None, :]).squeeze(1)
    return Assignment(truth, torch.where(truth >= 0, quality, 0.0))


def _inside_any(points: Float[Tensor, "P 2"], truths: Float[Tensor, "B G 4"]) -> Bool[Tensor, "B P"]:
    """Whether a point lies strictly inside any truth of the image."""
    x, y = points.unbind(-1)
    left, top, right, bottom = truths.unsqueeze(2).unbind(-1)
    inside = (x > left).logical_and_(x < right).logical_and_(y > top).logical_and_(y < bottom)
    return inside.any(1)


def _cost(
    logits: Float[Tensor, "B P C"],
    labels: Int[Tensor, "B G"],
    overlaps: Float[Tensor, "B G P"],
    background: Float[Tensor, "B P"],
    *,
    iou_weight: float,
) -> Float[Tensor, "B G P"]:
    """Class term plus weighted IoU term.

    With entropy s = softplus(x) the truth's own class costs (s - x q) (q - p)^2 instead of s p^2, so it changes
    the background loss by q (s (q - 2 p) - x (q - p)^2).
    """
    own = at_least_float32(logits.mT.gather(1, labels.unsqueeze(2).expand_as(overlaps)))
    probability = own.sigmoid()
    entropy = F.softplus(own)
    own *= (overlaps - probability).square_()
    entropy *= probability.mul_(-2).add_(overlaps)
    cost = entropy.sub_(own).mul_(overlaps).add_(background.unsqueeze(1))
    return cost.sub_(torch.add(overlaps, 1e-7, out=own).log_(), alpha=iou_weight)


def _resolve(
    predictions: Int[Tensor, "B G k"],
    taken: Bool[Tensor, "B G k"],
    cost: Float[Tensor, "B G P"],
    mask: Bool[Tensor, "B G"],
) -> Int[Tensor, "B P"]:
    """The truth of each prediction from what each truth takes; contested ones go where they cost least."""
    truth, image, place = resolve_conflicts(predictions, taken, count=cost.shape[2])
    truth[image, place] = cost[image, :, place].masked_fill(~mask[image], torch.inf).argmin(1)
    return truth
