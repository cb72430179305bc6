"""Building blocks, and the shape checks that run in all tests of networks."""

import pytest
import torch
from torch import nn

from falconet.models.layers import ACTIVATIONS, ConvNormAct, SeparableConv
from falconet.models.types import HeadOutputs, Priors


def test_leaky_slope_is_a_tenth():
    assert ACTIVATIONS["leaky-relu"]()(torch.tensor([-2.0, 3.0])).tolist() == pytest.approx([-0.2, 3.0])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_keeps_the_shape(name):
    assert ACTIVATIONS[name]()(torch.randn(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(("side", "stride", "expected"), [(7, 1, 7), (7, 2, 4), (8, 2, 4), (1, 2, 1)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_side_is_rounded_up(side, stride, expected, kernel_size):
    block = ConvNormAct(4, 6, kernel_size, stride=stride)
    assert block(torch.randn(2, 4, side, side)).shape == (2, 6, expected, expected)


def test_depthwise_keeps_channels_apart():
    block = ConvNormAct(3, 3, 3, depthwise=True, activation="none").eval()
    image = torch.zeros(1, 3, 5, 5)
    image[0, 1, 2, 2] = 1
    assert block(image).detach().abs().sum((0, 2, 3)).gt(0).tolist() == [False, True, False]
    with pytest.raises(AssertionError, match="each channel gets the same number of filters"):
        ConvNormAct(3, 4, depthwise=True)


def test_separable_conv_has_two_activations():
    block = SeparableConv(4, 8, 5, stride=2, activation="leaky-relu")
    assert block(torch.randn(1, 4, 9, 6)).shape == (1, 8, 5, 3)
    assert sum(isinstance(m, nn.LeakyReLU) for m in block.modules()) == 2
    assert sum(p.numel() for p in block.parameters()) == 4 * 25 + 8 + 4 * 8 + 16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(layout):
    features = torch.randn(2, 8, 12, 12).contiguous(memory_format=layout)
    assert SeparableConv(8, 16, 3)(features).is_contiguous(memory_format=layout)


def test_shapes_in_signatures_are_checked():
    pytest.importorskip("beartype")
    priors = Priors(torch.zeros(5, 2), torch.zeros(5, 1))
    with pytest.raises(TypeError, match="Type-check error"):
        HeadOutputs(torch.zeros(1, 5, 3), torch.zeros(1, 4, 8), None, priors)
    with pytest.raises(TypeError, match="Type-check error"):
        ConvNormAct(3, 8)(torch.zeros(3, 16, 16))
