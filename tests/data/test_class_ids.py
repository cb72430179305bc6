"""When class ids are taken for shifted, and what is done with such data."""

from collections.abc import Collection
from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.data.class_ids import shifted_by
from falconet.data.formats import open_dataset
from falconet.data.records import drop_invalid
from tests.data.build import coco_tree, write_coco, write_yolo


@pytest.mark.parametrize(
    ("listed", "used", "shift"),
    [
        (range(3), {1, 2, 3}, 1),
        (range(1, 4), {0, 1, 2}, -1),
        (range(1), {1}, 1),
        (range(3), {0, 1, 2}, 0),
        (range(3), {1, 2}, 0),  # nothing lies beyond the list
        (range(3), {0, 1, 2, 3}, 0),  # a class is missing in the list
        (range(3), {1, 3}, 0),  # as likely, since another one has no box either
        (range(3), {1, 2, 3, 7}, 0),
        (range(20), set(range(1, 21)) - {5, 9}, 1),
        (range(20), set(range(1, 21)) - {5, 9, 10}, 0),
        ((1, 2, 5), {2, 3, 6}, 0),  # ids with gaps count from nowhere
        (("a", "b"), {1}, 0),
        ((), {1}, 0),
        (range(3), set(), 0),
    ],
)
def test_shifted(listed: Collection[int | str], used: Collection[int], shift: int) -> None:
    assert shifted_by(listed, used) == shift


def test_labels_are_read_as_they_are_meant_and_not_used(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "x", {"a": "1 0.5 0.5 0.2 0.2\n", "b": "2 0.5 0.5 0.2 0.2\n"})
    dataset = open_dataset(path)
    assert [record.labels.tolist() for record in dataset.records] == [[0], [1]]
    (problem,) = dataset.problems
    assert (problem.kind, problem.where) == ("shifted-ids", str(path))
    assert problem.what == (
        "the class ids of its boxes count from 1, but the list of classes from 0: they are 1 to 2, none is 0; every "
        "box would have the class of its neighbour"
    )
    with pytest.raises(DataError, match=r"count from 1, .*'falconet data check PATH --fix FOLDER' writes"):
        drop_invalid(dataset)


def test_a_class_behind_the_last_is_unknown_where_the_first_is_used(tmp_path: Path) -> None:
    dataset = open_dataset(
        write_yolo(tmp_path / "x", {"a": "0 0.5 0.5 0.2 0.2\n1 0.2 0.5 0.2 0.2\n2 0.5 0.5 0.1 0.2\n"})
    )
    assert [problem.kind for problem in dataset.problems] == ["unknown-class"]
    assert dataset.records[0].labels.tolist() == [0, 1]


def test_coco_ids_below_those_of_the_list(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 9, 9), (1, 20, 1, 30, 9)]})
    for annotation in tree["annotations"]:
        annotation["category_id"] -= 1
    dataset = open_dataset(write_coco(tmp_path / "x.json", tree))
    assert [problem.kind for problem in dataset.problems] == ["shifted-ids"]
    assert dataset.records[0].labels.tolist() == [0, 1]
