"""Kinds of error in draws of the pictures: those of hotcoco with equal weights; a picture drawn twice counts twice."""

from dataclasses import replace

import numpy as np
import pytest

from falconet.core.types import Detections, Record
from falconet.eval import coco_ap
from falconet.eval.bootstrap import weights
from falconet.eval.curves import error_kinds, with_intervals
from falconet.eval.matching import match_all
from falconet.eval.tide import ErrorDraws, find_errors, resample_errors
from tests.eval.test_bootstrap import made
from tests.eval.test_coco_ap import NAMES, NOTHING, found, record

BOX, OTHER, FAR = [0, 0, 50, 50], [100, 0, 150, 50], [300, 300, 350, 350]


def drawn_errors(
    names: list[str] | tuple[str, ...], records: list[Record], answers: list[Detections], drawn: np.ndarray
) -> dict[str, ErrorDraws]:
    matches = match_all(names, records, answers)
    return resample_errors(matches, find_errors(records, answers, matches), drawn)


def once(count: int) -> np.ndarray:
    return np.ones((1, count), np.float32)


@pytest.mark.parametrize(("pictures", "classes", "seed"), [(30, 3, 0), (60, 1, 1), (40, 7, 2), (10, 40, 4)])
def test_equal_weights_give_the_figures_of_hotcoco(pictures: int, classes: int, seed: int) -> None:
    names, records, answers = made(pictures, classes, seed)
    expected = coco_ap.run(names, records, answers).tide_errors(pos_thr=0.5, bg_thr=0.1)
    told = drawn_errors(names, records, answers, once(pictures))
    assert {name: one.number.value for name, one in told.items()} == expected["counts"]
    costs = {name: expected["delta_ap"][name] for name in told}
    assert {name: one.cost.value for name, one in told.items()} == pytest.approx(costs, abs=1e-6)


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [
        ([], []),
        ([FAR], [0]),
        ([BOX, FAR], [0, 0]),
        ([BOX], [1]),
        ([BOX, BOX], [1, 2]),
        ([[0, 0, 50, 20], [0, 0, 20, 50]], [0, 0]),
        ([[0, 0, 50, 20], BOX], [0, 1]),
    ],
)
def test_by_hand_they_are_those_of_hotcoco_too(boxes: list[list[int]], labels: list[int]) -> None:
    records = [record(1, [BOX, OTHER], [0, 0]), record(2, [], [])]
    answers = [found(boxes, np.linspace(0.9, 0.8, len(boxes)), labels), NOTHING]
    expected = coco_ap.run(NAMES, records, answers).tide_errors(pos_thr=0.5, bg_thr=0.1)
    told = drawn_errors(NAMES, records, answers, once(2))
    assert {name: one.number.value for name, one in told.items()} == expected["counts"]
    costs = {name: expected["delta_ap"][name] for name in told}
    assert {name: one.cost.value for name, one in told.items()} == pytest.approx(costs, abs=1e-6)


def test_a_weight_of_two_is_the_picture_twice() -> None:
    names, records, answers = made(12, 3, 5)
    chance = np.random.default_rng(1)  # no two scores are the same: what comes first of these is not defined
    answers = [replace(one, scores=np.sort(chance.random(len(one)).astype(np.float32))[::-1]) for one in answers]
    drawn = np.random.default_rng(0).integers(0, 3, (1, 12)).astype(np.float32)
    told = drawn_errors(names, records, answers, drawn)
    order = np.repeat(np.arange(12), drawn[0].astype(int)).tolist()
    # Numbers of their own, so that no two pictures are one.
    repeated = [replace(records[place], image_id=number) for number, place in enumerate(order)]
    again = drawn_errors(names, repeated, [answers[place] for place in order], once(len(order)))
    for name, one in told.items():
        assert one.number.draws[0] == again[name].number.value
        assert one.cost.draws[0] == pytest.approx(again[name].cost.value, abs=1e-6)


def test_intervals_go_with_the_kinds() -> None:
    names, records, answers = made(40, 3, 0)
    draws = drawn_errors(names, records, answers, weights(40, resamples=200))
    evaluator = coco_ap.run(names, records, answers)
    plain = error_kinds(evaluator)
    kinds = with_intervals(plain, draws)
    assert [(one.name, one.count, one.cost) for one in kinds] == [(one.name, one.count, one.cost) for one in plain]
    nothing_there = next(one for one in kinds if one.name == "nothing there")
    assert nothing_there.count_interval is not None
    assert nothing_there.cost_interval is not None
    assert nothing_there.count_interval.low < nothing_there.count < nothing_there.count_interval.high
    assert nothing_there.cost_interval.low < nothing_there.cost < nothing_there.cost_interval.high
    assert all(one.count_interval is one.cost_interval is None for one in plain)


def test_nothing_at_all() -> None:
    assert all(np.isnan(one.cost.value) for one in drawn_errors(NAMES, [], [], np.zeros((5, 0), np.float32)).values())
    told = drawn_errors(NAMES, [record(1, [], [])], [found([BOX], [0.9], [0])], once(1))
    assert told["Bkg"].number.value == 1
    assert told["Bkg"].cost.interval is None
