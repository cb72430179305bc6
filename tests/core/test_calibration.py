"""Calibrated scores: what they become, above which detections count, and in which order they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.calibration import ScoreScale, calibrated
from falconet.core.manifest import ScoreMap, Selection
from falconet.core.types import Detections

LOW = ScoreMap(scores=(0, 0.5, 1), probabilities=(0, 0.1, 1))
HIGH = ScoreMap(scores=(0, 0.2, 1), probabilities=(0.3, 0.9, 1))


def found(*rows: tuple[float, int]) -> Detections:
    boxes = np.array([[10 * n, 0, 10 * n + 5, 5] for n in range(len(rows))], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), ("a", "b"))


def scale(*thresholds: float, most: int = 100, maps: tuple[ScoreMap, ...] = (LOW, HIGH)) -> ScoreScale:
    return ScoreScale(maps, np.array(thresholds, np.float32), most)


def test_straight_lines_between_points() -> None:
    scores = calibrated(np.array([0.25, 0.75, 0.1, 0.6], np.float32), np.array([0, 0, 1, 1]), (LOW, HIGH))
    assert scores == pytest.approx([0.05, 0.55, 0.6, 0.95])


def test_detections_count_above_the_threshold_of_their_class_the_best_first() -> None:
    kept = scale(0.5, 0.7).apply(found((0.9, 0), (0.75, 0), (0.7, 0), (0.2, 1), (0.1, 1)))
    assert kept.scores == pytest.approx([0.9, 0.82, 0.55])
    assert kept.labels.tolist() == [1, 0, 0]
    assert kept.boxes[:, 0].tolist() == [30, 0, 10]
    assert kept.names == ("a", "b")


def test_so_many_at_most() -> None:
    assert scale(0, 0, most=2).apply(found((0.9, 0), (0.8, 0), (0.7, 1))).labels.tolist() == [1, 0]


def test_nothing_found() -> None:
    assert len(scale(0.5, 0.5).apply(found())) == 0


def test_thresholds_alone_leave_scores_as_they_are() -> None:
    kept = scale(0.5, 0.2, maps=()).apply(found((0.9, 0), (0.4, 0), (0.3, 1)))
    assert kept.scores.tolist() == np.float32([0.9, 0.3]).tolist()


@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.tuples(st.floats(0.001, 1), st.integers(0, 1)), max_size=20))
def test_the_wide_selection_lets_all_in_that_count(first: float, second: float, rows: list[tuple[float, int]]) -> None:
    one = scale(first, second)
    wide = one.wide(Selection(max_candidates=500))
    assert wide.max_detections == 500
    everything = found(*rows)
    assert len(one.apply(everything)) == len(one.apply(everything.above(wide.score_threshold)))


@pytest.mark.parametrize(
    ("scores", "probabilities", "problem"),
    [
        ((0, 1), (0, 0.5, 1), "as many"),
        ((0.1, 1), (0, 1), "from 0 to 1"),
        ((0, 0.5), (0, 1), "from 0 to 1"),
        ((0, 0.5, 0.5, 1), (0, 0.1, 0.2, 1), "ascending"),
        ((0, 0.5, 1), (0, 0.4, 0.4), "ascending"),
        ((0, 1), (0, 1.5), "from 0 to 1"),
        ((), (), "from 0 to 1"),
    ],
)
def test_what_is_no_map(scores: tuple[float, ...], probabilities: tuple[float, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ScoreMap(scores=scores, probabilities=probabilities)
