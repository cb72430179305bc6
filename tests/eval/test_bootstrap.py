"""How far figures may be off: the same figures as hotcoco's with equal weights, and the draws of pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from falconet.core.types import Detections, Record
from falconet.eval import bootstrap, coco_ap
from falconet.eval.bootstrap import Drawn, Interval, resample, resample_shares, weights


def records(count: int) -> list[Record]:
    return [
        Record(
            image_id=number,
            path=Path(f"{number}.jpg"),
            width=100,
            height=100,
            boxes=np.array([[10, 10, 50, 50]], np.float32),
            labels=np.zeros(1, np.int64),
            crowd=np.zeros(1, np.bool_),
        )
        for number in range(1, count + 1)
    ]


def answers(found: list[bool]) -> list[Detections]:
    hit, miss = [[10, 10, 50, 50]], [[60, 60, 90, 90]]
    return [
        Detections(
            np.array(hit if one else miss, np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64), ("a",)
        )
        for one in found
    ]


def ap(found: list[bool]) -> Interval | None:
    return resample(["a"], records(len(found)), answers(found)).values["AP"].interval


def made(pictures: int, classes: int, seed: int) -> tuple[list[str], list[Record], list[Detections]]:
    """Boxes of all sizes, some of them crowds or with an area of their own; detections of which about half are right,
    some twice, some with equal scores."""
    chance = np.random.default_rng(seed)
    truth, found = [], []
    for number in range(pictures):
        count = int(chance.integers(0, 12))
        corner, sides = chance.uniform(0, 400, (count, 2)), chance.uniform(8, 180, (count, 2))
        boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32)
        labels = chance.integers(0, classes, count)
        areas = np.where(chance.random(count) < 0.3, sides.prod(1) * 0.6, np.nan)
        crowd = chance.random(count) < 0.1
        truth.append(Record(number, Path(f"{number}.jpg"), 640, 640, boxes, labels, crowd, areas=areas))
        near = np.repeat(boxes, 2, 0) + chance.normal(0, 6, (2 * count, 4))
        corner, sides = chance.uniform(0, 400, (20, 2)), chance.uniform(8, 180, (20, 2))
        all_boxes = np.concatenate([near, np.concatenate([corner, corner + sides], 1)]).astype(np.float32)
        all_boxes[:, 2:] = np.maximum(all_boxes[:, 2:], all_boxes[:, :2] + 1)
        all_labels = np.concatenate([np.repeat(labels, 2), chance.integers(0, classes, 20)])
        scores = np.round(chance.random(len(all_boxes)), 2).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(all_boxes[order], scores[order], all_labels[order]))
    return [str(label) for label in range(classes)], truth, found


def equal_weights(names: list[str], truth: list[Record], found: list[Detections]) -> dict[str, float]:
    """The twelve figures with each picture counted once."""
    once = resample(names, truth, found, drawn=np.ones((1, len(truth)), np.float32)).values
    assert all(np.array_equal(one.draws, [one.value], equal_nan=True) for one in once.values())
    return {name: -1.0 if np.isnan(one.value) else one.value for name, one in once.items()}


@pytest.mark.parametrize(("pictures", "classes", "seed"), [(30, 3, 0), (60, 1, 1), (40, 7, 2)])
def test_equal_weights_give_the_figures_of_coco(pictures: int, classes: int, seed: int) -> None:
    names, truth, found = made(pictures, classes, seed)
    expected = coco_ap.evaluate(names, truth, found).as_dict()
    assert expected["APs"] > 0
    assert equal_weights(names, truth, found) == pytest.approx(expected, abs=1e-6)


def test_each_class_has_ap_and_ap50() -> None:
    names, truth, found = made(40, 3, 1)
    expected = coco_ap.evaluate(names, truth, found)
    drawn = resample(names, truth, found)
    assert {name: one.value for name, one in drawn.per_class.items()} == pytest.approx(expected.per_class, abs=1e-6)
    fifty = {name: one.value for name, one in drawn.per_class_ap50.items()}
    assert fifty == pytest.approx(expected.per_class_ap50, abs=1e-6)
    assert all(one.interval is not None for one in drawn.per_class_ap50.values())


def test_more_than_a_hundred_detections_of_a_class() -> None:
    names, truth, found = made(4, 1, 3)
    many = [Detections(np.repeat(one.boxes, 6, 0), np.repeat(one.scores, 6), np.repeat(one.labels, 6)) for one in found]
    expected = coco_ap.evaluate(names, truth, many).as_dict()
    assert equal_weights(names, truth, many) == pytest.approx(expected, abs=1e-6)


def test_a_weight_of_two_is_the_picture_twice() -> None:
    names, truth, found = made(20, 2, 4)
    drawn = np.random.default_rng(5).integers(0, 3, 20)
    twice = [
        (replace(truth[place], image_id=number), found[place])
        for number, place in enumerate(np.repeat(np.arange(20), drawn))
    ]
    expected = coco_ap.evaluate(names, [one for one, _ in twice], [one for _, one in twice]).as_dict()
    got = resample(names, truth, found, drawn=drawn[None].astype(np.float32)).values
    # Pictures with equal scores come in another order.
    assert {name: float(one.draws[0]) for name, one in got.items()} == pytest.approx(expected, abs=0.01)
    assert float(got["AR100"].draws[0]) == pytest.approx(expected["AR100"], abs=1e-6)


def test_draws_are_the_same_for_a_seed_and_keep_the_number_of_pictures() -> None:
    drawn = weights(17, resamples=50)
    assert (drawn.sum(1) == 17).all()
    assert drawn.max() > 1
    np.testing.assert_array_equal(drawn, weights(17, resamples=50))
    assert (drawn != weights(17, resamples=50, seed=1)).any()


def test_all_right_leaves_no_room() -> None:
    assert ap([True] * 8) == pytest.approx((1.0, 1.0))


def test_more_pictures_narrow_it() -> None:
    few, many = ap([True, False] * 6), ap([True, False] * 100)
    assert few is not None
    assert many is not None
    assert few.low < many.low < many.high < few.high
    assert few == ap([True, False] * 6)


def test_pictures_are_drawn_with_their_multiplicity() -> None:
    # Of two pictures a quarter of the draws hold the wrong one twice: without multiplicity AP would never be 0.
    assert ap([True, False]) == pytest.approx((0.0, 1.0))


def test_nothing_to_decide_it() -> None:
    assert ap([]) is None
    empty = replace(
        records(1)[0], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), crowd=np.zeros(0, np.bool_)
    )
    found = resample(["a"], [empty] * 3, answers([True] * 3))
    assert found.values["AP"].interval is None
    assert found.per_class["a"].interval is None


def test_draws_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    names, truth, found = made(10, 2, 6)
    whole = resample(names, truth, found).values["AP"].draws
    monkeypatch.setattr(bootstrap, "CHUNK", 7)
    np.testing.assert_array_equal(resample(names, truth, found).values["AP"].draws, whole)


def test_shares_of_pictures() -> None:
    right = np.array([True] * 30 + [False] * 10)
    shown = {"cat": np.arange(40) < 20, "dog": np.arange(40) >= 20}
    found = resample_shares({"top1": right, "top5": np.ones(40, np.bool_)}, shown)
    interval = found.values["top1"].interval
    assert interval is not None
    # Of a share of 40 pictures, with Student's t of 39 degrees of freedom and the variance of a sample.
    half = 2.0227 * (0.75 * 0.25 / 39) ** 0.5
    assert interval == pytest.approx((0.75 - half, 0.75 + half), abs=0.04)
    assert found.values["top5"].interval == (1.0, 1.0)
    assert found.per_class["cat"].interval == (1.0, 1.0)


MANY = 10**6
"""Pictures, so that Student's t is the normal distribution."""


