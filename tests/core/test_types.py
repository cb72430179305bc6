"""Types check themselves on creation and say what they got."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.types import Detections, Floats, Placement, Record, Sample

BOXES = [[1, 2, 3, 4], [5, 6, 9, 9], [0, 0, 1, 1]]


def _record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "image_id": 1,
        "path": Path("a.jpg"),
        "width": 10,
        "height": 10,
        "boxes": BOXES,
        "labels": [0, 1, 2],
        "crowd": [False, True, False],
    }
    return Record(**{**fields, **changes})


def _sample(**changes: Any) -> Sample:
    fields: dict[str, Any] = {"image": np.zeros((4, 5, 3), np.uint8), "boxes": BOXES, "labels": [0, 1, 2]}
    return Sample(**{**fields, **changes})


def _detections(**changes: Any) -> Detections:
    fields: dict[str, Any] = {"boxes": BOXES, "scores": [0.9, 0.5, 0.1], "labels": [1, 0, 1], "names": ("a", "b")}
    return Detections(**{**fields, **changes})


def test_lists_become_arrays_of_fixed_types() -> None:
    record, sample, detections = _record(areas=[1, 2, 3]), _sample(), _detections()
    assert record.areas is not None
    assert [array.dtype for array in (record.boxes, record.labels, record.crowd, record.areas)] == [
        np.float32,
        np.int64,
        np.bool_,
        np.float32,
    ]
    assert (sample.boxes.dtype, sample.labels.dtype) == (np.float32, np.int64)
    assert (detections.scores.dtype, detections.labels.dtype) == (np.float32, np.int64)


def test_empty_lists_are_valid() -> None:
    assert _record(boxes=[], labels=[], crowd=[], areas=[]).boxes.shape == (0, 4)
    assert _sample(boxes=[], labels=[]).boxes.shape == (0, 4)
    empty = _detections(boxes=[], scores=[], labels=[])
    assert len(empty) == 0
    assert list(empty) == []
    assert len(empty.above(0.5)) == 0


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (
            _record,
            {"boxes": [[1, 2, 3]]},
            r"Record\.boxes must have shape \[N, 4\] \(x1, y1, x2, y2\), but got \[1, 3\]",
        ),
        (_record, {"boxes": [1, 2, 3, 4]}, r"Record\.boxes must have shape \[N, 4\] .* but got \[4\]"),
        (_record, {"labels": [0]}, r"Record\.labels must have shape \[3\], one per box, but got \[1\]"),
        (_record, {"crowd": []}, r"Record\.crowd must have shape \[3\], one per box, but got \[0\]"),
        (_record, {"areas": [1.0]}, r"Record\.areas must have shape \[3\], one per box, but got \[1\]"),
        (_record, {"box_keys": (1,)}, r"Record\.box_keys must be empty or have 3 entries, one per box"),
        (
            _sample,
            {"image": np.zeros((4, 5), np.uint8)},
            r"Sample\.image must be uint8 \[H, W, 3\], but got uint8 \[4, 5\]",
        ),
        (
            _sample,
            {"image": np.zeros((4, 5, 3))},
            r"Sample\.image must be uint8 \[H, W, 3\], but got float64 \[4, 5, 3\]",
        ),
        (_sample, {"labels": [0]}, r"Sample\.labels must have shape \[3\], one per box, but got \[1\]"),
        (_detections, {"scores": [0.1]}, r"Detections\.scores must have shape \[3\], one per box, but got \[1\]"),
        (_detections, {"labels": [0, 1, 2]}, r"Detections\.labels must lie in 0\.\.1 for 2 names, but got 0\.\.2"),
        (_detections, {"labels": [0, -1, 1]}, r"Detections\.labels must lie in 0\.\.1 for 2 names, but got -1\.\.1"),
    ],
)
def test_what_is_refused(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_record_takes_boxes_with_all_they_have() -> None:
    kept = _record(areas=[1, 2, 3], box_keys=(7, 8, 9)).take(np.array([True, False, True]))
    np.testing.assert_array_equal(kept.boxes, [BOXES[0], BOXES[2]])
    assert kept.labels.tolist() == [0, 2]
    assert kept.crowd.tolist() == [False, False]
    assert kept.areas is not None
    assert kept.areas.tolist() == [1, 3]
    assert kept.box_keys == (7, 9)
    assert _record().take(np.zeros(3, np.bool_)).boxes.shape == (0, 4)


def test_detections_iterate_as_name_score_corners() -> None:
    assert list(_detections().above(0.4)) == [
        ("b", pytest.approx(0.9), (1, 2, 3, 4)),
        ("a", 0.5, (5, 6, 9, 9)),
    ]
    assert _detections(names=()).name(3) == "class 3"
    assert len(_detections().above(0.5)) == 1


def test_types_are_frozen() -> None:
    with pytest.raises(AttributeError):
        _record().width = 5  # type: ignore[misc]
    assert replace(_record(), width=5).width == 5


boxes_inside = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=5).map(
    lambda rows: np.array(rows, np.float32).reshape(-1, 4)
)


@given(
    relative=boxes_inside,
    scale=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
    offset=st.tuples(st.floats(0, 300), st.floats(0, 300)),
    original=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
def test_placement_maps_there_and_back(
    relative: Floats, scale: tuple[float, float], offset: tuple[float, float], original: tuple[int, int]
) -> None:
    height, width = original
    boxes = relative * np.array([width, height, width, height], np.float32)
    placement = Placement(scale, offset, original)
    back = placement.to_original(placement.to_input(boxes))
    # float32 keeps seven digits of coordinate plus offset, then undoes the scale.
    tolerance = 1e-6 * (max(original) + max(offset) / min(scale)) + 1e-5
    np.testing.assert_allclose(back, boxes, atol=tolerance, rtol=1e-5)


def test_placement_by_hand() -> None:
    placement = Placement(scale=(0.5, 2.0), offset=(10.0, 0.0), original=(20, 100))
    np.testing.assert_array_equal(placement.to_input(np.array([[0, 0, 100, 20]], np.float32)), [[10, 0, 60, 40]])
    # Left of the picture's edge in the input, and below its end: clipped to the picture.
    np.testing.assert_array_equal(placement.to_original(np.array([[0, 4, 35, 99]], np.float32)), [[0, 2, 50, 20]])
    assert placement.to_input(np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert placement.to_original(np.zeros((0, 4), np.float32)).shape == (0, 4)
