"""Losses on paper examples, against their formulas, and on nothing at all."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.training import losses


@pytest.mark.parametrize(
    ("box", "other", "overlap", "iou", "giou"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 16, 1, 1),
        ([0, 0, 4, 4], [2, 2, 6, 6], 4, 4 / 28, 4 / 28 - 8 / 36),
        ([0, 0, 1, 1], [3, 0, 4, 1], 0, 0, -2 / 4),
        ([0, 0, 4, 4], [1, 1, 3, 3], 4, 4 / 16, 4 / 16),
        ([2, 2, 2, 2], [5, 5, 5, 5], 0, 0, -1),
    ],
    ids=["same", "shifted", "apart", "within", "no area"],
)
def test_overlaps_by_hand(box, other, overlap, iou, giou):
    box, other = torch.tensor(box, dtype=torch.float32), torch.tensor(other, dtype=torch.float32)
    assert losses.overlap_area(box, other).item() == overlap
    assert losses.iou(box, other).item() == pytest.approx(iou)
    assert losses.generalized_iou(box, other).item() == pytest.approx(giou, abs=1e-6)
    assert losses.generalized_iou_loss(box, other).item() == pytest.approx(1 - giou, abs=1e-6)


def _aspect(angle, other, shared):
    shape = 4 / math.pi**2 * (angle - other) ** 2
    return shape * shape / (1 - shared + shape)


@pytest.mark.parametrize(
    ("box", "other", "ciou"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1),
        ([0, 0, 4, 4], [2, 2, 6, 6], 4 / 28 - 8 / 72),
        ([0, 0, 1, 1], [3, 0, 4, 1], 0 - 9 / 17),
        ([0, 0, 4, 2], [0, 0, 2, 4], 4 / 12 - 2 / 32 - _aspect(math.atan(2), math.atan(0.5), 4 / 12)),
        ([2, 2, 2, 2], [5, 5, 5, 5], -1),
        ([0, 0, 4, 0], [0, 0, 4, 4], 0 - 4 / 32 - _aspect(math.pi / 2, math.pi / 4, 0)),
    ],
    ids=["same", "shifted", "apart", "upright", "no area", "flat"],
)
def test_complete_iou_by_hand(box, other, ciou):
    box = torch.tensor(box, dtype=torch.float32, requires_grad=True)
    loss = losses.complete_iou_loss(box, torch.tensor(other, dtype=torch.float32))
    assert loss.item() == pytest.approx(1 - ciou, abs=1e-6)
    loss.backward()
    assert bool(box.grad.isfinite().all())


def test_complete_iou_loss_has_the_gradient_of_its_formula_with_a_fixed_weight():
    box = torch.tensor([1.0, 2, 9, 5], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([2.0, 1, 7, 9], dtype=torch.float64)
    losses.complete_iou_loss(box, other).backward()
    fixed = box.detach()
    shared = losses.iou(fixed, other)
    angles = torch.atan2(fixed[2] - fixed[0], fixed[3] - fixed[1]) - torch.atan2(
        other[2] - other[0], other[3] - other[1]
    )
    shape = 4 / math.pi**2 * angles.square()
    weight = shape / (1 - shared + shape)

    def formula(values):
        centre = (values[:2] + values[2:] - other[:2] - other[2:]) / 2
        low, high = torch.minimum(values[:2], other[:2]), torch.maximum(values[2:], other[2:])
        sides = values[2:] - values[:2]
        turned = torch.atan(sides[0] / sides[1]) - torch.atan((other[2] - other[0]) / (other[3] - other[1]))
        distance = centre.square().sum() / (high - low).square().sum()
        return 1 - losses.iou(values, other) + distance + weight * 4 / math.pi**2 * turned.square()

    copy = fixed.clone().requires_grad_()
    formula(copy).backward()
    torch.testing.assert_close(box.grad, copy.grad)


def test_overlaps_broadcast_to_all_pairs():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]])
    others = torch.tensor([[0.0, 0, 2, 2], [2, 2, 4, 4], [0, 0, 1, 1]])
    expected = torch.tensor([[1, 0, 1 / 4], [1 / 7, 1 / 7, 0]])
    torch.testing.assert_close(losses.iou(boxes[:, None], others), expected)


def test_overlap_in_half_precision_is_computed_in_float32():
    box = torch.tensor([[100.0, 100, 101, 101]], dtype=torch.bfloat16)
    other = torch.tensor([[100.0, 100, 102, 101]], dtype=torch.bfloat16)
    loss = losses.generalized_iou_loss(box, other)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5)


@pytest.mark.parametrize("distance", [0.0, 0.25, 3.0, 6.9])
def test_distribution_focal_loss_of_an_undecided_side(distance):
    loss = losses.distribution_focal_loss(torch.zeros(8), torch.tensor(distance))
    assert loss.item() == pytest.approx(math.log(8))


def test_distribution_focal_loss_weighs_the_two_nearest():
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    loss = losses.distribution_focal_loss(logits, torch.tensor([1.25]))
    assert loss.item() == pytest.approx(-0.75 * math.log(0.2) - 0.25 * math.log(0.3))


@pytest.mark.parametrize(
    ("label", "quality", "expected"),
    [
        (2, 0.0, 2 * math.log(2) / 4),  # background: 2 classes, each log 2 * 0.5^2
        (-1, 0.7, 2 * math.log(2) / 4),
        (0, 0.5, math.log(2) / 4),  # class 0 is exactly right, class 1 as above
        (0, 1.0, 2 * math.log(2) / 4),
        (1, 0.9, math.log(2) / 4 + math.log(2) * 0.4**2),
    ],
)
def test_quality_focal_loss_by_hand(label, quality, expected):
    loss = _quality_focal_loss(torch.zeros(1, 2), torch.tensor([label]), torch.tensor([quality]))
    assert loss.item() == pytest.approx(expected)


def _quality_focal_loss(logits, labels, quality):
    """For dense labels [N], of which those outside 0..C - 1 are background."""
    rows = ((labels >= 0) & (labels < logits.shape[-1])).nonzero().squeeze(1)
    return losses.quality_focal_loss(logits, rows, labels[rows], quality[rows])


def _quality_focal_by_the_formula(logits, labels, quality):
    C = logits.shape[-1]
    target = F.one_hot(labels, C + 1)[..., :C] * quality[..., None]
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (entropy * (target - logits.sigmoid()) ** 2).sum(-1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 7), st.floats(0.1, 20))
def test_quality_focal_loss_is_its_formula(seed, C, N, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(N, C, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, C + 1, (N,), generator=generator)
    quality = torch.rand(N, generator=generator, dtype=torch.float64)
    gradients = []
    for function in (_quality_focal_loss, _quality_focal_by_the_formula):
        leaf = logits.clone().requires_grad_()
        loss = function(leaf, labels, quality)
        (gradient,) = torch.autograd.grad(loss.square().sum(), leaf)
        gradients.append((loss.detach(), gradient))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-8)


def test_slopes_are_those_of_the_values():
    logits = torch.linspace(-6, 6, 24, dtype=torch.float64).reshape(3, 8).requires_grad_()
    labels, quality = torch.tensor([0, 8, 5]), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: _quality_focal_loss(x, labels, quality), logits)
    distances = torch.tensor([0.0, 2.7, 6.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: losses.distribution_focal_loss(x, distances), logits)
    boxes = torch.tensor([[0, 0, 4, 5], [1, 1, 3, 2.5], [9, 9, 12, 11]], dtype=torch.float64).requires_grad_()
    others = torch.tensor([[1, 2, 6, 7], [0, 0, 4, 4], [1, 1, 2, 2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: losses.generalized_iou_loss(x, others), boxes)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[-1e4, -100, 100, 1e4]]).requires_grad_()
    loss = _quality_focal_loss(logits, torch.tensor([0]), torch.tensor([0.5]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_bfloat16_logits_are_computed_in_float32():
    exact = torch.linspace(-5, 5, 40).reshape(5, 8).bfloat16()
    labels, quality = torch.tensor([0, 1, 8, 7, 8]), torch.linspace(0.1, 0.9, 5)
    half, full = exact.clone().requires_grad_(), exact.float().requires_grad_()
    loss_half = _quality_focal_loss(half, labels, quality)
    loss_full = _quality_focal_loss(full, labels, quality)
    assert loss_half.dtype == torch.float32
    assert torch.equal(loss_half, loss_full)
    loss_half.sum().backward()
    loss_full.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad.float(), full.grad, rtol=0.02, atol=1e-3)


def test_nothing_in_nothing_out():
    boxes = torch.zeros(0, 4, requires_grad=True)
    logits = torch.zeros(0, 8, requires_grad=True)
    none, no_labels = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    values = [
        losses.generalized_iou_loss(boxes, torch.zeros(0, 4)),
        losses.distribution_focal_loss(logits, none),
        _quality_focal_loss(logits, no_labels, none),
    ]
    for value in values:
        assert value.shape == (0,)
        value.sum().backward()
    assert losses.iou(torch.zeros(0, 1, 4), torch.zeros(3, 4)).shape == (0, 3)
