"""From the network that trains to the network that runs: the same function with fewer operations.

A block that can become simpler says how: it has a method `fused()` that returns its replacement (`ConvNormAct`
folds its norm; a block with parallel branches adds their kernels up). `fuse` only walks through the model.
"""

import copy
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@runtime_checkable
class Fusable(Protocol):
    """A block that knows a simpler form of itself."""

    def fused(self) -> nn.Module:
        """A module that computes the same function as this block does in eval mode. May reuse its parts."""
        ...


def fuse(model: Model) -> Model:
    """A copy of `model` in eval mode whose blocks have taken their simpler form; `model` stays as it is.

    Outputs differ by less than 1e-5 of their magnitude in float32. The copy is for running and exporting: it
    has other parameters than the configuration describes, so it is neither trained nor saved as weights.
    """
    replaced = copy.deepcopy(model).eval()
    if isinstance(replaced, Fusable):
        raise TypeError(f"fuse takes a model of blocks; for a single {type(model).__name__} call its fused()")
    _fuse_children(replaced, {})
    return replaced.requires_grad_(False)


def _fuse_children(module: nn.Module, done: dict[nn.Module, nn.Module]) -> None:
    for name, child in module.named_children():
        if child not in done:
            if isinstance(child, Fusable):
                done[child] = child.fused()
            else:
                done[child] = child
                _fuse_children(child, done)
        setattr(module, name, done[child])
