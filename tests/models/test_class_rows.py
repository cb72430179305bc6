"""Class outputs by name: which classes are the same, and which rows are theirs."""

import pytest
import torch

from falconet.models.class_rows import same_classes, take_class_rows

COCO = ("person", "bus", "motorcycle", "traffic light", "couch", "wine glass", "knife", "dog", "dining table")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("person", "person"),
        ("Person", "person"),
        ("persons", "person"),
        ("traffic_light", "traffic light"),
        ("Traffic-Lights", "traffic light"),
        ("buses", "bus"),
        ("motorbike", "motorcycle"),
        ("sofa", "couch"),
        ("wine glasses", "wine glass"),
        ("diningtable", "dining table"),
        ("cat", None),
        ("glass", None),
        ("perso", None),
        ("", None),
    ],
)
def test_names_that_mean_the_same(name: str, known: str | None) -> None:
    assert same_classes([name], COCO) == [None if known is None else COCO.index(known)]


def test_plurals_on_the_other_side() -> None:
    assert same_classes(["apple", "cherry", "bus"], ["Apples", "cherries", "buses"]) == [0, 1, 2]


def test_an_exact_match_comes_first_and_no_class_is_taken_twice() -> None:
    assert same_classes(["dogs", "dog"], ["cat", "dog"]) == [None, 1]
    assert same_classes(["Dog", "DOG"], ["dog"]) == [0, None]


def test_rows_of_one_and_of_several_predictions_per_place() -> None:
    trained = torch.arange(10.0)[:, None]
    target = torch.full((5, 1), -1.0)
    take_class_rows(target, trained, slice(0, 3), places=[2, None, 0], count=4, mean=False)
    assert target.flatten().tolist() == [2, -1, 0, -1, -1]
    target = torch.full((7, 1), -1.0)
    take_class_rows(target, trained, slice(0, 6), places=[2, None, 0], count=4, mean=False)
    assert target.flatten().tolist() == [2, -1, 0, 6, -1, 4, -1]
    take_class_rows(target, trained, slice(0, 6), places=[2, None, 0], count=4, mean=True)
    assert target.flatten().tolist() == [2, 1.5, 0, 6, 5.5, 4, -1]
