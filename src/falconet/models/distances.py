"""Boxes as distributions over distances from a point to each side ("Generalized Focal Loss", arXiv:2006.04388)."""

import torch
from jaxtyping import Float
from torch import Tensor

from falconet.models.types import Decoded, HeadOutputs, Priors


def decode_distances(raw: HeadOutputs) -> Decoded:
    """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
    dtype = raw.priors.points.dtype
    distances = expected_distances(raw.box_code.to(dtype))
    return Decoded(boxes_at(raw.priors, distances), raw.logits.to(dtype).sigmoid())


def expected_distances(box_code: Float[Tensor, "*B P K"]) -> Float[Tensor, "*B P 4"]:
    """Mean of the distribution over 0..reg_max of each side: left, top, right, bottom, in strides."""
    bins = box_code.unflatten(-1, (4, -1)).softmax(-1)
    steps = torch.arange(bins.shape[-1], dtype=bins.dtype, device=bins.device)
    return (bins * steps).sum(-1)


def quick_distances(box_code: Float[Tensor, "B P K"]) -> Float[Tensor, "B P 4"]:
    """`expected_distances` for many predictions: torch's softmax over so few bins takes five times as long."""
    bins = box_code.unflatten(-1, (4, -1))
    bins = (bins - bins.amax(-1, keepdim=True)).exp_()
    steps = torch.arange(bins.shape[-1], dtype=bins.dtype, device=bins.device)
    sums = bins @ torch.stack([steps, torch.ones_like(steps)], dim=1)
    return sums[..., 0] / sums[..., 1]


def boxes_at(priors: Priors, distances: Float[Tensor, "*B P 4"]) -> Float[Tensor, "*B P 4"]:
    """Boxes xyxy in network-input pixels, of distances in strides from the priors' points."""
    left_top, right_bottom = (distances * priors.strides).chunk(2, dim=-1)
    return torch.cat((priors.points - left_top, priors.points + right_bottom), dim=-1)


def distance_targets(
    priors: Priors, boxes: Float[Tensor, "N 4"], *, reg_max: int, margin: float = 0.1
) -> Float[Tensor, "N 4"]:
    """Distances in strides from each point to its box's left, top, right and bottom, within 0..reg_max - margin."""
    left_top = (priors.points - boxes[..., :2]) / priors.strides
    right_bottom = (boxes[..., 2:] - priors.points) / priors.strides
    return torch.cat((left_top, right_bottom), dim=-1).clamp(0, reg_max - margin)
