"""The score threshold for what a user wants, and what it will do on new pictures."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import ConfigError
from falconet.core.types import Detections, Record
from falconet.eval.wanted_point import Wanted, WantedPoint, wanted_point

BOX, AWAY = [10, 10, 50, 50], [60, 60, 90, 90]


def pictures(*found: tuple[float | None, float | None]) -> tuple[list[Record], list[Detections]]:
    """One object in each picture; the score of what finds it, and of something false."""
    records, answers = [], []
    for number, (right, wrong) in enumerate(found):
        truth = np.array([BOX], np.float32)
        records.append(
            Record(number, Path(f"{number}.jpg"), 100, 100, truth, np.zeros(1, np.int64), np.zeros(1, np.bool_))
        )
        rows = [(box, score) for box, score in ((BOX, right), (AWAY, wrong)) if score is not None]
        rows.sort(key=lambda row: -row[1])
        boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row[1] for row in rows], np.float32)
        answers.append(Detections(boxes, scores, np.zeros(len(rows), np.int64)))
    return records, answers


def point(text: str, *found: tuple[float | None, float | None]) -> WantedPoint:
    return wanted_point(Wanted.parse(text), ["a"], *pictures(*found))


FOUND = ((0.9, None), (0.8, 0.7), (0.6, None), (0.3, 0.5), (None, 0.2))


@pytest.mark.parametrize(
    ("text", "between", "found", "false"),
    [
        ("recall=0.4", (0.7, 0.8), 2, 0),
        ("recall=0.6", (0.5, 0.6), 3, 1),
        ("precision=0.75", (0.5, 0.6), 3, 1),
        ("precision=1", (0.7, 0.8), 2, 0),
        ("false-alarms=0/1000", (0.7, 0.8), 2, 0),
        ("false-alarms=200/1000", (0.5, 0.6), 3, 1),
        ("false-alarms=1000/1000", (0.0, 0.2), 4, 3),
        ("f1", (0.2, 0.3), 4, 2),
    ],
)
def test_thresholds(text: str, between: tuple[float, float], found: int, false: int) -> None:
    got = point(text, *FOUND)
    assert between[0] < got.score < between[1]
    assert (got.found, got.false, got.objects, got.images) == (found, false, 5, 5)


def test_what_no_threshold_reaches() -> None:
    with pytest.raises(ConfigError, match=r"recall=0\.95: no threshold reaches it; the most is 0\.800"):
        point("recall=0.95", *FOUND)
    with pytest.raises(ConfigError, match=r"precision=0\.9: no threshold reaches it; the most is 0\.500"):
        point("precision=0.9", (0.5, 0.6))
    with pytest.raises(ConfigError, match="nothing is found at any threshold"):
        point("f1", (None, None))


def test_equal_scores_go_together() -> None:
    got = point("precision=0.6", (0.9, None), (0.5, 0.5), (0.5, None), (0.4, None))
    assert 0.0 <= got.score < 0.4  # 4 of 5; between 0.5 and 0.5 there is no threshold
    assert (got.found, got.false) == (4, 1)


def test_no_false_alarm_in_few_pictures_promises_little() -> None:
    got = point("false-alarms=2/1000", *[(0.9, 0.1)] * 40)
    assert got.false == 0
    assert got.alarms == pytest.approx((0, 0.072), abs=0.001)  # 1 - 0.05 ** (1 / 40)
    assert not got.surely
    assert "40 pictures cannot promise it" in got.lines()[-1]


def test_an_interval_that_keeps_what_is_wanted() -> None:
    got = point("recall=0.5", *[(0.9, None)] * 50)
    assert got.recall == (1, 1)
    assert got.surely
    assert len(got.lines()) == 2
    assert got.as_dict()["kept_by_the_whole_interval"] is True


def test_the_interval_of_a_share() -> None:
    got = point("f1", *[(0.9, None)] * 60, *[(None, None)] * 40)
    assert got.recall is not None
    half = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert got.recall == pytest.approx((0.6 - half, 0.6 + half), abs=0.03)


@pytest.mark.parametrize(
    "text", ["recall", "recall=2", "recall=0", "precision=a", "false-alarms=3", "false-alarms=1/0", "speed=3", ""]
)
def test_what_is_no_operating_point(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected recall=0\.95, precision=0\.9, false-alarms=2/1000"):
        Wanted.parse(text)
