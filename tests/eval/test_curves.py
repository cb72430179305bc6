"""Curves, confusion, kinds of error and the result of each picture, on cases small enough for paper."""

import numpy as np
import pytest

from falconet.eval.coco_ap import run
from falconet.eval.curves import confusion, error_kinds, pictures, precision_recall, worst_and_best
from tests.eval.test_coco_ap import NAMES, NOTHING, found, random_set, record

BOX, OTHER, FAR = [0, 0, 50, 50], [100, 0, 150, 50], [300, 300, 350, 350]


def test_curve_of_one_hit_and_one_miss():
    records = [record(1, [BOX, OTHER], [0, 0])]
    curves = precision_recall(run(NAMES, records, [found([BOX], [0.8], [0])]), NAMES)
    assert [curve.name for curve in curves] == ["ant"]  # the others have no truth
    curve = curves[0]
    reached = curve.recall <= 0.5
    np.testing.assert_allclose(curve.precision, reached.astype(float))
    assert curve.ap50 == pytest.approx(51 / 101)


def test_curve_without_a_detection_is_zero():
    (curve,) = precision_recall(run(NAMES, [record(1, [BOX], [1])], [NOTHING]), NAMES)
    assert curve.ap50 == 0


def test_confusion_counts_wrong_class_nothing_and_missed():
    records = [record(1, [BOX, OTHER], [0, 1])]
    detections = [found([BOX, FAR], [0.9, 0.8], [2, 1])]
    table = confusion(run(NAMES, records, detections), NAMES, score=0.5)
    assert table.matrix.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert table.names == NAMES


def test_confusion_leaves_out_low_scores():
    table = confusion(run(NAMES, [record(1, [BOX], [0])], [found([BOX], [0.3], [0])]), NAMES, score=0.5)
    assert table.matrix.tolist() == [[0, 0, 0, 1], [0] * 4, [0] * 4, [0] * 4]


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([BOX], [1], {"wrong class": 1}),
        ([[0, 0, 50, 20]], [0], {"badly placed": 1}),
        ([[0, 0, 50, 20]], [1], {"wrong class and place": 1, "missed": 1}),
        ([BOX, BOX], [0, 0], {"found twice": 1}),
        ([BOX, FAR], [0, 0], {"nothing there": 1}),
        ([], [], {"missed": 1}),
    ],
)
def test_each_kind_of_error_is_recognised(boxes, labels, expected):
    detections = [found(boxes, np.linspace(0.9, 0.8, len(boxes)), labels)]
    kinds = error_kinds(run(NAMES, [record(1, [BOX], [0])], detections))
    assert len(kinds) == 6
    assert {k.name: k.count for k in kinds if k.count} == expected


def test_picture_results_by_hand():
    records = [record("a", [BOX, OTHER], [0, 1]), record("b", [], []), record("c", [BOX], [0], np.array([True]))]
    detections = [found([BOX, FAR, OTHER], [0.9, 0.8, 0.2], [0, 0, 1]), NOTHING, found([BOX], [0.9], [0])]
    first, empty, crowd = pictures(NAMES, records, detections, score=0.25)
    assert (first.true, first.false, first.missed, first.f1) == (1, 1, 1, 0.5)
    assert first.detection_right.tolist() == [True, False]
    assert first.truth_found.tolist() == [True, False]
    assert (empty.true, empty.false, empty.missed, empty.f1) == (0, 0, 0, 1)
    assert (crowd.false, crowd.missed) == (0, 0)


def test_worst_and_best_do_not_overlap():
    records, detections = random_set(3, images=10, most=5)
    results = pictures(NAMES, records, detections, score=0.25)
    worst, best = worst_and_best(results, count=6)
    assert not {r.index for r in worst} & {r.index for r in best}
    assert all(r.false + r.missed for r in worst)
    assert all(r.true for r in best)
    assert [r.f1 for r in worst] == sorted(r.f1 for r in worst)


def test_nothing_at_all():
    evaluator = run(NAMES, [], [])
    assert precision_recall(evaluator, NAMES) == []
    assert confusion(evaluator, NAMES, score=0.25).matrix.sum() == 0
    assert sum(kind.count for kind in error_kinds(evaluator)) == 0
    assert pictures(NAMES, [], [], score=0.25) == []
    assert worst_and_best([], count=3) == ([], [])
