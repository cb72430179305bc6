"""Classes are matched by name; a class the model does not know is an error that names both lists."""

import pytest

from falconet.core.errors import DataError
from falconet.core.types import Detections
from falconet.eval.classes import match


def test_same_classes_need_no_note():
    same = match(["cat", "dog"], ["cat", "dog"], data="d", model="m")
    assert same.note == ""
    assert same.to_data.tolist() == [0, 1]


def test_another_order_is_matched_by_name():
    swapped = match(["cat", "dog"], ["dog", "cat"], data="d", model="m")
    assert swapped.note == "the classes of data set and model come in different orders; they are matched by name"
    result = swapped.apply(Detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.9, 0.8], [0, 1], ("dog", "cat")))
    assert [(name, round(score, 1)) for name, score, _ in result] == [("dog", 0.9), ("cat", 0.8)]
    assert result.labels.tolist() == [1, 0]


def test_classes_only_the_model_knows_are_left_out():
    subset = match(["dog"], ["cat", "dog", "cow"], data="d", model="m")
    assert subset.note == "the model knows 2 classes the data set does not have; their detections are left out"
    result = subset.apply(Detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.9, 0.8], [0, 1]))
    assert [name for name, _, _ in result] == ["dog"]
    assert len(subset.apply(Detections([], [], []))) == 0


def test_an_unknown_class_names_both_lists():
    with pytest.raises(DataError) as error:
        match(["cat", "horse"], ["cat", "dog"], data="val.json", model="m.onnx")
    assert str(error.value) == (
        "val.json: its classes do not fit the model: horse not known to m.onnx\n"
        "  data set: cat, horse\n"
        "  model:    cat, dog\n"
        "expected every class of the data set among those of the model, spelled the same: "
        "rename the classes of the data set, or evaluate a model trained on it"
    )


def test_blanks_and_underscores_are_the_same():
    folded = match(["dog", "traffic light"], ["traffic_light", "dog"], data="d", model="m")
    assert folded.to_data.tolist() == [1, 0]
    assert folded.note == (
        "the classes of data set and model come in different orders; they are matched by name; names that differ in "
        "blanks and underscores only are taken for the same: traffic_light is traffic light"
    )
    with pytest.raises(DataError, match=r"a b not known to m\n  data set: a b, c\n  model:    a_b, a_b, c"):
        match(["a b", "c"], ["a_b", "a_b", "c"], data="d", model="m")


def test_long_lists_are_cut():
    with pytest.raises(DataError, match="c99 and 20 more"):
        match([f"c{n}" for n in range(120)], ["cat"], data="d", model="m")
