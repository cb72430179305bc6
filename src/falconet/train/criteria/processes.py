"""What criteria need to know about the other processes of a distributed run."""

from jaxtyping import Float
from torch import Tensor, distributed


def several_processes() -> bool:
    """Whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def mean_over_processes(values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The mean of `values` over all processes, which must all call this; changes `values`."""
    if not several_processes():
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()
