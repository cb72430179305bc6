"""Boxes as distributions over distances from a point to each side ("Generalized Focal Loss", arXiv:2006.04388)."""

import torch
from jaxtyping import Float
from torch import Tensor

from falconet.models.types import Decoded, Priors, Raw


def decode_distances(raw: Raw) -> Decoded:
    """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
    dtype = raw.priors.points.dtype
    distances = expected_distances(raw.box_code.to(dtype))
    return Decoded(boxes_at(raw.priors, distances), raw.logits.to(dtype).sigmoid())


def expected_distances(box_code: Float[Tensor, "*B P K"]) -> Float[Tensor, "*B P 4"]:
    """Mean of the distribution over 0..reg_max of each side: left, top, right, bottom, in strides."""
    bins = box_code.unflatten(-1, (4, -1)).softmax(-1)
    steps = torch.arange(bins.shape[-1], dtype=bins.dtype, device=bins.device)
    return (bins * steps).sum(-1)


def boxes_at(priors: Priors, distances: Float[Tensor, "*B P 4"]) -> Float[Tensor, "*B P 4"]:
    """Boxes xyxy in network-input pixels, of distances in strides from the priors' points."""
    left_top, right_bottom = (distances * priors.strides).chunk(2, dim=-1)
    return torch.cat((priors.points - left_top, priors.points + right_bottom), dim=-1)