def test_draws_that_lie_too_high_move_the_interval_down() -> None:
    draws = np.linspace(0.4, 0.8, 1001)
    plain, high = Drawn(0.6, draws, MANY).interval, Drawn(0.55, draws, MANY).interval
    assert plain == pytest.approx((0.41, 0.79), abs=1e-3)
    assert high is not None
    # By hand: 37.5 % of the draws lie below, z = -0.3186; the normal shares of 2 z - 1.96 and 2 z + 1.96 are
    # 0.00472 and 0.90698.
    assert high == pytest.approx((0.4 + 0.4 * 0.00472, 0.4 + 0.4 * 0.90698), abs=1e-3)


def test_few_pictures_take_the_ends_further_out() -> None:
    interval = Drawn(0.6, np.linspace(0.4, 0.8, 100_001), 11).interval
    # Student's t with 10 degrees of freedom: 2.2281; times sqrt(11 / 10) 2.3369, beyond which lie 0.972 % of a normal
    # distribution.
    assert interval == pytest.approx((0.4 + 0.4 * 0.00972, 0.8 - 0.4 * 0.00972), abs=2e-4)


def test_so_few_draws_leave_as_much_outside_as_they_should() -> None:
    # Of 39 draws each of the outermost has a fortieth beyond it.
    interval = Drawn(0.6, np.linspace(0.4, 0.8, 39), MANY).interval
    assert interval == pytest.approx((0.4, 0.8), abs=1e-5)
    assert Drawn(0.6, np.linspace(0.4, 0.8, 9), MANY).interval == (0.4, 0.8)


def test_a_figure_beyond_all_draws_still_has_an_interval() -> None:
    interval = Drawn(0.3, np.linspace(0.4, 0.8, 1001), MANY).interval
    assert interval is not None
    assert interval.low <= interval.high < 0.45


def test_a_figure_that_nothing_decides_has_none() -> None:
    assert Drawn(float("nan"), np.full(10, 0.5), MANY).interval is None
    assert Drawn(0.5, np.full(10, np.nan), MANY).interval is None


def test_the_difference_of_two_figures_is_that_of_the_same_draws() -> None:
    one, other = Drawn(0.5, np.array([0.4, 0.5, 0.6]), MANY), Drawn(0.4, np.array([0.3, 0.4, 0.5]), MANY)
    difference = one.less(other)
    assert difference.value == pytest.approx(0.1)
    assert difference.interval == pytest.approx((0.1, 0.1))
