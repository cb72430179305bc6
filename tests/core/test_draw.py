"""Drawing leaves its input alone and never fails on odd boxes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from falconet.core.draw import class_colour, draw_boxes, grid
from falconet.core.types import Floats

BLACK = np.zeros((120, 160, 3), np.uint8)


def test_box_lines_lie_on_the_corners() -> None:
    image = draw_boxes(BLACK, np.array([[40, 60, 100, 110]], np.float32), np.array([0]), ["a"])
    colour = class_colour(0)
    for row, column in ((60, 70), (109, 70), (80, 40), (80, 99)):
        assert tuple(image[row, column].tolist()) == colour
    assert image[80, 70].sum() == 0
    assert image[118, 158].sum() == 0
    assert BLACK.sum() == 0


def test_no_boxes_leaves_the_picture_as_it_is() -> None:
    image = draw_boxes(BLACK, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
    np.testing.assert_array_equal(image, BLACK)
    assert image is not BLACK


def test_score_and_name_are_written() -> None:
    box, label = np.array([[40, 60, 100, 110]], np.float32), np.array([2])
    plain = draw_boxes(BLACK, box, label, ["a", "b", "c"])
    scored = draw_boxes(BLACK, box, label, ["a", "b", "c"], np.array([0.5], np.float32))
    unnamed = draw_boxes(BLACK, box, label, [])
    assert (scored != plain).any()
    assert (unnamed != plain).any()


def test_colours_of_neighbouring_classes_differ() -> None:
    colours = [class_colour(label) for label in range(16)]
    assert len(set(colours)) == 16
    for first, second in pairwise(colours):
        assert np.abs(np.subtract(first, second)).sum() > 100
    assert class_colour(3) == class_colour(3)


@given(
    boxes=arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_any_boxes_and_sizes_are_drawn(boxes: Floats, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_boxes(image, boxes, np.array([0, 1, 2]), ["a", "b"], np.ones(3, np.float32))
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_grid_places_pictures_row_by_row() -> None:
    pictures = [np.full((30, 40, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = grid(pictures, 2, cell=(30, 40), gap=4)
    assert sheet.shape == (2 * 34 + 4, 2 * 44 + 4, 3)
    assert sheet[10, 10, 0] == 10
    assert sheet[10, 60, 0] == 20
    assert sheet[50, 10, 0] == 30
    assert sheet[50, 60, 0] == 255


def test_grid_has_no_more_columns_than_pictures() -> None:
    assert grid([BLACK], 5, cell=(30, 40), gap=0).shape == (30, 40, 3)


@pytest.mark.parametrize(("count", "columns"), [(0, 2), (1, 0)])
def test_grid_needs_pictures_and_columns(count: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"a contact sheet needs pictures and columns, but got {count} and {columns}"):
        grid([BLACK] * count, columns)
