"""Varifocal and focal loss: the formula written out, gradients by autograd and by differences, nothing to find."""

import math

import pytest
import torch
import torch.nn.functional as F

from falconet.training.losses import focal_loss, quality_focal_loss, varifocal_loss

ROWS, LABELS = torch.tensor([1, 4, 5]), torch.tensor([2, 0, 1])
QUALITY = torch.tensor([0.8, 0.3, 0.0])


def _logits(dtype=torch.float64) -> torch.Tensor:
    return torch.randn(7, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 3


def _targets() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, and where something should be found."""
    scores, found = torch.zeros(7, 3, dtype=torch.float64), torch.zeros(7, 3, dtype=torch.bool)
    scores[ROWS, LABELS] = QUALITY.double()
    found[ROWS, LABELS] = True
    return scores, found


def _written_out(kind: str, logits: torch.Tensor) -> torch.Tensor:
    scores, found = _targets()
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    if kind == "varifocal":
        weight = torch.where(found, scores, 0.75 * probability.square())
    else:
        weight = (probability - scores).square() * (0.25 * scores + 0.75 * (1 - scores))
    return (entropy * weight).sum(-1)


LOSSES = {"varifocal": varifocal_loss, "focal": focal_loss}


@pytest.mark.parametrize("kind", LOSSES)
def test_the_formula_and_its_gradient(kind: str) -> None:
    ours, theirs = _logits().requires_grad_(), _logits().requires_grad_()
    value, expected = LOSSES[kind](ours, ROWS, LABELS, QUALITY.double()), _written_out(kind, theirs)
    torch.testing.assert_close(value, expected)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    (value * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_by_differences(kind: str) -> None:
    logits = _logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[kind](x, ROWS, LABELS, QUALITY.double()), (logits,))


@pytest.mark.parametrize("kind", LOSSES)
def test_nothing_to_find(kind: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    logits = _logits().requires_grad_()
    value = LOSSES[kind](logits, none, none, torch.zeros(0, dtype=torch.float64))
    probability = logits.detach().sigmoid()
    torch.testing.assert_close(value, (0.75 * probability.square() * F.softplus(logits)).sum(-1))
    value.sum().backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()
    assert LOSSES[kind](logits[:0], none, none, torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize("kind", LOSSES)
def test_half_precision_is_computed_in_float32(kind: str) -> None:
    logits = _logits(torch.bfloat16).requires_grad_()
    value = LOSSES[kind](logits, ROWS, LABELS, QUALITY)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LOSSES[kind](logits.float(), ROWS, LABELS, QUALITY))
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_by_hand() -> None:
    zero = torch.zeros(1, 2)
    place = (torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
    # Background: 0.75 * 0.25 * log 2. The other class: entropy log 2, weighted by its target.
    assert varifocal_loss(zero, *place).item() == pytest.approx((0.75 / 4 + 0.5) * math.log(2))
    # Focal: the other class is exactly right.
    assert focal_loss(zero, *place).item() == pytest.approx(0.75 / 4 * math.log(2))


def test_focal_loss_of_one_half_weighs_both_sides_alike() -> None:
    logits = _logits()
    both = focal_loss(logits, ROWS, LABELS, QUALITY.double(), alpha=0.5)
    torch.testing.assert_close(both, quality_focal_loss(logits, ROWS, LABELS, QUALITY.double()) / 2)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_the_power_of_quality_focal_loss(beta: float) -> None:
    """Value and gradient against the definition, by autograd."""
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    rows, labels, quality = torch.tensor([1, 4]), torch.tensor([3, 0]), torch.tensor([0.7, 0.2], dtype=torch.float64)
    targets = torch.zeros(6, 4, dtype=torch.float64)
    targets[rows, labels] = quality
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = (entropy * (targets - logits.sigmoid()).abs().pow(beta)).sum(1)
    found = quality_focal_loss(logits, rows, labels, quality, beta=beta)
    torch.testing.assert_close(found, expected)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (ours,) = torch.autograd.grad((found * weights).sum(), logits)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(ours, theirs)
