"""Training with the rounding of 8-bit integers, so that the weights learn to bear it.

What `falconet quantize` rounds later is rounded here in the forward pass: the weights of each convolution by output
channel to 7 bits, its input as a whole to 8, over the range that it has in the batch. The backward pass takes rounding
for the identity ("Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877, section 3). Nothing is remembered from step to step, so a run goes on as if it had never stopped, and
what it writes are ordinary weights.
"""

from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_LIMIT = 64
"""Weights become integers from minus this to this: 7 bits, as in `falconet.exporting.quantize`."""

ACTIVATION_LIMIT = 255
"""Inputs become integers from 0 to this."""

SMALLEST = 1e-8
"""Step between two integers."""


class _Round(torch.autograd.Function):
    """The nearest multiples of `step`; backwards as if nothing was done."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor, step: Tensor) -> Tensor:
        return torch.div(values, step).round_().mul_(step)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def round_weight(weight: Tensor) -> Tensor:
    """The weight [O, I, h, w] of a convolution, as its 7-bit integers stand for it."""
    step = (weight.detach().abs().amax((1, 2, 3), keepdim=True) / WEIGHT_LIMIT).clamp_min(SMALLEST)
    rounded: Tensor = _Round.apply(weight, step)
    return rounded


def round_activation(features: Tensor) -> Tensor:
    """Features as 8-bit integers stand for them, over the range from their least to their greatest, 0 included.

    The integer that stands for 0 is a whole one, so which it is makes no difference to the values.
    """
    low, high = torch.aminmax(features.detach())
    step = ((high.clamp_min(0) - low.clamp_max(0)) / ACTIVATION_LIMIT).clamp_min(SMALLEST)
    rounded: Tensor = _Round.apply(features, step)
    return rounded


class _Rounding:
    """What a convolution does with its input and weights, both rounded before, while it trains."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv = conv
        self._plain: Any = conv._conv_forward

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._conv.training:
            return self._plain(inputs, weight, bias)  # type: ignore[no-any-return]
        return self._plain(round_activation(inputs), round_weight(weight), bias)  # type: ignore[no-any-return]


def round_in_training(model: nn.Module) -> int:
    """Make every convolution of `model` round, in place and in training mode; returns how many there are."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for conv in convolutions:
        conv._conv_forward = _Rounding(conv)
    return len(convolutions)
