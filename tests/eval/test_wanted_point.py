"""The score threshold for what a user wants, and what it will do on new pictures."""

from dataclasses import replace
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
        ("false-alarms=18000/hour@25", (0.5, 0.6), 3, 1),
        ("f1", (0.2, 0.3), 4, 2),
    ],
)
def test_thresholds(text: str, between: tuple[float, float], found: int, false: int) -> None:
    got = point(text, *FOUND)
    assert between[0] < got.thresholds["a"] < between[1]
    assert got.fitted  # five pictures are too few to try it on others
    assert (got.promise.found, got.promise.false, got.promise.objects, got.promise.images) == (found, false, 5, 5)


def test_what_no_threshold_reaches() -> None:
    with pytest.raises(ConfigError, match=r"recall=0\.95: no threshold reaches it; the most is 0\.800"):
        point("recall=0.95", *FOUND)
    with pytest.raises(ConfigError, match=r"precision=0\.9: no threshold reaches it; the most is 0\.500"):
        point("precision=0.9", (0.5, 0.6))
    with pytest.raises(ConfigError, match="nothing is found at any threshold"):
        point("f1", (None, None))


def test_equal_scores_go_together() -> None:
    got = point("precision=0.6", (0.9, None), (0.5, 0.5), (0.5, None), (0.4, None))
    assert 0.0 <= got.thresholds["a"] < 0.4  # 4 of 5; between 0.5 and 0.5 there is no threshold
    assert (got.promise.found, got.promise.false) == (4, 1)


def of_classes(text: str, *found: tuple[int, float | None, float | None]) -> WantedPoint:
    """A picture each with an object of a class; the scores of what finds it, and of something false of that class."""
    records, answers = pictures(*[one[1:] for one in found])
    labels = [label for label, *_ in found]
    records = [replace(one, labels=np.array([label])) for one, label in zip(records, labels, strict=True)]
    answers = [replace(one, labels=np.full(len(one), label)) for one, label in zip(answers, labels, strict=True)]
    return wanted_point(Wanted.parse(text), ["often", "rare"], records, answers)


def test_each_class_has_a_threshold_of_its_own() -> None:
    sure, unsure = [(0, 0.9, 0.7)] * 20, [(1, 0.3, 0.1)] * 20
    got = of_classes("precision=1", *sure, *unsure)
    assert 0.7 < got.thresholds["often"] < 0.9
    assert 0.1 < got.thresholds["rare"] < 0.3
    assert not got.fitted
    assert (got.promise.found, got.promise.false) == (40, 0)
    assert got.classes["rare"].found == 20
    assert got.shared == ()


def test_a_class_of_few_objects_takes_the_threshold_of_all() -> None:
    got = of_classes("precision=1", *[(0, 0.9, 0.7)] * 20, *[(1, 0.8, 0.1)] * 3)
    assert got.shared == ("rare",)
    assert 0.7 < got.thresholds["rare"] < 0.8  # one false at 0.7 among all of both


def test_false_alarms_are_counted_over_all_classes_so_one_score_is_one_score() -> None:
    got = of_classes("false-alarms=0/1000", *[(0, 0.9, 0.7)] * 20, *[(1, 0.3, 0.1)] * 20)
    assert got.thresholds["often"] == got.thresholds["rare"] > 0.7


def test_a_class_that_does_not_reach_it_is_named() -> None:
    got = of_classes("recall=0.9", *[(0, 0.9, None)] * 100, *[(1, 0.8, None)] * 8, *[(1, None, 0.5)] * 2)
    assert got.missed == {"rare": pytest.approx(0.8)}
    assert got.thresholds["rare"] == 0
    assert "rare: no threshold reaches recall=0.9; the most is 0.800" in got.lines()


def test_what_thresholds_do_is_told_of_pictures_that_they_were_not_chosen_on() -> None:
    # Scores say nothing, so a threshold that fits the pictures by chance is worth nothing on others.
    chance = np.random.default_rng(0)
    rows = [(1.0 - share, None) if chance.random() < 0.5 else (None, 1.0 - share) for share in np.linspace(0, 0.9, 60)]
    got = point("precision=0.62", *rows)
    records, answers = pictures(*rows)
    said = [bool(len(one.above(got.thresholds["a"]))) for one in answers]
    right = [one and row[0] is not None for one, row in zip(said, rows, strict=True)]
    assert sum(right) / sum(said) >= 0.62
    assert got.promise.precision.value < sum(right) / sum(said)
    assert len(records) == got.promise.images


def test_no_false_alarm_in_few_pictures_promises_little() -> None:
    got = point("false-alarms=2/1000", *[(0.9, 0.1)] * 40)
    assert got.promise.false == 0
    assert got.promise.intervals["alarms"] == pytest.approx((0, 0.072), abs=0.001)  # 1 - 0.05 ** (1 / 40)
    assert not got.surely
    assert "40 pictures cannot promise it" in got.lines()[-2]


def test_nothing_missed_in_few_pictures_promises_little_either() -> None:
    got = point("recall=0.95", *[(0.9, None)] * 40)
    assert got.promise.intervals["recall"] == pytest.approx((0.928, 1), abs=0.001)
    assert not got.surely


def test_an_interval_that_keeps_what_is_wanted() -> None:
    got = point("recall=0.5", *[(0.9, None)] * 50)
    assert got.surely
    assert not any("promise" in line for line in got.lines())
    assert got.as_dict()["kept_by_the_whole_interval"] is True


def test_the_interval_of_a_share() -> None:
    got = point("f1", *[(0.9, None)] * 60, *[(None, None)] * 40)
    half = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert got.promise.intervals["recall"] == pytest.approx((0.6 - half, 0.6 + half), abs=0.03)


@pytest.mark.parametrize(
    "text",
    ["recall", "recall=2", "recall=0", "precision=a", "false-alarms=3", "false-alarms=1/0", "false-alarms=1/hour",
     "false-alarms=1/hour@0", "false-alarms=1/day@25", "speed=3", ""],
)  # fmt: skip
def test_what_is_no_operating_point(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected recall=0\.95, precision=0\.9, false-alarms=2/1000"):
        Wanted.parse(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("recall=0.80", "recall=0.8"),
        (" Recall = .8 ", "recall=0.8"),
        ("F1", "f1"),
        ("false-alarms=2.0/1000", "false-alarms=2/1000"),
        ("false-alarms=2/Hour@25.0", "false-alarms=2/hour@25"),
    ],
)
def test_spellings_of_the_same_point(text: str, same: str) -> None:
    assert Wanted.parse(text) == Wanted.parse(same)
    assert Wanted.parse(text).text == same


def test_a_point_that_the_best_f1_beats_says_so() -> None:
    rows: list[tuple[float | None, float | None]] = [(0.5, None)] * 38 + [(0.5, 0.4), (None, 0.9)]
    got = point("recall=0.9", *rows)
    assert got.best is not None
    assert not got.is_beaten
    assert got.lines()[-1] == f"f1 for comparison, all classes: {got.best}"
    assert got.as_dict()["f1"]["found"] == got.best.found
    worse = replace(got, promise=replace(got.promise, false=got.best.false + 3))
    assert worse.is_beaten
    assert worse.lines()[-1] == (f"f1 is better here, for it finds no less and gives no more false boxes: {got.best}")
    assert worse.as_dict()["f1_is_better"]
    assert point("f1", *rows).best is None
