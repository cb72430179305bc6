"""Folded-away batch norms get their statistics back without a change of the function."""

import torch
from torch import nn

from falconet.models import build
from falconet.models.nanodet_plus import NanoDetPlusConfig
from falconet.models.norms import measure_norms, unmeasured


def _blank_detector() -> nn.Module:
    """A small detector whose norms are identities, as after an import; its convolutions carry some scale."""
    config = NanoDetPlusConfig.model_validate(
        {"backbone": {"name": "shufflenet-v2", "width": 0.5}, "neck": {"channels": 32}, "head": {"channels": 32}}
    )
    torch.manual_seed(0)
    detector = build(config, 3).eval()
    for part in detector.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return detector


def test_by_hand() -> None:
    norm = nn.BatchNorm2d(1, eps=0.0)
    norm.bias.data.fill_(5.0)
    images = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    model = nn.Sequential(norm).eval()
    assert measure_norms(model, [images]) == 2
    assert norm.running_mean.tolist() == [2.0]
    assert norm.running_var.tolist() == [1.0]
    assert (norm.weight.item(), norm.bias.item()) == (1.0, 7.0)
    assert model(images).flatten().tolist() == [6.0, 8.0]


def test_the_function_stays_and_training_sees_the_same() -> None:
    detector = _blank_detector()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert unmeasured(detector)
    before = detector(images)
    trained_before = detector.train()(images).logits
    detector = _blank_detector()
    assert measure_norms(detector, [images[:2], images[2:]]) == 4
    assert not unmeasured(detector)
    assert not detector.training
    after = detector(images)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after.box_code, before.box_code, rtol=1e-3, atol=1e-3)
    trained_after = detector.train()(images).logits
    error = (trained_after - before.logits).norm() / before.logits.norm()
    blank_error = (trained_before - before.logits).norm() / before.logits.norm()
    assert error < 0.01 < blank_error


def test_without_pictures_nothing_changes() -> None:
    detector = _blank_detector()
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    assert measure_norms(detector, []) == 0
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())
    assert unmeasured(detector)


def test_a_model_without_norms() -> None:
    assert not unmeasured(nn.Conv2d(1, 1, 1))
