"""Strided 1x1 convolutions that read an image: the same values, and no memory that is overwritten."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from falconet.training.strided_pointwise import StridedPointwiseConv2d, avoid_strided_pointwise

TRAIN = """
import torch
from falconet.models.backbones.repvgg import RepVGGConfig
from falconet.training.strided_pointwise import avoid_strided_pointwise

torch.manual_seed(0)
network = RepVGGConfig(width=0.25).build().to(memory_format=torch.channels_last)
assert avoid_strided_pointwise(network) == 1
for _ in range(4):
    images = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)
    sum(features.square().mean() for features in network(images)).backward()
assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)
"""


@pytest.mark.parametrize(("stride", "size", "bias"), [(2, (8, 8), False), (2, (9, 7), True), ((1, 2), (5, 6), True)])
def test_values_and_gradients_stay(stride: int | tuple[int, int], size: tuple[int, int], bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 1, stride, bias=bias)).double()
    other = copy.deepcopy(plain)
    assert avoid_strided_pointwise(other) == 1
    assert isinstance(other[0], StridedPointwiseConv2d)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weight_of_output = torch.randn(plain(images).shape, generator=generator, dtype=torch.float64)
    results = []
    for model in (plain, other):
        inputs = images.clone().requires_grad_()
        output = model(inputs)
        (output * weight_of_output).sum().backward()
        results.append([output.detach(), inputs.grad, *[value.grad for value in model.parameters()]])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_others_stay_as_they_are() -> None:
    others = [nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(8, 4, 1, 2), nn.Conv2d(3, 4, 1, 2, 1)]
    assert avoid_strided_pointwise(nn.Sequential(*others)) == 0


def test_a_repvgg_learns() -> None:
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
