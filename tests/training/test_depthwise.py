"""The fast backward pass gives the gradients of torch's own convolution."""

import copy

import pytest
import torch
from torch import nn

from falconet.training.depthwise import FastDepthwiseConv2d, use_fast_depthwise


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (7, 7), (3, 5), (5, 3), (9, 1), (1, 9)])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 8)])
@pytest.mark.parametrize(("stride", "bias"), [(1, False), (1, True), (2, False), (3, True)])
def test_gradients_equal_those_of_conv2d(
    kernel: tuple[int, int], size: tuple[int, int], stride: int, bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2)
    plain = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, padding=padding, groups=6, bias=bias)).double()
    fast = copy.deepcopy(plain)
    assert use_fast_depthwise(fast) == 1
    assert isinstance(fast[0], FastDepthwiseConv2d)
    images = torch.randn(3, 6, *size, generator=generator, dtype=torch.float64)
    weight_of_output = torch.randn(plain(images).shape, generator=generator, dtype=torch.float64)
    results = []
    for model in (plain, fast):
        inputs = images.clone().requires_grad_()
        output = model(inputs)
        (output * weight_of_output).sum().backward()
        results.append([output.detach(), inputs.grad, *[p.grad for p in model.parameters()]])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_only_what_qualifies_is_replaced_and_names_stay() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 4, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2), groups=4),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"),
    )
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    assert use_fast_depthwise(model) == 1
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before
    assert use_fast_depthwise(model) == 0


def test_under_autocast_it_computes_in_bfloat16() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    use_fast_depthwise(model)
    images = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert model[0].weight.grad.dtype == torch.float32
    # The sum's gradient to each input pixel is the sum of the kernel taps that reach it: inside, all of them.
    inner = images.grad[:, :, 2:6, 2:6]
    expected = model[0].weight.sum((1, 2, 3))[None, :, None, None].expand_as(inner)
    torch.testing.assert_close(inner, expected.detach(), rtol=0.02, atol=0.02)
