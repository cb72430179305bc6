"""Odd boxes, and classes and splits of too few or other ones; each kind is caused once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from falconet.core.types import Record
from falconet.data.dataset import DataSet
from falconet.data.skew import box_look_problems, split_problems

NAMES = ("cat", "dog")


def record(boxes: Sequence[tuple[int, float, float, float, float]], *, side: int = 400, name: str = "a.png") -> Record:
    return Record(
        image_id=name,
        path=Path(name),
        width=side,
        height=side,
        boxes=np.array([box[1:] for box in boxes], np.float32).reshape(-1, 4),
        labels=np.array([box[0] for box in boxes], np.int64),
        crowd=np.zeros(len(boxes), np.bool_),
        source=name,
    )


def dataset(records: Sequence[Record], names: tuple[str, ...] = NAMES, source: str = "x.json") -> DataSet:
    return DataSet(names, tuple(records), source)


@pytest.mark.parametrize(
    ("boxes", "kind", "told"),
    [
        ([(0, 10, 10, 60, 60), (0, 11, 10, 61, 60)], "drawn-twice", "an object of 'cat' twice"),
        ([(0, 10, 10, 60, 60), (1, 10, 10, 60, 60)], "two-classes", "one box as 'dog' and, at a.png, box 0, as 'cat'"),
        ([(0, 0, 0, 400, 400), (1, 10, 10, 60, 60)], "whole-picture", "a box of 'cat' is the whole picture"),
        ([(0, 0, 10, 390, 14)], "thin-box", "a box of 390 x 4 pixels"),
    ],
)
def test_odd_boxes(boxes: Sequence[tuple[int, float, float, float, float]], kind: str, told: str) -> None:
    (problem,) = box_look_problems(dataset([record(boxes)]))
    assert problem.kind == kind
    assert told in problem.what


def test_slivers_along_the_border() -> None:
    cut = [(0, 0, 50, 3, 150), (1, 100, 397.5, 300, 400)]
    others = [(0, 50, 50, 53, 150), (0, 0, 200, 3, 206), (0, 0, 250, 6, 390)]  # inside, small, wide enough
    found = [one for one in box_look_problems(dataset([record([*cut, *others])])) if one.kind == "border-sliver"]
    assert [one.what.partition(":")[2] for one in found] == [
        " a box of 'cat' along the border has 3 x 100 pixels; little of the object can be seen",
        " a box of 'dog' along the border has 200 x 2.5 pixels; little of the object can be seen",
    ]


def test_ordinary_boxes() -> None:
    ordinary = [(0, 10, 10, 60, 60), (0, 30, 10, 80, 60), (1, 0, 0, 390, 300)]
    alone = [(0, 0, 0, 400, 400)]  # one object may fill its picture
    assert list(box_look_problems(dataset([record(ordinary), record(alone), record([])]))) == []


def test_equal_boxes_of_a_class_are_told_elsewhere() -> None:
    assert list(box_look_problems(dataset([record([(0, 10, 10, 60, 60), (0, 10, 10, 60, 60)])]))) == []


def test_small_boxes() -> None:
    tiny = [(1, 10 * n, 10, 10 * n + 3, 14) for n in range(5)]  # 3 of 400 pixels
    (problem,) = box_look_problems(dataset([record([*tiny, (0, 10, 100, 60, 160)])]))
    assert problem.kind == "small-boxes"
    assert problem.what.startswith("5 of 5 boxes of 'dog' are narrower than 4 pixels at an input of 416")


def many(count: int, label: int, *, side: int = 400) -> list[Record]:
    return [record([(label, 10, 10, 60, 60)], side=side) for _ in range(count)]


def kinds(**splits: Sequence[Record]) -> list[str]:
    return [one.kind for one in split_problems({name: dataset(records) for name, records in splits.items()})]


def test_splits_as_they_should_be() -> None:
    assert kinds(train=many(40, 0) + many(40, 1), val=many(10, 0) + many(10, 1)) == []


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (many(40, 0) + many(3, 1), many(10, 0) + many(5, 1), ["few-to-learn"]),
        (many(40, 0) + many(40, 1), many(10, 0) + many(4, 1), ["few-to-measure"]),
        (many(40, 0) + many(40, 1), many(10, 0), ["not-measured"]),
        (many(40, 0), many(10, 0) + many(3, 1), ["not-learnt"]),
        (many(400, 0) + many(20, 1), many(20, 0) + many(80, 1), ["split-skew", "split-skew"]),
        (many(40, 0, side=800), many(10, 0, side=400), ["split-skew"]),
        ([*many(10, 0), *(record([]) for _ in range(20))], many(10, 0), ["many-empty"]),
        ([record([]) for _ in range(20)], many(10, 0), ["empty-split", "not-learnt"]),
        ([], many(10, 0), ["empty-split", "not-learnt"]),
    ],
)
def test_splits(train: Sequence[Record], val: Sequence[Record], expected: list[str]) -> None:
    assert kinds(train=train, val=val) == expected


def of(source: str, count: int, *, first: int = 0) -> list[Record]:
    return [record([(0, 10, 10, 60, 60)], name=f"{source}{first + n:04}.png") for n in range(count)]


@pytest.mark.parametrize(
    ("train", "val", "told"),
    [
        (of("cam1_", 40), of("cam1_", 10, first=40) + of("cam2_", 12), ["cam2_#"]),
        (of("cam1_", 40) + of("cam2_", 10), of("cam1_", 10) + of("cam2_", 12), []),
        (of("train_", 40), of("val_", 12), []),  # names of the splits' own
        (of("cam1_", 40), of("cam1_", 10) + of("cam2_", 9), []),  # few
        (of("", 40), of("", 40, first=90), []),
    ],
)
def test_sources(train: Sequence[Record], val: Sequence[Record], told: list[str]) -> None:
    found = list(split_problems({"train": dataset(train), "val": dataset(val)}))
    assert [one.what.split("'")[3] for one in found] == told
    assert {one.kind for one in found} <= {"split-skew"}


def test_shares_that_chance_explains_are_not_told() -> None:
    assert kinds(train=many(50, 0) + many(10, 1), val=many(5, 0) + many(5, 1)) == []
