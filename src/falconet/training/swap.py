"""Convolutions of a network replaced by others with the same weights and outputs."""

from collections.abc import Callable

from torch import nn


def swap_convolutions(model: nn.Module, eligible: Callable[[nn.Module], bool], kind: type[nn.Conv2d]) -> int:
    """Replace, in place, every `nn.Conv2d` within `model` that is `eligible` by one of `kind`; returns how many were.

    Parameters and their names stay what they were.
    """
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not eligible(child):
                continue
            assert isinstance(child, nn.Conv2d)
            new = kind(
                child.in_channels,
                child.out_channels,
                child.kernel_size,  # type: ignore[arg-type]
                stride=child.stride,  # type: ignore[arg-type]
                padding=child.padding,  # type: ignore[arg-type]
                groups=child.groups,
                bias=child.bias is not None,
                device="meta",
            )
            new.weight, new.bias = child.weight, child.bias
            new.train(child.training)
            setattr(parent, name, new)
            count += 1
    return count
