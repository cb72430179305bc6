"""Fitting pictures: every pixel and every box ends where the placement says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.manifest import ResizeRule
from falconet.core.resize import halved, resize_to

sides = st.integers(1, 300)
inputs = st.integers(8, 256)
rules = st.sampled_from(["stretch", "letterbox"])


def test_stretch_by_hand() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    fitted, placement = resize_to(image, (40, 40))
    assert fitted.shape == (40, 40, 3)
    assert placement.scale == (2.0, 4.0)
    assert placement.offset == (0.0, 0.0)
    assert placement.original == (10, 20)


def test_letterbox_by_hand() -> None:
    image = np.full((10, 20, 3), 200, np.uint8)
    fitted, placement = resize_to(image, (40, 40), rule="letterbox", pad_value=7)
    assert placement.scale == (2.0, 2.0)
    assert placement.offset == (0.0, 10.0)
    assert (fitted[:10] == 7).all()
    assert (fitted[30:] == 7).all()
    assert (fitted[10:30] == 200).all()


@pytest.mark.parametrize("size", [(512, 512), (512, 96), (100, 700), (333, 555)])
def test_texture_finer_than_a_pixel_is_averaged(size: tuple[int, int]) -> None:
    """Also where one side alone shrinks; bilinear interpolation by itself would leave the texture as it is."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    fitted, _ = resize_to(image, (64, 64))
    halvings = sum(int(np.log2(side / 64)) for side in size)
    assert fitted.std() < 74 / 2 ** (halvings / 2) + 1, "74 is the deviation of numbers from 0 to 255"
    assert abs(fitted.mean() - image.mean()) < 1


def test_halved_by_hand() -> None:
    image = np.zeros((4, 7, 3), np.uint8)
    image[0, :2] = 120
    assert halved(image[:, :6], at_least=(2, 3))[..., 0].tolist() == [[60, 0, 0], [0, 0, 0]]
    assert halved(image[:, :6], at_least=(3, 3))[..., 0].tolist() == [[120, 0, 0], *[[0, 0, 0]] * 3]
    assert halved(image[:, :4], at_least=(1, 1))[..., 0].tolist() == [[15]]
    assert halved(image, at_least=(3, 4)) is image


def test_same_size_keeps_the_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    for rule in ("stretch", "letterbox"):
        fitted, placement = resize_to(image, (32, 48), rule=rule)
        np.testing.assert_array_equal(fitted, image)
        assert placement.scale == (1.0, 1.0)


@given(height=sides, width=sides, input_height=inputs, input_width=inputs, rule=rules)
def test_placement_of_the_whole_picture(
    height: int, width: int, input_height: int, input_width: int, rule: ResizeRule
) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    fitted, placement = resize_to(image, (input_height, input_width), rule=rule, pad_value=0)
    assert fitted.shape == (input_height, input_width, 3)
    assert fitted.flags.c_contiguous
    whole = np.array([[0, 0, width, height]], np.float32)
    x1, y1, x2, y2 = placement.to_input(whole)[0].tolist()
    # The white picture fills exactly the box the placement gives, on black.
    columns, rows = np.flatnonzero(fitted[..., 0].any(0)), np.flatnonzero(fitted[..., 0].any(1))
    assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == pytest.approx([x1, y1, x2, y2], abs=1e-2)
    np.testing.assert_allclose(placement.to_original(placement.to_input(whole)), whole, rtol=1e-4, atol=1e-3)


@given(height=st.integers(20, 300), width=st.integers(20, 300), input_height=inputs, input_width=inputs)
def test_letterbox_keeps_the_aspect_ratio(height: int, width: int, input_height: int, input_width: int) -> None:
    _, placement = resize_to(np.zeros((height, width, 3), np.uint8), (input_height, input_width), "letterbox")
    inner_width, inner_height = placement.scale[0] * width, placement.scale[1] * height
    assert inner_width == pytest.approx(input_width) or inner_height == pytest.approx(input_height)
    ratio = min(input_height / height, input_width / width)
    assert abs(inner_width - width * ratio) <= 1
    assert abs(inner_height - height * ratio) <= 1


@given(height=st.integers(2, 200), width=st.integers(2, 200), rule=rules)
def test_a_reduced_picture_has_the_placement_of_the_original(height: int, width: int, rule: ResizeRule) -> None:
    full = np.zeros((height, width, 3), np.uint8)
    reduced = np.zeros((-(-height // 2), -(-width // 2), 3), np.uint8)
    _, expected = resize_to(full, (64, 96), rule=rule)
    fitted, placement = resize_to(reduced, (64, 96), rule=rule, original=(height, width))
    assert placement == expected
    assert fitted.shape == (64, 96, 3)
