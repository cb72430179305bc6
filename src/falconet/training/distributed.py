"""What a process of a run needs to know of the others."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn


def several_processes() -> bool:
    """Whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def mean_over_processes(values: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """The mean of `values` over all processes, which must all call this; changes `values`."""
    if not several_processes():
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Give the norms' statistics in `module`, of which each process saw its own part, the mean of all processes."""
    if not several_processes():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(mean_over_processes(buffer.clone()))


def from_first(value: Any) -> Any:
    """The value that the first process holds; all must call this."""
    if not several_processes():
        return value
    holder = [value]
    distributed.broadcast_object_list(holder, src=0)
    return holder[0]


def from_all(value: Any) -> list[Any]:
    """The values of all processes, in each of them; all must call this."""
    if not several_processes():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
