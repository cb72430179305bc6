"""Box functions by hand, by property, and with nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.boxes import (
    area,
    clip,
    pairwise_iou,
    xyxy_to_cxcywh,
)
from falconet.core.types import Floats

NONE = np.zeros((0, 4), np.float32)


def _boxes(*rows: tuple[float, float, float, float]) -> Floats:
    return np.array(rows, np.float32).reshape(-1, 4)


coordinate = st.floats(-500, 500, width=32)
some_boxes = st.lists(
    st.tuples(coordinate, coordinate, st.floats(0, 500, width=32), st.floats(0, 500, width=32)), max_size=6
).map(lambda rows: _boxes(*[(x, y, x + w, y + h) for x, y, w, h in rows]))


def test_area_by_hand() -> None:
    boxes = _boxes((0, 0, 2, 3), (1, 1, 1, 5), (5, 5, 2, 9), (5, 5, 2, 2))
    assert area(boxes).tolist() == [6, 0, 0, 0]
    assert area(NONE).shape == (0,)


def test_iou_by_hand() -> None:
    boxes = _boxes((0, 0, 4, 4))
    others = _boxes((0, 0, 4, 4), (2, 2, 6, 6), (4, 0, 8, 4), (9, 9, 9, 9))
    np.testing.assert_allclose(pairwise_iou(boxes, others), [[1, 4 / 28, 0, 0]], rtol=1e-6)


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = _boxes((3, 3, 3, 3))
    assert pairwise_iou(point, point).tolist() == [[0]]


def test_iou_with_nothing() -> None:
    some = _boxes((0, 0, 4, 4), (1, 1, 2, 2))
    assert pairwise_iou(NONE, some).shape == (0, 2)
    assert pairwise_iou(some, NONE).shape == (2, 0)
    assert pairwise_iou(NONE, NONE).shape == (0, 0)


@given(some_boxes, some_boxes)
def test_iou_is_symmetric_and_between_0_and_1(boxes: Floats, others: Floats) -> None:
    iou = pairwise_iou(boxes, others)
    assert iou.shape == (len(boxes), len(others))
    assert ((iou >= 0) & (iou <= 1 + 1e-5)).all()
    np.testing.assert_allclose(iou, pairwise_iou(others, boxes).T, atol=1e-6)


@given(some_boxes)
def test_iou_with_itself_is_one_where_there_is_area(boxes: Floats) -> None:
    large = boxes[area(boxes) > 1]
    np.testing.assert_allclose(np.diagonal(pairwise_iou(large, large)), 1, rtol=1e-5)


def test_clip_by_hand() -> None:
    boxes = _boxes((-5, 2, 30, 8), (1, 1, 2, 2), (25, 3, 28, 4))
    expected = [[0, 2, 20, 8], [1, 1, 2, 2], [20, 3, 20, 4]]
    assert clip(boxes, height=10, width=20).tolist() == expected
    assert clip(NONE, height=10, width=20).shape == (0, 4)


@given(some_boxes, st.integers(1, 300), st.integers(1, 300))
def test_clip_is_inside_and_clipping_again_changes_nothing(boxes: Floats, height: int, width: int) -> None:
    clipped = clip(boxes, height=height, width=width)
    assert ((clipped >= 0) & (clipped <= [width, height, width, height])).all()
    np.testing.assert_array_equal(clip(clipped, height=height, width=width), clipped)
    assert clipped.dtype == np.float32


def test_conversions_by_hand() -> None:
    assert xyxy_to_cxcywh(_boxes((10, 20, 40, 30))).tolist() == [[25, 25, 30, 10]]
    assert xyxy_to_cxcywh(NONE).shape == (0, 4)
