"""1x1 convolutions of stride 2 that read an image, as in the stem of RepVGG, without oneDNN's own backward pass.

In torch 2.13 on a CPU with AVX2 alone, the weight gradient of a 1x1 convolution of stride 2 with fewer than 8 input
channels in channels_last order writes past the end of its memory: the process dies, or computes on with what it has
overwritten. A convolution of stride 1 of every second value in each direction has the same values and gradients.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from falconet.training.swap import swap_convolutions

SAFE_CHANNELS = 8
"""With so many input channels nothing is overwritten: a vector of AVX2."""


class StridedPointwiseConv2d(nn.Conv2d):
    """A 1x1 `nn.Conv2d` that leaves values out first; output and gradients are the same."""

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What `nn.Conv2d` calls with its weights."""
        rows, columns = self.stride
        return F.conv2d(inputs[..., ::rows, ::columns], weight, bias, groups=self.groups)


def _is_eligible(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (1, 1)
        and module.padding == (0, 0)
        and max(module.stride) > 1
        and module.in_channels < SAFE_CHANNELS
    )


def avoid_strided_pointwise(model: nn.Module) -> int:
    """Replace, in place, every convolution that might overwrite memory; returns how many were.

    Parameters, their names and the outputs stay what they were.
    """
    return swap_convolutions(model, _is_eligible, StridedPointwiseConv2d)
