"""The only place where a grid is computed."""

from collections.abc import Sequence

import torch

from falconet.models.types import Priors


def make_priors(
    size: tuple[int, int],
    strides: Sequence[int],
    *,
    offset: float,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Priors:
    """One place per cell of every level: levels in the order of `strides`, row after row.

    A level has ceil(side / stride) cells along each side, as many as convolutions with padding leave.

    Args:
        size: (height, width) of the network input, pixels.
        strides: pixels per cell, one number per level.
        offset: where a cell's place lies, as a fraction of the cell: 0 its top left corner, 0.5 its centre.

    Returns:
        points [P, 2] (x, y) and strides [P, 1], in network-input pixels.
    """
    height, width = size
    points, steps = [], []
    for stride in strides:
        y = (torch.arange(-(-height // stride), device=device, dtype=dtype) + offset) * stride
        x = (torch.arange(-(-width // stride), device=device, dtype=dtype) + offset) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        level = torch.stack((columns, rows), dim=-1).flatten(0, 1)
        points.append(level)
        steps.append(torch.full_like(level[:, :1], stride))
    return Priors(torch.cat(points), torch.cat(steps))
