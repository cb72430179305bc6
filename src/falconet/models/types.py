"""What flows between the parts of a detector.

Letters of the legend: B images, C classes, P predictions over all levels, K numbers per box code,
H W rows and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Features = Sequence[Tensor]
"""Feature maps [B, channels, H, W], finest level first."""


@dataclass(frozen=True, slots=True)
class Priors:
    """The places predictions stand for, level after level, row after row.

    Attributes:
        points: [P, 2] or, after `HeadOutputs.take`, [B, P, 2]: x, y of each place in network-input pixels. Whether
            that is a cell's corner or its centre is the architecture's choice (see its file).
        strides: [P, 1] or [B, P, 1]: pixels per cell of the place's level.
        anchors: [P, 2] or [B, P, 2]: width and height of the box that stands at the place, network-input pixels;
            None for architectures without anchors.
    """

    points: Float[Tensor, "*B P 2"]
    strides: Float[Tensor, "*B P 1"]
    anchors: Float[Tensor, "*B P 2"] | None = None


@dataclass(frozen=True, slots=True)
class HeadOutputs:
    """What a head computes, before any activation."""

    logits: Float[Tensor, "B P C"]
    box_code: Float[Tensor, "B P K"]
    objectness: Float[Tensor, "B P 1"] | None
    priors: Priors

    def take(self, index: Int[Tensor, "B N"]) -> "HeadOutputs":
        """The predictions at `index` of each image."""

        # Whole rows of the flattened batch: a gather along P would need the index expanded to every column.
        count = self.logits.shape[1]
        images = torch.arange(index.shape[0], device=index.device)[:, None]
        rows = (index + images * count).flatten()

        def pick(values: Float[Tensor, "B P X"]) -> Float[Tensor, "B N X"]:
            return values.flatten(0, 1).index_select(0, rows).unflatten(0, index.shape)

        def pick_shared(values: Float[Tensor, "P X"]) -> Float[Tensor, "B N X"]:
            return values.index_select(0, index.flatten()).unflatten(0, index.shape)

        priors = self.priors
        return HeadOutputs(
            logits=pick(self.logits),
            box_code=pick(self.box_code),
            objectness=None if self.objectness is None else pick(self.objectness),
            priors=Priors(
                pick_shared(priors.points),
                pick_shared(priors.strides),
                None if priors.anchors is None else pick_shared(priors.anchors),
            ),
        )


class Decoded(NamedTuple):
    """Boxes and scores of all predictions; identical for every architecture."""

    boxes: Float[Tensor, "B P 4"]
    """xyxy in network-input pixels, not clipped."""
    scores: Float[Tensor, "B P C"]
    """0..1."""


class ForwardOutputs(NamedTuple):
    """Everything a criterion may learn from: the forward pass with its intermediate features."""

    backbone: Features
    neck: Features
    raw: HeadOutputs
