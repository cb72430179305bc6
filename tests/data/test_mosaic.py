"""Mosaic: each quarter shows its own picture, boxes stay within it and follow the pixels."""

import numpy as np
import pytest

from falconet.core.manifest import Preprocess
from falconet.core.types import Sample
from falconet.data.augment import Augment
from falconet.data.mosaic import mosaic

INPUT = Preprocess(height=128, width=160)


def picture(level: int, label: int) -> Sample:
    image = np.zeros((80, 100, 3), np.uint8)
    image[20:60, 30:70] = level
    return Sample(image, np.array([[30, 20, 70, 60]]), np.array([label]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bright", range(4))
def test_boxes_follow_the_pixels(bright: int, seed: int) -> None:
    samples = [picture(200 if label == bright else 0, label) for label in range(4)]
    preprocess = Preprocess(height=128, width=160, pad_value=0)
    joined = mosaic(samples, Augment(strength=0), preprocess, np.random.default_rng(seed))
    assert joined.image.shape == (128, 160, 3)
    assert sorted(joined.labels) == [0, 1, 2, 3]
    rows, columns = np.nonzero(joined.image[:, :, 0] > 100)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    np.testing.assert_allclose(found, joined.boxes[joined.labels == bright][0], atol=1.5)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_in_the_input_and_keep_an_area(seed: int) -> None:
    joined = mosaic([picture(200, i) for i in range(4)], Augment(rotate=20), INPUT, np.random.default_rng(seed))
    assert (joined.boxes[:, :2] >= 0).all()
    assert (joined.boxes[:, 2:] <= [160, 128]).all()
    assert ((joined.boxes[:, 2:] - joined.boxes[:, :2]) >= 2).all()


def test_pictures_without_boxes() -> None:
    empty = Sample(np.zeros((30, 30, 3), np.uint8), np.zeros((0, 4)), np.zeros(0))
    joined = mosaic([empty] * 4, Augment(), INPUT, np.random.default_rng(0))
    assert joined.boxes.shape == (0, 4)
    assert joined.labels.shape == (0,)


def test_four_are_needed() -> None:
    with pytest.raises(ValueError, match="joins 4 samples, but got 3"):
        mosaic([picture(9, 0)] * 3, Augment(), INPUT, np.random.default_rng(0))


def test_objects_at_the_edges_of_pictures_are_seen() -> None:
    edges = Sample(np.zeros((80, 100, 3), np.uint8), np.array([[0, 36, 5, 44], [95, 36, 100, 44]]), np.array([0, 1]))
    rng = np.random.default_rng(0)
    seen = [label for _ in range(100) for label in mosaic([edges] * 4, Augment(strength=0), INPUT, rng).labels]
    assert 20 < seen.count(0) < 300
    assert 20 < seen.count(1) < 300
