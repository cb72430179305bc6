"""DenseNet and CSPDenseNet: what bypasses a block, where the parts meet, and the parameters that this takes away."""

from functools import cache

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from falconet.models import CLASSIFIERS
from falconet.models.backbones import DenseNetConfig
from falconet.models.backbones.densenet import DenseBlock, NormAct, StagePlan, Transition
from tests.models.backbones.test_contract import randomise_norms


@cache
def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in CLASSIFIERS[name].build(1000).parameters())


def test_parameters_by_hand():
    # Half of 64, 128, 256, 512 channels bypasses 6, 12, 24, 16 layers: each layer's norm has 2, its first convolution
    # 128 numbers less per channel.
    passed = (32, 64, 128, 256)
    saved = sum(bypass * layers * (2 + 128) for bypass, layers in zip(passed, (6, 12, 24, 16), strict=True))
    assert parameters("cspdensenet-121-first") == parameters("densenet-121") - saved
    # A transition from I to O channels: I * (2 + O). Fusion last: only the dense part; full: another from O to O.
    sizes = list(zip((256, 512, 1024), (128, 256, 512), passed, strict=False))
    first = sum(i * (2 + o) for i, o, _ in sizes)
    last = sum((i - b) * (2 + o - b) for i, o, b in sizes)
    assert parameters("cspdensenet-121-last") == parameters("cspdensenet-121-first") - first + last
    assert parameters("cspdensenet-121-full") == parameters("cspdensenet-121-last") + sum(
        o * (2 + o) for _, o, _ in sizes
    )


def test_plan():
    assert DenseNetConfig().plan()[0] == StagePlan(in_channels=64, bypass=0, out_channels=256, passed_on=128)
    assert DenseNetConfig(fusion="last").plan()[3] == StagePlan(512, 256, 1024, 512)
    own = DenseNetConfig(layers=(1, 2, 3, 4), growth=10, fusion="first", bypass=0.25, compression=1)
    assert [stage.out_channels for stage in own.plan()] == [74, 94, 124, 164]
    assert own.build().channels == (94, 124, 164)


def test_a_dense_block_keeps_what_bypasses_it():
    block = DenseBlock(6, 2, growth=3, hidden_channels=12, bypass=2).eval()
    features = torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        output = block(features)
        torch.testing.assert_close(output[:, :6], features)
        first = block.layers[0](features[:, 2:])
        torch.testing.assert_close(output[:, 6:9], first)
        torch.testing.assert_close(output[:, 9:], block.layers[1](torch.cat((features[:, 2:], first), dim=1)))


@pytest.mark.parametrize("fusion", ["first", "last", "full"])
def test_where_the_parts_meet(fusion):
    torch.manual_seed(0)
    transition = Transition(StagePlan(4, 2, 10, 5), fusion=fusion, activation="relu").eval()
    features = torch.randn(1, 10, 4, 6)
    pool = nn.AvgPool2d(2)
    with torch.no_grad():
        output = transition(features)
        assert output.shape == (1, 5, 2, 3)
        dense = transition.block_transition(features[:, 2:])
        joined = torch.cat((features[:, :2], dense), dim=1)
        if fusion == "first":
            expected = transition.transition(features)
        else:
            assert dense.shape[1] == 3
            expected = transition.transition(joined) if fusion == "full" else joined
        torch.testing.assert_close(output, pool(expected))
    assert isinstance(transition.block_transition, nn.Identity) == (fusion == "first")
    assert isinstance(transition.transition, nn.Identity) == (fusion == "last")


def test_a_norm_before_its_convolution_becomes_one_scale():
    block = NormAct(5, activation="relu")
    randomise_norms(block)
    fused = block.eval().fused()
    features = torch.randn(2, 5, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(fused(features), block(features))
    assert sum(p.numel() for p in fused.parameters()) == 10


def test_a_transition_too_narrow_for_what_bypasses_is_refused():
    with pytest.raises(ValidationError, match=r"compression 0\.1 leaves 9 channels behind stage 0, of which 32 bypass"):
        DenseNetConfig(fusion="last", compression=0.1, layers=(1, 1, 1, 1))
