"""What a network costs, counted without running it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import ModelConfig, build

UNCOUNTED = (nn.BatchNorm2d, nn.GroupNorm, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish)
"""Layers that neither multiply and add nor change a shape."""


class Cost(NamedTuple):
    """Of one network at the size of its input.

    Attributes:
        parameters: as it is trained: norms and parallel branches apart.
        macs: multiply-adds of convolutions and linear layers, for one image.
    """

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """Operations: two per multiply-add."""
        return 2 * self.macs

    def __str__(self) -> str:
        return f"{_short(self.parameters)} parameters, {_short(self.macs)} MACs ({_short(self.flops)} FLOPs)"


def _short(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.2f} M"


class WithoutValues(TorchFunctionMode):
    """While it is entered, weights get no first values: on torch's meta device there are none, and drawing them takes
    longer than to build the network."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:  # method-wrappers have no module
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def cost(config: ModelConfig, num_classes: int) -> Cost:
    """The cost of the network that `config` describes. Tensors without values are counted: it takes no memory."""
    with torch.device("meta"), WithoutValues():
        network = build(config, num_classes).eval()
    for module in network.modules():
        if isinstance(module, UNCOUNTED):  # left out: without values, torch takes longest with them
            module.forward = nn.Identity().forward
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, config.input.height, config.input.width))
    return Cost(sum(one.numel() for one in network.parameters()), counter.get_total_flops() // 2)
