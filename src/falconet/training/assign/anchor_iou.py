"""Which predictions of an anchor-based detector learn which truth, from the shapes of truths and anchors.

"Shape IoU" is the intersection over union of two boxes laid onto the same centre: it compares width and height only.

* `best_anchor`: the rule of YOLOv3 (arXiv:1804.02767, section 2.1). Of all anchors of all levels one learns a truth,
  the one most like it, in the cell that holds the truth's centre.
* `every_good_anchor`: all anchors like enough to the truth learn it ("multiple anchors for a single ground truth",
  YOLOv4, arXiv:2004.10934, section 3.4, bag of freebies), in every cell from which its centre can be reached.

Both are batched over images with padded truths; neither looks at what the network predicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from falconet.training.batch import Targets

USED_REACH = 0.8
"""Share of what a code can reach outside its cell that truths make use of: the very end needs infinite logits."""


@dataclass(frozen=True, slots=True)
class AnchorGrid:
    """Where the predictions of a detector stand; S slots are the anchors of all levels, one after the other.

    Attributes:
        sizes: (rows, columns) of each level's cells, finest first.
        strides: [S] pixels per cell.
        anchors: [S, 2] width and height, network-input pixels.
        per_cell: predictions per cell, equally many in every level.
    """

    sizes: tuple[tuple[int, int], ...]
    strides: Float[Tensor, " S"]
    anchors: Float[Tensor, "S 2"]
    per_cell: int

    @classmethod
    def of(
        cls, sizes: Sequence[tuple[int, int]], strides: Sequence[int], anchors: Float[Tensor, "L A 2"]
    ) -> "AnchorGrid":
        """The grid of levels with `strides` that each have the same number of anchors."""
        steps = torch.tensor(strides, dtype=anchors.dtype, device=anchors.device)
        return cls(tuple(sizes), steps.repeat_interleave(anchors.shape[1]), anchors.flatten(0, 1), anchors.shape[1])

    @property
    def counts(self) -> list[int]:
        """Predictions of each level."""
        return [rows * columns * self.per_cell for rows, columns in self.sizes]

    def tables(self) -> Int[Tensor, "S 4"]:
        """A line per slot: rows, columns, position of its level's first prediction, position within a cell."""
        table, start = [], 0
        for (rows, columns), count in zip(self.sizes, self.counts, strict=True):
            table += [(rows, columns, start, anchor) for anchor in range(self.per_cell)]
            start += count
        return torch.tensor(table, device=self.strides.device)


class Matches(NamedTuple):
    """N predictions of a batch that have a truth, each once."""

    rows: Int[Tensor, " N"]
    """positions in the predictions of all images, one after the other"""
    images: Int[Tensor, " N"]
    truths: Int[Tensor, " N"]
    """positions in the padded truths of the image"""


class Pairs(NamedTuple):
    """M pairs of a prediction and a truth; a prediction may have several."""

    rows: Int[Tensor, " M"]
    images: Int[Tensor, " M"]
    truths: Int[Tensor, " M"]
    likeness: Float[Tensor, " M"]
    """shape IoU"""


def shape_iou(sides: Float[Tensor, "*N 2"], anchors: Float[Tensor, "S 2"]) -> Float[Tensor, "*N S"]:
    """IoU of every box of `sides` (width, height) with every anchor, on the same centre."""
    sides = sides.unsqueeze(-2)
    overlap = torch.minimum(sides, anchors).prod(-1)
    return overlap / (sides.prod(-1) + anchors.prod(-1) - overlap).clamp(min=1e-9)


@torch.no_grad()
def best_anchor(
    targets: Targets,
    grid: AnchorGrid,
    *,
    anchors: Float[Tensor, "K 2"],
    masks: Sequence[Sequence[int]],
) -> Pairs:
    """Pairs of each truth with the prediction of the anchor most like it, in the cell of its centre.

    Args:
        targets: padded truths.
        grid: of the predictions.
        anchors: all that compete, the first of equals wins; a truth whose best is in no mask has no pair.
        masks: positions of each level's anchors in `anchors`.
    """
    best = shape_iou(_sides(targets), anchors).argmax(-1)
    slots = torch.tensor([index for mask in masks for index in mask], device=best.device)
    chosen = (best.unsqueeze(-1) == slots) & targets.mask.unsqueeze(-1)
    likeness = shape_iou(_sides(targets), grid.anchors)
    return _pairs(targets, grid, chosen, likeness, reach=0.0)


