"""The grid, by hand and by property."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from falconet.models.priors import make_priors


def test_by_hand():
    priors = make_priors((9, 17), (8, 16), offset=0.0)
    assert priors.points.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert priors.strides.tolist() == [[8]] * 6 + [[16]] * 2


def test_centres():
    priors = make_priors((8, 16), (8,), offset=0.5)
    assert priors.points.tolist() == [[4, 4], [12, 4]]


def test_no_levels_of_one_cell_is_lost():
    assert make_priors((1, 1), (8, 64), offset=0.0).points.shape == (2, 2)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([0.0, 0.5]))
def test_as_many_cells_as_strided_convolutions_leave(height, width, offset):
    rows, columns, expected = height, width, 0
    for level in range(1, 7):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2  # one convolution of stride 2 with padding
        expected += rows * columns if level >= 3 else 0
    priors = make_priors((height, width), (8, 16, 32, 64), offset=offset)
    assert priors.points.shape == (expected, 2)
    assert priors.strides.shape == (expected, 1)
    assert priors.points.dtype == torch.float32
    assert bool((priors.points >= 0).all())
    assert bool((priors.points[:, 0] < width + 64).all())
