"""Training with the rounding of 8-bit integers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from falconet.core.errors import ConfigError
from falconet.models.weights import load_weights
from falconet.training import fit, resume
from falconet.training.depthwise import FastDepthwiseConv2d, use_fast_depthwise
from falconet.training.rounded import round_activation, round_in_training, round_weight
from tests.training.test_folded_norms import Interrupted
from tests.training.tiny import assert_same_weights, draw, tiny_run


def test_weights_by_hand() -> None:
    weight = torch.tensor([[1.28, 0.009], [-0.64, 0.0]]).reshape(2, 2, 1, 1)
    # Steps of 0.02 and of 0.01: 64 and 0.45 of them, -64 and 0.
    expected = torch.tensor([[1.28, 0.0], [-0.64, 0.0]]).reshape(2, 2, 1, 1)
    torch.testing.assert_close(round_weight(weight), expected)
    assert torch.equal(round_weight(torch.zeros(2, 1, 3, 3)), torch.zeros(2, 1, 3, 3))


def test_activations_by_hand() -> None:
    features = torch.tensor([-0.55, 0.0, 0.004, 0.016, 2.0])
    torch.testing.assert_close(round_activation(features), torch.tensor([-0.55, 0.0, 0.0, 0.02, 2.0]))
    positive = torch.tensor([1.0, 2.55])  # 0 is in the range: steps of 0.01
    torch.testing.assert_close(round_activation(positive), positive)
    assert torch.equal(round_activation(torch.zeros(3)), torch.zeros(3))


def test_as_onnx_runtime_rounds() -> None:
    """Weights as `falconet quantize` stores them: the same integers."""
    from onnxruntime.quantization.quant_utils import QuantType, quantize_data

    weight = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    _, scale, integers = quantize_data(weight.numpy(), QuantType.QInt8.tensor_type, True, reduce_range=True)[-3:]
    step = np.abs(weight.numpy()).max() / 64
    assert float(np.asarray(scale).squeeze()) == pytest.approx(step, rel=1e-5)
    theirs = np.asarray(integers).reshape(weight.shape) * step
    np.testing.assert_allclose(round_weight(weight).numpy(), theirs, atol=1e-6)


def test_gradients_pass_and_evaluation_does_not_round() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 2, 1))
    use_fast_depthwise(network)
    assert isinstance(network[0], FastDepthwiseConv2d)
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    plain = network(images)
    assert round_in_training(network) == 2
    rounded = network(images)
    assert 1e-4 < (rounded - plain).abs().max() < 0.1
    rounded.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert images.grad is not None
    torch.testing.assert_close(network.eval()(images), plain)


def test_a_run_that_rounds(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    first = fit(tiny_run(data, tmp_path / "first"))
    with pytest.raises(ConfigError, match=r"train\.round_to=int8: .* but norms are batch"):
        fit(tiny_run(data, tmp_path / "none", "train.round_to=int8"))
    options = (f"train.weights={first}", "train.round_to=int8", "train.average_decay=0")
    whole = fit(tiny_run(data, tmp_path / "whole", *options))
    assert re.search(r"rounding: \d\d\d convolutions, as 8-bit integers", (whole / "train.log").read_text())
    plain = fit(tiny_run(data, tmp_path / "plain", options[0], options[2]))
    one, other = (load_weights(run / "last.safetensors")[0].state_dict() for run in (whole, plain))
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "cut", *options), callback=Interrupted())
    assert_same_weights(resume(tmp_path / "cut") / "last.safetensors", whole / "last.safetensors")
