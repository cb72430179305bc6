"""When a criterion changes in the course of a run."""

from typing import Literal, NamedTuple


class Phases(NamedTuple):
    """What changes at which epoch, counted from 0. Each criterion looks at what concerns it."""

    auxiliary: Literal["drop", "keep"] = "drop"
    """What becomes of an auxiliary branch at `detach_epoch`: "keep" goes on with it as the original does, cut off from
    the network's gradients; "drop" stops running it."""
    detach_epoch: int = 10
    """The first epoch without the auxiliary branch's gradients."""
    static_epochs: int = 0
    """So many epochs assign by geometry alone, before a task-aligned assigner takes over."""
