"""What a network costs, counted without running it."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import ModelConfig, build


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


def cost(config: ModelConfig, num_classes: int) -> Cost:
    """The cost of the network that `config` describes. Tensors without values are counted: it takes no memory."""
    with torch.device("meta"):
        network = build(config, num_classes).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, config.input.height, config.input.width))
    return Cost(sum(one.numel() for one in network.parameters()), counter.get_total_flops() // 2)
