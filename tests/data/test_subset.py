"""Parts of the training pictures: nested, and with each class."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from falconet.core.types import Record
from falconet.data.subset import nested_order, subset


def record(number: int, labels: list[int], *, crowd: bool = False) -> Record:
    """A picture with a box of each label."""
    boxes = np.tile(np.array([[0, 0, 5, 5]], np.float32), (len(labels), 1))
    return Record(
        number, Path(f"{number}.jpg"), 10, 10, boxes, np.array(labels, np.int64), np.full(len(labels), crowd, np.bool_)
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """200 pictures: class 0 on two of three, 1 on every fifth, 2 on two of all; some without boxes."""
    return [record(n, [0] * (n % 3 > 0) + [1] * (n % 5 == 0) + [2] * (n in (77, 144))) for n in range(200)]


def test_smaller_parts_lie_within_larger_ones(records: list[Record]) -> None:
    parts = [{one.image_id for one in subset(records, fraction=share, seed=3)} for share in (0.1, 0.35, 0.7, 1)]
    assert [len(part) for part in parts] == [20, 70, 140, 200]
    assert all(smaller < larger for smaller, larger in pairwise(parts))


def test_another_seed_draws_others_and_the_same_one_the_same(records: list[Record]) -> None:
    first, again, other = (nested_order(records, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(other) == list(range(200))


def test_records_keep_their_order(records: list[Record]) -> None:
    numbers = [one.image_id for one in subset(records, fraction=0.5, seed=0)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", range(5))
def test_classes_keep_their_shares(records: list[Record], seed: int) -> None:
    whole = Counter(label for one in records for label in set(one.labels.tolist()) or {-1})
    order = nested_order(records, seed=seed)
    first = {label for index in order[:4] for label in set(records[index].labels.tolist()) or {-1}}
    assert first == {-1, 0, 1, 2}  # the rarest, too, and pictures without boxes
    for count in (25, 50, 100):
        part = Counter(label for index in order[:count] for label in set(records[index].labels.tolist()) or {-1})
        for label, pictures in whole.items():
            assert part[label] >= count / 200 * pictures - 3  # others that are behind come first


def test_pictures_of_many_classes_are_not_preferred() -> None:
    chance = np.random.default_rng(0)
    records = [record(n, np.flatnonzero(chance.random(20) < 0.1).tolist()) for n in range(400)]
    mean = np.mean([len(one.labels) for one in records])
    parts = [subset(records, fraction=0.25, seed=seed) for seed in range(10)]
    assert np.mean([len(one.labels) for part in parts for one in part]) == pytest.approx(mean, rel=0.1)


def test_one_picture_is_the_least() -> None:
    assert len(subset([record(0, [0]), record(1, [])], fraction=0.01, seed=0)) == 1


def test_crowds_are_no_class() -> None:
    records = [record(n, [0], crowd=True) for n in range(6)] + [record(6, [0])]
    assert 6 in nested_order(records, seed=0)[:2]
