"""Which pictures a run sets aside for validation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.training.run_config import Data, Source
from falconet.training.run_data import load_data, train_val_split
from tests.training.tiny import draw


@given(
    labels=st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=2, max_size=60), fraction=st.floats(0.05, 0.95)
)
def test_no_class_is_missing_on_either_side(labels: list[list[int]], fraction: float) -> None:
    records = tuple(_record(number, own) for number, own in enumerate(labels))
    train, val = train_val_split(records, fraction=fraction)
    assert sorted(r.image_id for r in (*train, *val)) == list(range(len(records)))
    assert len(val) == min(len(records) - 1, max(1, round(fraction * len(records))))
    assert [r.image_id for r in val] == sorted(r.image_id for r in val)
    often = [c for c in range(6) if sum(c in own for own in labels) >= 2]
    if len(val) >= 6:
        assert all(any(c in r.labels for r in val) for c in often)


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    path = data / "train.json"
    path.write_text(path.read_text().replace('"ring"', '"disc"'))
    with pytest.raises(DataError, match=r"train\.json: 2 classes are called 'disc'; give them different names"):
        load_data(Data(train=Source(annotations=path), val=None))


def test_rare_classes_are_on_both_sides() -> None:
    labels = [[0]] * 96 + [[1]] * 2 + [[2, 0]] * 2
    train, val = train_val_split(tuple(_record(n, own) for n, own in enumerate(labels)), fraction=0.1)
    for part in (train, val):
        assert {int(c) for record in part for c in record.labels} == {0, 1, 2}


def test_a_fraction_of_the_training_pictures(tmp_path: Path) -> None:
    source = Source(annotations=draw(tmp_path / "drawn", train=40) / "train.json")
    whole, half, quarter = (load_data(Data(train=source, fraction=share)) for share in (1, 0.5, 0.25))
    numbers = [{record.image_id for record in one.train} for one in (whole, half, quarter)]
    assert [len(one) for one in numbers] == [34, 17, 8]
    assert numbers[2] < numbers[1] < numbers[0]
    assert [r.image_id for r in whole.val] == [r.image_id for r in quarter.val]
    assert whole.names == quarter.names
    assert "data.fraction: 8 of 34 training pictures, drawn by class (seed 0)" in quarter.notes
    assert not any("fraction" in note for note in whole.notes)
    other = load_data(Data(train=source, fraction=0.25, fraction_seed=1))
    assert {record.image_id for record in other.train} != numbers[2]


def _record(number: int, labels: list[int]) -> Record:
    return Record(
        image_id=number,
        path=Path(f"{number}.jpg"),
        width=10,
        height=10,
        boxes=np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(labels), 1)),
        labels=np.array(labels, np.int64),
        crowd=np.zeros(len(labels), bool),
    )
