"""The weights of a narrower network as slices of those of a wider one."""

from collections.abc import Mapping

from torch import Tensor

Axis = tuple[str, int]
"""A parameter or buffer by name, and the axis that channels lie along."""


def sliced(state: Mapping[str, Tensor], places: Mapping[Axis, Tensor]) -> dict[str, Tensor]:
    """What the narrower network takes; gradients go through.

    Args:
        state: parameters and buffers of the wider one, or some of them, by name.
        places: as `falconet.models.channels.kept_places` says; axes that are taken as they are may be left out.
    """
    narrower = {}
    for name, value in state.items():
        for axis in range(value.ndim):
            there = places.get((name, axis))
            if there is None:
                continue
            value = value.index_select(axis, there.clamp_min(0))
            if axis == 1 and (there < 0).any():  # connections that the wider one does not have
                value = value * (there >= 0).to(value.dtype).view(1, -1, *(1 for _ in value.shape[2:]))
        narrower[name] = value
    return narrower
