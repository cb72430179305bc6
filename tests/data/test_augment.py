"""Augmentation: boxes follow the pixels, ranges hold, chance comes from the generator alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.config import validate
from falconet.core.errors import ConfigError
from falconet.core.manifest import Preprocess
from falconet.core.resize import resize_to
from falconet.core.types import Sample
from falconet.data.augment import (
    Augment,
    Geometry,
    augment,
    colour_matrix,
    draw_geometry,
    geometry_matrix,
    hue_matrix,
    keep_visible,
    recolour,
    warp_boxes,
    warp_pixels,
)

OFF = Augment(strength=0)
INPUT = Preprocess(height=96, width=128)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 200 / height, columns * 200 / width, np.full_like(rows, 90)], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(96, 128), (150, 260), (48, 64), (61, 47)])
def test_nothing_drawn_is_the_plain_fit(size: tuple[int, int]) -> None:
    image = smooth(*size)
    varied = augment(Sample(image, np.zeros((0, 4)), np.zeros(0)), OFF, INPUT, np.random.default_rng(0))
    plain, _ = resize_to(image, (96, 128))
    inner = (slice(3, -3), slice(3, -3))
    assert np.abs(varied.image[inner].astype(int) - plain[inner].astype(int)).max() <= 2


@given(
    zoom=st.tuples(st.floats(0.6, 1.6), st.floats(0.6, 1.6)),
    shift=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
    flip=st.tuples(st.booleans(), st.booleans()),
    turns=st.integers(0, 3),
    size=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    keep_ratio=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_boxes_follow_the_pixels(
    zoom: tuple[float, float],
    shift: tuple[float, float],
    flip: tuple[bool, bool],
    turns: int,
    size: tuple[int, int],
    keep_ratio: bool,
    seed: int,
) -> None:
    height, width = size
    rng = np.random.default_rng(seed)
    left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
    right, bottom = left + rng.integers(16, width // 2), top + rng.integers(16, height // 2)
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right] = 255
    geometry = Geometry(zoom, shift, flip, turns * np.pi / 2)
    matrix = geometry_matrix(geometry, source=size, target=(96, 128), keep_ratio=keep_ratio)
    boxes = warp_boxes(np.array([[left, top, right, bottom]], np.float32), matrix)
    warped = warp_pixels(image, matrix, height=96, width=128, pad_value=0)
    clipped, labels = keep_visible(boxes, np.array([3]), OFF, height=96, width=128)
    seen = warped[:, :, 0].astype(np.float64) / 255
    if not len(labels):
        assert seen.sum() <= 0.12 * (boxes[0, 2] - boxes[0, 0]) * (boxes[0, 3] - boxes[0, 1]) + 2 * (96 + 128)
        return
    # The sum of coverage along each axis gives the rectangle's sides to a fraction of a pixel.
    x1, y1, x2, y2 = clipped[0]
    assert seen.max(0).sum() == pytest.approx(x2 - x1, abs=1.6)
    assert seen.max(1).sum() == pytest.approx(y2 - y1, abs=1.6)
    rows, columns = np.nonzero(seen > 0.5)
    assert columns.min() == pytest.approx(x1, abs=1.6)
    assert rows.min() == pytest.approx(y1, abs=1.6)


def test_a_turned_box_contains_its_pixels() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 20:80] = 255
    matrix = geometry_matrix(
        Geometry(angle=0.5, shear=(0.2, 0.1)), source=(100, 100), target=(100, 100), keep_ratio=False
    )
    box = warp_boxes(np.array([[20, 40, 80, 60]], np.float32), matrix)[0]
    rows, columns = np.nonzero(warp_pixels(image, matrix, height=100, width=100, pad_value=0)[:, :, 0] > 127)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    np.testing.assert_allclose(found, box, atol=2)


def test_boxes_that_keep_too_little_are_dropped_by_hand() -> None:
    boxes = np.array([[-90, 0, 10, 10], [-91, 0, 9, 10], [5, 5, 6.5, 50], [200, 200, 300, 300]], np.float32)
    kept, labels = keep_visible(boxes, np.arange(4), Augment(), height=96, width=128)
    np.testing.assert_array_equal(labels, [0])
    np.testing.assert_array_equal(kept, [[0, 0, 10, 10]])


def test_no_boxes_stay_no_boxes() -> None:
    sample = augment(Sample(smooth(50, 60), np.zeros((0, 4)), np.zeros(0)), Augment(), INPUT, np.random.default_rng(1))
    assert sample.boxes.shape == (0, 4)
    assert sample.image.shape == (96, 128, 3)
    assert sample.image.flags.c_contiguous


def test_the_generator_decides_everything() -> None:
    sample = Sample(smooth(70, 90), np.array([[10, 10, 60, 60]]), np.array([1]))
    config = Augment(rotate=10, shear=5)
    first, again, other = (augment(sample, config, INPUT, np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)


def test_draws_lie_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_geometry(Augment(), rng) for _ in range(2000)]
    zoom = np.array([d.zoom for d in draws])
    assert 0.6 * 0.8 <= zoom.min() < 0.55
    assert 1.55 < zoom.max() <= 1.4 * 1.2
    shift = np.abs([d.shift for d in draws])
    room = np.maximum(0.2, (1 - zoom) / 2)
    assert (shift <= room).all()
    assert (shift > 0.9 * room).any()
    across, down = np.mean([d.flip for d in draws], axis=0)
    assert 0.45 < across < 0.55
    assert down == 0
    assert {d.angle for d in draws} == {0.0}


def test_a_picture_made_smaller_goes_anywhere_but_stays_whole() -> None:
    config = Augment(scale=(0.3, 0.5), stretch=(0.9, 1.1), translate=0, flip=0)
    sample = Sample(smooth(96, 128), np.array([[0, 0, 128, 96]]), np.array([1]))
    rng = np.random.default_rng(0)
    boxes = np.concatenate([augment(sample, config, INPUT, rng).boxes for _ in range(300)])
    kept = boxes[:, 2:] - boxes[:, :2]
    assert (kept >= 0.26 * np.array([INPUT.width, INPUT.height])).all()
    assert (kept <= 0.56 * np.array([INPUT.width, INPUT.height])).all()
    assert boxes[:, 0].min() < 0.02 * INPUT.width
    assert boxes[:, 2].max() > 0.98 * INPUT.width
    assert boxes[:, 1].min() < 0.02 * INPUT.height
    assert boxes[:, 3].max() > 0.98 * INPUT.height


def test_flips_by_hand() -> None:
    sample = Sample(smooth(96, 128), np.array([[10, 20, 40, 60]]), np.array([1]))
    both = Augment(strength=1, scale=(1, 1), stretch=(1, 1), translate=0, flip=1, flip_vertical=1, brightness=0)
    plain_colours = both.model_copy(update={"contrast": (1.0, 1.0), "saturation": (1.0, 1.0)})
    turned = augment(sample, plain_colours, INPUT, np.random.default_rng(0))
    np.testing.assert_array_equal(turned.boxes, [[88, 36, 118, 76]])
    np.testing.assert_array_equal(turned.image, sample.image[::-1, ::-1])


def test_strength_scales_the_ranges() -> None:
    assert Augment(strength=0.5).range((0.6, 1.4)) == pytest.approx((0.8, 1.2))
    assert Augment(strength=0).largest_zoom() == 1
    assert Augment().largest_zoom() == pytest.approx(1.68)


def test_colour_by_hand() -> None:
    image = np.full((2, 2, 3), (10, 100, 200), np.uint8)
    only_brightness = Augment(brightness=0.2, contrast=(1, 1), saturation=(1, 1), colour_chance=1)
    rng = np.random.default_rng(3)
    shift = np.random.default_rng(3).uniform(-1, 1) * 0.2 * 255
    bright = recolour(image, colour_matrix(only_brightness, rng))
    strong = Augment(brightness=0, contrast=(1, 1), saturation=(0.0501, 0.0501), colour_chance=1)
    np.testing.assert_allclose(bright[0, 0], np.clip(np.array([10, 100, 200]) + shift, 0, 255), atol=0.51)

    grey = recolour(image, colour_matrix(strong, rng))
    level = 0.114 * 10 + 0.587 * 100 + 0.299 * 200
    np.testing.assert_allclose(grey[0, 0], level + 0.0501 * (np.array([10, 100, 200]) - level), atol=0.51)
    assert recolour(image, colour_matrix(OFF, rng)) is image


def test_each_change_of_colour_is_drawn_for_its_share_of_the_pictures() -> None:
    rng = np.random.default_rng(0)
    config = Augment(brightness=0, contrast=(1.4, 1.4), saturation=(0.5, 0.5), hue=30, colour_chance=0.25)
    matrices = np.array([colour_matrix(config, rng)[:, :3] for _ in range(2000)])
    contrasted = np.isclose(matrices.sum(2), 1.4).all(1)  # what grey becomes: neither saturation nor hue changes it
    assert np.isclose(matrices.sum(2)[~contrasted], 1).all()
    assert abs(contrasted.mean() - 0.25) < 0.03
    untouched = np.isclose(matrices, np.eye(3)).all((1, 2))
    assert abs(untouched.mean() - 0.75**3) < 0.04


def test_hue_turns_colours_about_grey() -> None:
    third = hue_matrix(math.radians(120))
    np.testing.assert_allclose(third @ [1, 0, 0], [0, 0, 1], atol=1e-12)  # a third of the circle: blue becomes red
    np.testing.assert_allclose(third @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(hue_matrix(0.3) @ [7, 7, 7], [7, 7, 7], atol=1e-12)
    np.testing.assert_allclose(hue_matrix(0.3) @ hue_matrix(-0.3), np.eye(3), atol=1e-12)


def test_a_large_picture_is_averaged_before_the_warp() -> None:
    fine = np.zeros((512, 512, 3), np.uint8)
    fine[::2] = 200
    matrix = geometry_matrix(Geometry(), source=(512, 512), target=(64, 64), keep_ratio=False)
    warped = warp_pixels(fine, matrix, height=64, width=64, pad_value=0)
    assert np.abs(warped.astype(int) - 100).max() <= 2


def test_letterbox_keeps_the_aspect_ratio() -> None:
    preprocess = Preprocess(height=96, width=96, resize="letterbox", pad_value=7)
    sample = Sample(np.full((50, 100, 3), 200, np.uint8), np.array([[0, 0, 100, 50]]), np.array([0]))
    fitted = augment(sample, OFF, preprocess, np.random.default_rng(0))
    np.testing.assert_allclose(fitted.boxes, [[0, 24, 96, 72]], atol=1e-4)
    assert (fitted.image[:20] == 7).all()


def test_a_range_the_wrong_way_round_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        validate(Augment, {"scale": [1.4, 0.6]}, name="run.yaml")
    assert "scale: expected [smallest, largest] with 0 < smallest <= largest" in str(error.value)
