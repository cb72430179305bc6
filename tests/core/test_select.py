"""Selection: paper examples, a plain loop, ties, limits, nothing at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.boxes import pairwise_iou
from falconet.core.manifest import Selection
from falconet.core.select import best_pairs, class_nms, select
from falconet.core.types import Placement

UNMOVED = Placement((1.0, 1.0), (0.0, 0.0), (100, 100))
NONE = np.zeros((0, 4), np.float32)


def _floats(values):
    return np.array(values, np.float32)


def test_pairs_score_above_the_threshold():
    scores = _floats([[0.2, 0.5], [0.3, 0.1], [0.31, 0.9]])
    rows, classes = best_pairs(scores, threshold=0.3, limit=10)
    # 0.3 in float32 is what it is compared with: equal is not above.
    assert list(zip(rows, classes, strict=True)) == [(0, 1), (2, 0), (2, 1)]


def test_the_best_pairs_within_the_limit():
    scores = _floats([[0.9, 0.8], [0.7, 0.6], [0.95, 0.1]])
    rows, classes = best_pairs(scores, threshold=0.05, limit=3)
    assert list(zip(rows, classes, strict=True)) == [(0, 0), (0, 1), (2, 0)]


def test_ties_at_the_limit_are_decided_by_position():
    scores = _floats([[0.5, 0.5], [0.9, 0.5], [0.5, 0.5]])
    rows, classes = best_pairs(scores, threshold=0.1, limit=3)
    assert list(zip(rows, classes, strict=True)) == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("shape", [(0, 3), (4, 3), (4, 0)])
def test_no_pairs(shape):
    rows, classes = best_pairs(np.zeros(shape, np.float32), threshold=0.25, limit=5)
    assert len(rows) == len(classes) == 0


def test_nms_by_hand():
    # The second overlaps the first by 0.8, the third by 0.5; the fourth is the first in another class.
    boxes = _floats([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 10]])
    kept = class_nms(boxes, _floats([0.5, 0.9, 0.4, 0.3]), np.array([7, 7, 7, 2]), iou_threshold=0.7)
    assert kept.tolist() == [1, 2, 3]
    kept = class_nms(boxes, _floats([0.5, 0.9, 0.4, 0.3]), np.array([7, 7, 7, 2]), iou_threshold=0.6)
    assert kept.tolist() == [1, 3]


def test_an_iou_of_exactly_the_threshold_is_kept():
    boxes = _floats([[0, 0, 4, 4], [0, 0, 4, 2]])
    labels = np.array([0, 0])
    assert class_nms(boxes, _floats([0.9, 0.8]), labels, iou_threshold=0.5).tolist() == [0, 1]


def test_equal_scores_are_decided_by_position():
    boxes = _floats([[0, 0, 4, 4], [0, 0, 4, 4], [20, 20, 30, 30]])
    labels = np.array([0, 0, 0])
    assert class_nms(boxes, _floats([0.5, 0.5, 0.5]), labels, iou_threshold=0.5).tolist() == [0, 2]


def test_boxes_without_area_do_not_disturb():
    boxes = _floats([[5, 5, 5, 5], [0, 0, 10, 10], [5, 5, 5, 5]])
    labels = np.array([0, 0, 0])
    assert class_nms(boxes, _floats([0.9, 0.8, 0.7]), labels, iou_threshold=0.5).tolist() == [0, 1, 2]


def _greedy(boxes, scores, labels, iou_threshold):
    overlaps = pairwise_iou(boxes, boxes)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if labels[other] == labels[index]]
        if all(overlaps[other, index] <= iou_threshold for other in rivals):
            kept.append(int(index))
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 40),
    num_classes=st.integers(1, 5),
    iou_threshold=st.sampled_from([0.0, 0.3, 0.6, 0.95]),
    steps=st.sampled_from([3, 1000]),
)
def test_nms_is_the_greedy_loop(seed, count, num_classes, iou_threshold, steps):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 20, (count, 2))], 1).astype(np.float32)
    # With few steps many scores are equal.
    scores = (rng.integers(1, steps + 1, count) / steps).astype(np.float32)
    labels = rng.integers(0, num_classes, count)
    kept = class_nms(boxes, scores, labels, iou_threshold=iou_threshold)
    assert kept.tolist() == _greedy(boxes, scores, labels, iou_threshold)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), P=st.integers(0, 30), C=st.integers(1, 4), limit=st.integers(1, 40))
def test_pairs_are_the_sorted_ones(seed, P, C, limit):
    scores = np.random.default_rng(seed).integers(0, 9, (P, C)).astype(np.float32) / 8
    rows, classes = best_pairs(scores, threshold=0.3, limit=limit)
    everything = [(row, c) for row in range(P) for c in range(C) if scores[row, c] > 0.3]
    best = sorted(everything, key=lambda pair: -scores[pair])[:limit]
    assert list(zip(rows.tolist(), classes.tolist(), strict=True)) == sorted(best)


def test_select_by_hand():
    boxes = _floats([[10, 10, 50, 50], [12, 10, 50, 50], [60, 60, 120, 120]])
    scores = _floats([[0.9, 0.4], [0.8, 0.1], [0.3, 0.5]])
    placement = Placement((0.5, 0.25), (10.0, 0.0), (400, 200))
    found = select(boxes, scores, placement, Selection(score_threshold=0.25), names=("cat", "dog"))
    assert found.labels.tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 0.4, 0.3])
    # x' = (x - 10) * 2 and y' = y * 4, cut to 200 x 400.
    cat, far = [0, 40, 80, 200], [100, 240, 200, 400]
    np.testing.assert_allclose(found.boxes, [cat, far, cat, far])
    assert found.names == ("cat", "dog")


def test_select_keeps_the_best_detections():
    boxes = _floats([[x, 0, x + 5, 5] for x in range(0, 90, 10)])
    scores = np.linspace(0.3, 0.9, 9, dtype=np.float32)[:, None]
    found = select(boxes, scores, UNMOVED, Selection(max_detections=4))
    np.testing.assert_allclose(found.scores, scores[:4:-1, 0])
    assert found.boxes[:, 0].tolist() == [80, 70, 60, 50]


def test_select_some_classes():
    boxes = _floats([[0, 0, 10, 10], [20, 20, 30, 30]])
    scores = _floats([[0.9, 0.5, 0.6], [0.8, 0.7, 0.3]])
    selection = Selection(max_candidates=2)
    found = select(boxes, scores, UNMOVED, selection, names=("a", "b", "c"), classes=np.array([2, 1]))
    # The pairs of class "a" score best, but take no candidate's place.
    assert [(name, round(score, 4)) for name, score, _ in found] == [("b", 0.7), ("c", 0.6)]


@pytest.mark.parametrize(("P", "C"), [(0, 3), (5, 3), (3, 0)])
def test_select_nothing(P, C):
    found = select(np.zeros((P, 4), np.float32), np.zeros((P, C), np.float32), UNMOVED, Selection())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert class_nms(NONE, NONE[:, 0], np.zeros(0, np.int64), iou_threshold=0.5).shape == (0,)


def test_selecting_twice_is_selecting_once():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 80, (200, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 15], 1)
    scores = rng.random((200, 3)).astype(np.float32)
    first = select(boxes, scores, UNMOVED, Selection())
    again = np.zeros((len(first), 3), np.float32)
    again[np.arange(len(first)), first.labels] = first.scores
    second = select(first.boxes, again, UNMOVED, Selection())
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.labels, second.labels)
