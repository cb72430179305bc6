"""Anchors: sides as the network sees them, fit, search; and their place in a run file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.errors import ConfigError, DataError
from falconet.core.manifest import Preprocess
from falconet.core.types import Record
from falconet.data import anchors as module
from falconet.data.anchors import Fit, find_anchors, measure, shape_iou, widths_heights_in_input
from falconet.data.run_anchors import read_run_anchors

RUN = """\
# my run
model:
  name: yolov3
  input: {height: 64, width: 128, resize: stretch}
  head:
    center_reach: 2.0  # half a cell
    masks: [[0], [1]]
data:
  train: train.json
  val: null  # none
"""


def record(boxes, crowd=None, width=200, height=100):
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Record("a", Path("a.png"), width, height, boxes, np.zeros(len(boxes)), crowd)


def test_sides_as_the_network_sees_them():
    boxes = record([[0, 0, 20, 10], [10, 10, 110, 60], [0, 0, 50, 50]], crowd=[False, False, True])
    # Letterbox: 64 / 200 for both sides; stretch: 64 / 200 and 32 / 100.
    box = widths_heights_in_input([boxes], Preprocess(height=64, width=64, resize="letterbox"))
    np.testing.assert_allclose(box, [[6.4, 3.2], [32, 16]])
    tall = widths_heights_in_input(
        [boxes, replace(boxes, width=100)], Preprocess(height=64, width=64, resize="stretch")
    )
    np.testing.assert_allclose(tall, [[6.4, 6.4], [32, 32], [12.8, 6.4], [64, 32]])
    assert widths_heights_in_input([], Preprocess()).shape == (0, 2)
    assert widths_heights_in_input([record(np.zeros((0, 4)))], Preprocess()).shape == (0, 2)


def test_shape_iou_and_fit_by_hand():
    sides = np.array([[10.0, 10], [20, 10], [40, 40]])
    found = shape_iou(sides, np.array([[10.0, 10], [10, 20]]))
    np.testing.assert_allclose(found, [[1, 0.5], [0.5, 100 / 300], [100 / 1600, 200 / 1600]])
    assert measure(sides, [(10, 10), (10, 20)]) == Fit(recall=1 / 3, likeness=(1 + 0.5 + 0.125) / 3, boxes=3)
    assert measure(np.zeros((0, 2)), [(10, 10)]) == Fit(1.0, 1.0, 0)


def test_clear_clusters_are_found():
    random = np.random.default_rng(0)
    centres = np.array([[12.0, 9], [30, 60], [100, 40]])
    sides = (centres[:, None] * random.uniform(0.97, 1.03, (3, 50, 2))).reshape(-1, 2)
    found = find_anchors(sides, 3)
    np.testing.assert_allclose(found, centres[[0, 1, 2]], rtol=0.02)
    assert measure(sides, found).recall == 1
    np.testing.assert_array_equal(found, find_anchors(random.permutation(sides), 3))


def test_refinement_only_ever_improves():
    sides = np.exp(np.random.default_rng(1).normal(3.5, 0.8, (400, 2)))
    start = np.array([[10.0, 10], [30, 30], [90, 90]])
    assert measure(sides, module._refine(sides, start)).likeness > measure(sides, start).likeness + 0.01


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), min_size=4, max_size=30, unique=True),
    st.integers(1, 4),
)
def test_any_boxes(rows, count):
    sides = np.array(rows)
    found = find_anchors(sides, count)
    assert found.shape == (count, 2)
    assert (found >= module.SMALLEST_SIDE).all()
    assert (np.diff(found.prod(1)) >= 0).all()
    assert 0 <= measure(sides, found).likeness <= 1 + 1e-9


def test_a_sample_of_many_boxes_is_enough(monkeypatch):
    sides = np.exp(np.random.default_rng(2).normal(3, 0.7, (3000, 2)))
    whole = measure(sides, find_anchors(sides, 4)).likeness
    monkeypatch.setattr(module, "SAMPLE", 500)
    assert measure(sides, find_anchors(sides, 4)).likeness == pytest.approx(whole, abs=0.01)


def test_too_few_boxes():
    with pytest.raises(DataError) as error:
        find_anchors(np.array([[3.0, 4], [3, 4], [5, 6]]), 3)
    assert str(error.value) == "3 anchors need at least as many boxes of different shapes, but there are 2"
    with pytest.raises(DataError, match="but there are 0"):
        find_anchors(np.zeros((0, 2)), 1)


def test_a_run_file_keeps_everything_else(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    run = read_run_anchors(path)
    assert (run.anchors, run.masks, run.levels) == (None, ((0,), (1,)), 2)
    assert run.preprocess == Preprocess(height=64, width=128, resize="stretch")
    run.write(np.array([[1.5, 2], [3, 4], [5, 6], [7, 8.5]]))
    expected = RUN.replace(
        "    masks: [[0], [1]]\n",
        "    masks: [[0, 1], [2, 3]]\n    anchors: [[1.5, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.5]]\n",
    )
    assert path.read_text() == expected
    again = read_run_anchors(path)
    assert again.anchors == ((1.5, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.5))
    assert list(tmp_path.iterdir()) == [path]


def test_three_levels_where_the_file_does_not_say(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: {name: yolov3}\n")
    run = read_run_anchors(path)
    assert (run.levels, run.preprocess.resize, run.preprocess.height) == (3, "letterbox", 320)
    with pytest.raises(ConfigError) as error:
        run.write(np.ones((4, 2)))
    assert str(error.value) == (
        f"{path}: 4 anchors cannot be shared equally by 3 levels; expected --count 9, or another multiple of 3"
    )
    assert path.read_text() == "model: {name: yolov3}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {name: nanodet}", "model.name is 'nanodet', which has no anchors; expected 'yolov3'"),
        ("model: text", "model.name is None, which has no anchors; expected 'yolov3'"),
        (
            "model: {name: yolov3, head: {anchors: [[1, 2], 3]}}",
            "model.head.anchors: expected a list of lists",
        ),
        (
            "model: {name: yolov3, head: {anchors: [[1, wide]]}}",
            "model.head.anchors: expected numbers in its lists",
        ),
        (
            "model: {name: yolov3, head: {anchors: [[1, 0]]}}",
            "model.head.anchors: expected a list of [width, height], both above 0",
        ),
        ("model: {name: yolov3, head: {masks: []}}", "model.head.masks: expected a list of lists"),
    ],
)
def test_wrong_run_files(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_run_anchors(path)
    assert str(error.value) == f"{path}: {message}"
