"""AdamW or SGD, its learning rate over the steps, and the moving average of the weights."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

BACKBONE = "network.backbone."
"""Where the backbone's parameters are among the networks of a run."""


def parameter_groups(module: nn.Module, *, weight_decay: float, backbone_rate: float = 1.0) -> list[dict[str, Any]]:
    """Parameters of convolutions and linear layers with `weight_decay`; biases, norms and factors without.

    Each group has the "share" of the learning rate that it takes: the backbone has groups of its own where it takes
    another share than the rest.
    """
    apart = backbone_rate != 1
    groups = []
    for share in (1.0, backbone_rate) if apart else (1.0,):
        own = [
            parameter
            for name, parameter in module.named_parameters()
            if not apart or name.startswith(BACKBONE) == (share != 1)
        ]
        decayed = [parameter for parameter in own if parameter.ndim > 1]
        plain = [parameter for parameter in own if parameter.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": weight_decay, "share": share})
        groups.append({"params": plain, "weight_decay": 0.0, "share": share})
    return groups


def build_optimizer(
    module: nn.Module,
    *,
    weight_decay: float,
    backbone_rate: float = 1.0,
    name: Literal["adamw", "sgd"] = "adamw",
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """AdamW or SGD; the learning rate is set by `set_rate`. Parameters without a gradient are left alone.

    Args:
        module: what learns.
        weight_decay: AdamW's is decoupled from the gradient, SGD's is part of it.
        backbone_rate: share of the learning rate that the backbone takes.
        name: which of the two.
        momentum: of SGD.
    """
    groups = parameter_groups(module, weight_decay=weight_decay, backbone_rate=backbone_rate)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, of which each group takes its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)  # checkpoints of version 0.1 have no shares


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state as a checkpoint holds it: keys are text, and tensors have lost their memory format."""
    moments = {int(number): values for number, values in state["state"].items()}
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate over the optimiser's steps: linear warm-up, then half a cosine down to a floor.

    Attributes:
        peak: largest rate.
        warmup_steps: the rate climbs linearly to the peak over these.
        total_steps: the floor is reached at the last of these.
        floor: rate at the end, share of the peak.
    """

    peak: float
    warmup_steps: int
    total_steps: int
    floor: float

    def rate(self, step: int) -> float:
        """Learning rate of `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.total_steps - 1 - self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return self.peak * (self.floor + (1 - self.floor) * cosine)


class WeightAverage:
    """The exponential moving average of a module's weights and buffers, in a copy of the module.

    Args:
        module: copied; the copy stays in evaluation mode.
        decay: share of the average that survives a step, in the long run.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self._targets, self._target_counters = _split(self.module)

    def decay_at(self, step: int, total_steps: int) -> float:
        """The decay of `step`: small at first, so that the start is forgotten, and fit for short trainings.

        The average reaches back over a ninth of the steps so far, over a fiftieth of all steps at most, and
        never further than the configured decay does.
        """
        reach = min((step + 10) / 9, max(10.0, total_steps / 50))
        return min(self.decay, 1 - 1 / reach)

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int, total_steps: int) -> None:
        """Move the average towards `module`, which took the optimiser's `step` (from 0)."""
        sources, counters = _split(module)
        get_ema_multi_avg_fn(self.decay_at(step, total_steps))(self._targets, sources, step)
        for target, source in zip(self._target_counters, counters, strict=True):
            target.copy_(source)


def _split(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Floating point state to average, and counters to copy."""
    state: Iterable[Tensor] = [value.detach() for value in module.state_dict(keep_vars=True).values()]
    floating = [value for value in state if value.is_floating_point()]
    return floating, [value for value in state if not value.is_floating_point()]