@torch.no_grad()
def every_good_anchor(targets: Targets, grid: AnchorGrid, *, least_shape_iou: float, center_reach: float) -> Matches:
    """The predictions of every anchor like enough to a truth, and of the one most like it anyway.

    A prediction that several truths want goes to the one its anchor is most like, among equals to the first.

    Args:
        targets: padded truths.
        grid: of the predictions.
        least_likeness: smallest shape IoU.
        center_reach: of the head: side of the square, in cells, in which a cell's boxes may have their centres.
    """
    likeness = shape_iou(_sides(targets), grid.anchors)
    best = likeness == likeness.amax(-1, keepdim=True)
    chosen = (best | (likeness > least_shape_iou)) & targets.mask.unsqueeze(-1)
    pairs = _pairs(targets, grid, chosen, likeness, reach=USED_REACH * (center_reach - 1) / 2)
    total = len(targets.mask) * sum(grid.counts)
    strongest = pairs.likeness.new_full((total,), -1.0).scatter_reduce_(0, pairs.rows, pairs.likeness, "amax")
    first = pairs.likeness == strongest[pairs.rows]
    return unique(Pairs(*(part[first] for part in pairs)), total, last=False)


def unique(pairs: Pairs, total: int, *, last: bool) -> Matches:
    """One truth for each prediction: the last of its truths, or the first, in the order of the padded truths.

    Args:
        pairs: of predictions and truths.
        total: number of predictions of all images.
        last: which one.
    """
    outside = -1 if last else torch.iinfo(torch.int64).max
    truth = pairs.truths.new_full((total,), outside)
    truth.scatter_reduce_(0, pairs.rows, pairs.truths, "amax" if last else "amin")
    rows = (truth != outside).nonzero().squeeze(1)
    images = torch.zeros_like(truth).scatter_(0, pairs.rows, pairs.images)[rows]
    return Matches(rows, images, truth[rows])


def _sides(targets: Targets) -> Float[Tensor, "B G 2"]:
    return targets.boxes[..., 2:] - targets.boxes[..., :2]


def _pairs(
    targets: Targets,
    grid: AnchorGrid,
    chosen: Bool[Tensor, "B G S"],
    likeness: Float[Tensor, "B G S"],
    *,
    reach: float,
) -> Pairs:
    """Predictions of the chosen slots in the cell of the truth's centre and those it lies at most `reach` beside."""
    images, truths, slots = chosen.nonzero(as_tuple=True)
    boxes = targets.boxes[images, truths]
    place = (boxes[:, :2] + boxes[:, 2:]) / 2 / grid.strides[slots, None]
    rows, columns, start, anchor = grid.tables()[slots].unbind(-1)
    limit = torch.stack((columns, rows), dim=-1) - 1
    own = place.floor().long().clamp(min=torch.zeros_like(limit), max=limit)

    step = torch.arange(-1, 2, device=own.device)
    steps = torch.cartesian_prod(step, step) if reach > 0 else torch.zeros(1, 2, dtype=torch.long, device=own.device)
    cells = own[:, None] + steps
    within = place[:, None] - cells
    allowed = ((within >= -reach) & (within <= 1 + reach) & (cells >= 0) & (cells <= limit[:, None])).all(-1)
    allowed |= (steps == 0).all(-1)  # the own cell, also of a centre on the picture's border

    pair, cell = allowed.nonzero(as_tuple=True)
    x, y = cells[pair, cell].unbind(-1)
    inside = start[pair] + (y * columns[pair] + x) * grid.per_cell + anchor[pair]
    images, truths = images[pair], truths[pair]
    return Pairs(images * sum(grid.counts) + inside, images, truths, likeness[images, truths, slots[pair]])
