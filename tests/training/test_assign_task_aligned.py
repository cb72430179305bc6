"""Task-aligned assignment: by hand, against a plain loop over truths, with nothing to assign, with many classes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.boxes import pairwise_iou
from falconet.models.priors import make_priors
from falconet.training.assign.atss import atss_assign
from falconet.training.assign.task_aligned import task_aligned_assign
from falconet.training.batch import Targets, pad_targets

SIDE = 64
POINTS = make_priors((SIDE, SIDE), (8, 16, 32), offset=0.5).points
P = len(POINTS)


def _targets(*images: list[tuple[list[float], int]]) -> Targets:
    return pad_targets(
        [np.array([box for box, _ in truths], np.float32).reshape(-1, 4) for truths in images],
        [np.array([label for _, label in truths]) for truths in images],
    )


def _plain(
    logits: np.ndarray, boxes: np.ndarray, truths: np.ndarray, labels: np.ndarray, candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """One image, one truth at a time, in float64: (truth, quality)."""
    overlaps = pairwise_iou(truths.astype(np.float32), boxes.astype(np.float32)).astype(np.float64)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    alignment = scores[:, labels].T * overlaps**6
    takers: list[list[int]] = [[] for _ in range(len(boxes))]
    for index, (left, top, right, bottom) in enumerate(truths):
        inside = [i for i, (x, y) in enumerate(POINTS.tolist()) if left < x < right and top < y < bottom]
        for place in sorted(inside, key=lambda i: -alignment[index, i])[:candidates]:
            takers[place].append(index)
    truth = np.full(len(boxes), -1)
    for place, who in enumerate(takers):
        if who:
            truth[place] = who[0] if len(who) == 1 else int(overlaps[:, place].argmax())
    quality = np.zeros(len(boxes))
    for index in range(len(truths)):
        own = np.flatnonzero(truth == index)
        if len(own):
            scale = overlaps[index, own].max() / (alignment[index, own].max() + 1e-9)
            quality[own] = alignment[index, own] * scale
    return truth, quality


def test_close_places_need_not_lie_inside() -> None:
    """A truth smaller than a cell: no point lies inside of it, several lie within two strides of its centre."""
    targets = _targets([([17.5, 17.5, 18.5, 18.5], 0)])
    boxes = torch.tensor([17.5, 17.5, 18.5, 18.5]).expand(1, P, 4)
    none, _ = task_aligned_assign(torch.zeros(1, P, 1), boxes, POINTS, targets)
    assert (none == -1).all()
    strides = make_priors((SIDE, SIDE), (8, 16, 32), offset=0.5).strides.flatten()
    truth, quality = task_aligned_assign(torch.zeros(1, P, 1), boxes, POINTS, targets, reach=2 * strides, candidates=P)
    expected = (POINTS - 18).norm(dim=1) < 2 * strides
    assert torch.equal(truth[0] == 0, expected)
    assert 5 < expected.sum() < P
    torch.testing.assert_close(quality[0], expected.float())
    padded = pad_targets([np.zeros((0, 4)), np.array([[17.5, 17.5, 18.5, 18.5]])], [np.zeros(0), np.zeros(1)])
    truth, _ = task_aligned_assign(
        torch.zeros(2, P, 1), boxes.expand(2, P, 4), POINTS, padded, reach=2 * strides, candidates=P
    )
    assert (truth[0] == -1).all()


def test_by_hand() -> None:
    # One truth over the first four cells of 8 pixels and the first of 16. Its class scores 0.5 everywhere; the boxes
    # of two cells are perfect and half right, all others lie elsewhere.
    logits = torch.zeros(1, P, 2)
    boxes = torch.tensor([40.0, 40, 48, 48]).expand(1, P, 4).clone()
    boxes[0, 0] = torch.tensor([0.0, 0, 16, 16])
    boxes[0, 1] = torch.tensor([0.0, 0, 16, 8])
    truth, quality = task_aligned_assign(logits, boxes, POINTS, _targets([([0, 0, 16, 16], 1)]), candidates=2)
    assert truth[0, :3].tolist() == [0, 0, -1]
    # Alignments 0.5 and 0.5 * 0.5^6, scaled so that the best is the largest IoU, 1.
    assert quality[0, :2].tolist() == pytest.approx([1.0, 0.5**6])
    assert quality[0, 2:].sum() == 0


def test_a_contested_prediction_goes_to_the_truth_it_overlaps_most_even_one_that_did_not_take_it() -> None:
    # Both small truths want the first cell; its box is that of a third one, which holds other cells but not this one's
    # point.
    logits = torch.full((1, P, 1), 2.0)
    boxes = torch.zeros(1, P, 4)
    boxes[0, 0] = torch.tensor([0.0, 0, 9, 7])
    third = [4.5, 0.0, 9.0, 7.0]
    targets = _targets([([0, 0, 8, 8], 0), ([0, 0, 7, 7], 0), (third, 0)])
    overlaps = pairwise_iou(targets.boxes[0].numpy(), boxes[0, :1].numpy()).ravel()
    assert overlaps.argmax() == 0
    truth, _ = task_aligned_assign(logits, boxes, POINTS, targets)
    assert truth[0, 0] == 0
    boxes[0, 0] = torch.tensor(third)
    truth, quality = task_aligned_assign(logits, boxes, POINTS, targets)
    assert truth[0, 0] == 2
    assert quality[0, 0] == pytest.approx(1.0)


def test_padding_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, boxes = torch.randn(1, P, 3, generator=draw), _random_boxes(draw, P)[None]
    own = [([3.0, 4, 40, 50], 0), ([20.0, 20, 60, 60], 2)]
    alone = task_aligned_assign(logits, boxes, POINTS, _targets(own))
    other = [([1.0, 1, 60, 60], 1)] * 5
    together = task_aligned_assign(logits.expand(2, -1, -1), boxes.expand(2, -1, -1), POINTS, _targets(own, other))
    assert torch.equal(together.truth[0], alone.truth[0])
    assert torch.equal(together.quality[0], alone.quality[0])
    assert (alone.truth >= 0).any()


@pytest.mark.parametrize(
    "targets", [_targets([], []), Targets(torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), torch.zeros(2, 3).bool())]
)
def test_nothing_to_assign(targets: Targets) -> None:
    truth, quality = task_aligned_assign(torch.zeros(2, P, 4), torch.rand(2, P, 4), POINTS, targets)
    assert truth.tolist() == [[-1] * P] * 2
    assert quality.abs().sum() == 0


def test_a_truth_that_holds_no_point_takes_nothing() -> None:
    truth, _ = task_aligned_assign(torch.zeros(1, P, 1), torch.rand(1, P, 4), POINTS, _targets([([5, 5, 7, 7], 0)]))
    assert (truth == -1).all()


def test_memory_does_not_grow_with_the_classes() -> None:
    # All logits of a prediction share one number: as a whole tensor they would take 80 GB.
    logits = torch.randn(1, P, 1, generator=torch.Generator().manual_seed(0)).expand(1, P, 10**9 // P * 20)
    truth, _ = task_aligned_assign(logits, torch.rand(1, P, 4) * SIDE, POINTS, _targets([([0, 0, 40, 40], 10**6)]))
    assert (truth >= 0).sum() == 13


def _random_boxes(draw: torch.Generator, count: int) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=draw) * 50
    return torch.cat((corner, corner + 3 + torch.rand(count, 2, generator=draw) * 40), dim=-1)


def _around_the_middle(draw: torch.Generator, count: int) -> torch.Tensor:
    """Boxes that all overlap, so that no two predictions align equally little."""
    near, far = torch.rand(2, count, 2, generator=draw) * (SIDE / 2 - 3)
    return torch.cat((near, SIDE - far), dim=-1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12), candidates=st.integers(1, 15))
def test_as_a_plain_loop_does(seed: int, count: int, candidates: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    truths, labels = _around_the_middle(draw, count), torch.randint(3, (count,), generator=draw)
    boxes = _around_the_middle(draw, P)
    logits = torch.randn(P, 3, generator=draw)
    targets = pad_targets([truths.numpy()], [labels.numpy()])
    truth, quality = task_aligned_assign(logits[None], boxes[None], POINTS, targets, candidates=candidates)
    expected, score = _plain(logits.numpy(), boxes.numpy(), truths.numpy(), labels.numpy(), candidates)
    assert truth[0].tolist() == expected.tolist()
    np.testing.assert_allclose(quality[0].numpy(), score, rtol=1e-3, atol=1e-6)


def test_atss_as_paddle_does_it() -> None:
    priors = make_priors((16, 16), (8,), offset=0.5)
    anchors = torch.cat((priors.points - 4, priors.points + 4), dim=-1)
    # All four IoUs are the same, so none exceeds the mean plus no deviation; the original takes those that reach it.
    middle = _targets([([4, 4, 12, 12], 0)])
    assert atss_assign(anchors, [4], middle, inside_by=-5).tolist() == [[0, 0, 0, 0]]
    assert atss_assign(anchors, [4], middle, inside_by=-5, variant="paddle").tolist() == [[-1] * 4]


def test_atss_of_paddle_gives_a_contested_anchor_to_whom_it_overlaps_most() -> None:
    priors = make_priors((64, 64), (8, 16), offset=0.5)
    half = 2.5 * priors.strides
    anchors = torch.cat((priors.points - half, priors.points + half), dim=-1)
    sizes = [64, 16]
    targets = _targets([([8, 8, 44, 44], 0), ([10, 10, 46, 46], 0), ([2, 2, 41, 43], 0)])
    truth = atss_assign(anchors, sizes, targets, inside_by=1e-9, variant="paddle")[0]
    alone = [
        atss_assign(anchors, sizes, _targets([(targets.boxes[0, i].tolist(), 0)]), inside_by=1e-9, variant="paddle")[0]
        for i in range(3)
    ]
    taken = torch.stack([one >= 0 for one in alone])
    overlaps = pairwise_iou(targets.boxes[0].numpy(), anchors.numpy())
    contested = (taken.sum(0) > 1).nonzero().ravel()
    assert len(contested)
    for place in range(len(anchors)):
        if place in contested:
            assert truth[place] == overlaps[:, place].argmax()
        else:
            assert truth[place] == (int(taken[:, place].int().argmax()) if taken[:, place].any() else -1)
