"""Depthwise convolutions whose backward pass is fast on CPUs.

oneDNN computes the weight gradient of a depthwise convolution with vector code only for strides of 1 and up
to three columns; everything else falls back to a path that costs 9 times (float32) to 50 times (bfloat16)
the forward pass. Both cases lead back to the fast one: the gradient of a wide kernel is the side-by-side
gradient of narrow ones over shifted inputs; a strided convolution is one of stride 1 of whose output every
second value is kept, so its gradient is that of stride 1 with zeros in between. The input gradient is the
convolution with the flipped kernel, which in bfloat16 takes half the time of the generic backward call.
`benchmarks/training.py` measures the whole.

The values are the same as those of `torch.nn.Conv2d`, up to the order of additions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from falconet.training.swap import swap_convolutions

COLUMNS = 3
"""Kernel columns per call: the widest kernel with a fast weight gradient."""


class _DepthwiseConv(torch.autograd.Function):
    """Depthwise convolution with an odd kernel, padded by half of it."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride = stride
        return _same_convolution(inputs, weight, stride, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        grad_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        if ctx.stride == 1:
            grad = grad.contiguous(memory_format=torch.channels_last)
        else:
            spread = torch.zeros_like(inputs, memory_format=torch.channels_last)
            spread[..., :: ctx.stride, :: ctx.stride] = grad
            grad = spread
        grad_inputs = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_inputs = _same_convolution(grad, weight.flip(2, 3))
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(inputs, grad, weight)
        return grad_inputs, grad_weight, grad_bias, None


def _same_convolution(inputs: Tensor, weight: Tensor, stride: int = 1, bias: Tensor | None = None) -> Tensor:
    rows, columns = weight.shape[2:]
    return F.conv2d(inputs, weight, bias, stride=stride, padding=(rows // 2, columns // 2), groups=weight.shape[0])


def _weight_gradient(
    inputs: Float[Tensor, "B C H W"], grad: Float[Tensor, "B C H W"], weight: Float[Tensor, "C 1 R S"]
) -> Float[Tensor, "C 1 R S"]:
    """Gradient of the kernel, computed at most `COLUMNS` columns at a time."""
    rows, columns = weight.shape[2:]
    if columns <= COLUMNS:
        return _narrow_weight_gradient(inputs, grad, weight, (rows // 2, columns // 2))
    gradient = torch.empty_like(weight)
    for first in range(0, columns, COLUMNS):
        start = min(first, columns - COLUMNS)  # the last call overlaps rather than being narrower
        # Column s of the kernel reads the input at x + s - columns // 2.
        left = columns // 2 - start
        right = start + COLUMNS - 1 - columns // 2
        part = gradient[..., start : start + COLUMNS]
        if max(-left, -right) >= inputs.shape[-1]:  # these columns only ever see padding
            part.zero_()
            continue
        window = F.pad(inputs, (left, right)).contiguous(memory_format=torch.channels_last)
        part.copy_(_narrow_weight_gradient(window, grad, part, (rows // 2, 0)))
    return gradient


def _narrow_weight_gradient(inputs: Tensor, grad: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    gradient: Tensor = torch.ops.aten.convolution_backward(
        grad,
        inputs,
        weight,
        None,
        [1, 1],
        list(padding),
        [1, 1],
        False,
        [0, 0],
        weight.shape[0],
        [False, True, False],
    )[1]
    return gradient


class FastDepthwiseConv2d(nn.Conv2d):
    """A depthwise `nn.Conv2d` with the backward pass of this file; the output is the same."""

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What `nn.Conv2d` calls with its weights, in the autocast type where autocast is on."""
        kind = inputs.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            inputs, weight = inputs.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        output: Tensor = _DepthwiseConv.apply(inputs, weight, bias, self.stride[0])
        return output


def _is_eligible(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels
        and module.stride[0] == module.stride[1]
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and all(size % 2 == 1 for size in module.kernel_size)
        and module.padding == tuple(size // 2 for size in module.kernel_size)
    )


def use_fast_depthwise(model: nn.Module) -> int:
    """Replace, in place, every depthwise convolution that qualifies; returns how many were.

    Parameters, their names and the outputs stay what they were; only the backward pass changes.
    """
    return swap_convolutions(model, _is_eligible, FastDepthwiseConv2d)
