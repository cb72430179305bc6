"""Counts above a threshold, and the threshold of the best F1, against counting by hand."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.types import Detections, Record
from falconet.eval import coco_ap
from falconet.eval.matching import match_all
from falconet.eval.operating_point import OperatingPoint, OperatingPoints
from tests.eval.test_bootstrap import made

SIDE = 10


def place(index: int) -> list[float]:
    return [20.0 * index, 0, 20.0 * index + SIDE, SIDE]


def record(labels: list[int], crowd: list[bool] | None = None) -> Record:
    boxes = np.array([place(index) for index in range(len(labels))], np.float32).reshape(-1, 4)
    marks = np.array([False] * len(labels) if crowd is None else crowd, bool)
    return Record("a", Path("a.jpg"), 400, 20, boxes, np.array(labels, np.int64), marks)


def found(*rows: tuple[int, float, int]) -> Detections:
    """(place, score, label) of each detection."""
    boxes = np.array([place(where) for where, _, _ in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([s for _, s, _ in rows], np.float32), np.array([c for _, _, c in rows], np.int64))


def points(records: list[Record], detections: list[Detections]) -> OperatingPoints:
    return OperatingPoints.of(coco_ap.run(("a", "b"), records, detections), records, detections)


def test_counts_at_a_threshold() -> None:
    records = [record([0, 0, 1]), record([])]
    detections = [found((0, 0.9, 0), (0, 0.8, 0), (1, 0.7, 1), (2, 0.3, 1)), found((5, 0.6, 0))]
    all_points = points(records, detections)
    # A second detection, a wrong class and a detection of nothing are false.
    assert all_points.at(0.0) == OperatingPoint(0.0, found=2, missed=1, false=3)
    assert all_points.at(0.65) == OperatingPoint(0.65, found=1, missed=2, false=2)
    assert all_points.at(0.95) == OperatingPoint(0.95, found=0, missed=3, false=0)
    assert all_points.at(0.0).f1 == pytest.approx(2 * 2 / (2 * 2 + 3 + 1))
    assert str(all_points.at(0.65)) == "score above 0.65: 1 of 3 objects found, 2 false"


def test_the_best_threshold_lies_amid_those_that_are_as_good() -> None:
    records = [record([0] * 4)]
    detections = [found((0, 0.9, 0), (1, 0.85, 0), (2, 0.8, 0), (3, 0.75, 0), (7, 0.25, 0), (8, 0.2, 0))]
    best = points(records, detections).best()
    assert best == OperatingPoint(0.49, found=4, missed=0, false=0)  # between 0.25 and 0.74


def test_thresholds_below_what_entered_the_evaluation_are_not_tried() -> None:
    all_points = points([record([0, 0])], [found((0, 0.9, 0), (1, 0.605, 0))])
    assert all_points.best() == OperatingPoint(0.32, found=2, missed=0, false=0)  # between 0.05 and 0.60
    assert all_points.best(least=0.5) == OperatingPoint(0.55, found=2, missed=0, false=0)


def test_crowds_are_neither_found_nor_missed() -> None:
    records = [record([0, 0], [False, True])]
    detections = [found((0, 0.9, 0), (1, 0.8, 0))]
    assert points(records, detections).at(0.0) == OperatingPoint(0.0, found=1, missed=0, false=0)


@pytest.mark.parametrize("detections", [found(), found((7, 0.9, 0))])
def test_nothing_found(detections: Detections) -> None:
    all_points = points([record([0])], [detections])
    assert all_points.best() is None
    assert all_points.at(0.5).found == 0


def test_it_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        records = [record([0] * int(rng.integers(1, 8))) for _ in range(5)]
        detections = [
            found(*[(int(rng.integers(0, 10)), float(rng.uniform(0.05, 1)), 0) for _ in range(int(rng.integers(0, 9)))])
            for _ in records
        ]
        all_points = points(records, detections)
        best = all_points.best()
        greatest = max(all_points.at(score).f1 for score in np.arange(0.01, 1, 0.01))
        assert greatest == 0 if best is None else best.f1 >= greatest - 0.005


def test_each_class_by_itself() -> None:
    records = [record([0, 0, 1])]
    detections = [found((0, 0.9, 0), (1, 0.7, 1), (2, 0.6, 1))]
    evaluator = coco_ap.run(("a", "b"), records, detections)
    ants, bees = OperatingPoints.by_class(evaluator, records, detections, count=2)
    assert ants.at(0.5) == OperatingPoint(0.5, found=1, missed=1, false=0)
    assert bees.at(0.5) == OperatingPoint(0.5, found=1, missed=0, false=1)


def test_matches_give_the_same_as_an_evaluation() -> None:
    names, records, detections = made(20, 3, 0)
    many = [
        Detections(np.repeat(one.boxes, 8, 0), np.repeat(one.scores, 8), np.repeat(one.labels, 8)) for one in detections
    ]
    for answers in (detections, many):  # more than a hundred of a class, too
        expected = OperatingPoints.of(coco_ap.run(names, records, answers), records, answers)
        told = OperatingPoints.of_matches(match_all(names, records, answers))
        np.testing.assert_array_equal(told.right, expected.right)
        np.testing.assert_array_equal(told.wrong, expected.wrong)
        assert told.objects == expected.objects > 0
