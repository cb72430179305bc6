"""Pixels in, boxes out: normalisation, the choice of points, clipping, and the same after folding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from falconet.core.manifest import Preprocess
from falconet.models import PRESETS, build
from falconet.models.deployable import Deployable, Normalize, SubtractMean, fold_input
from falconet.models.reparam import fuse
from tests.models.test_reparam import trained

CONFIG = PRESETS["nanodet-plus-demo"]
RGB = Preprocess(height=96, width=160, channels="rgb", mean=(123.0, 116.0, 103.0), std=(58.0, 57.0, 56.0))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return trained(build(CONFIG, 3))


def pictures(count: int, height: int = 96, width: int = 160) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def test_normalize_by_hand():
    pixels = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)  # blue, green, red
    preprocess = Preprocess(channels="rgb", mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    expected = [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8]
    assert Normalize(preprocess)(pixels).flatten().tolist() == pytest.approx(expected)
    blue_first = replace(preprocess, channels="bgr")
    expected = [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 8]
    assert Normalize(blue_first)(pixels).flatten().tolist() == pytest.approx(expected)
    assert Normalize(preprocess)(pictures(2)).is_contiguous(memory_format=torch.channels_last)


def test_boxes_lie_in_the_picture(detector):
    boxes, scores = Deployable(detector, RGB).eval()(pictures(2))
    assert boxes.shape == (2, 12 * 20 + 6 * 10 + 3 * 5 + 2 * 3, 4)
    assert scores.shape == (*boxes.shape[:2], 3)
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= 160
    assert boxes[..., 1::2].max() <= 96


def test_only_the_best_points_are_decoded(detector):
    with torch.no_grad():
        boxes, scores = Deployable(detector, RGB).eval()(pictures(2))
        best_boxes, best_scores = Deployable(detector, RGB, max_points=50).eval()(pictures(2))
    assert best_boxes.shape == (2, 50, 4)
    for image in range(2):
        order = scores[image].amax(-1).argsort(descending=True, stable=True)[:50]
        torch.testing.assert_close(best_scores[image].amax(-1), scores[image][order].amax(-1))
        # Boxes belong to their scores, whatever the order among equal scores.
        rows = torch.cat((boxes[image], 1000 * scores[image]), -1)
        best_rows = torch.cat((best_boxes[image], 1000 * best_scores[image]), -1)
        assert torch.cdist(best_rows.double(), rows.double()).amin(1).max() < 1e-3


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("make", [lambda detector: detector, fuse], ids=["as trained", "fused"])
def test_folding_the_input_changes_nothing(detector, channels, make):
    preprocess = replace(RGB, channels=channels)
    deployable = Deployable(make(detector), preprocess).eval()
    folded = fold_input(deployable)
    assert isinstance(folded.normalize, SubtractMean)
    assert isinstance(deployable.normalize, Normalize)
    with torch.no_grad():
        # Along the border zero padding meets the mean: a mean folded into the bias would show there.
        before, after = deployable(pictures(2)), folded(pictures(2))
    torch.testing.assert_close(after.boxes, before.boxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-4, atol=1e-6)
    with pytest.raises(AssertionError, match="already folded"):
        fold_input(folded)


def test_exports_with_any_batch(detector):
    deployable = fold_input(Deployable(fuse(detector), RGB, max_points=100)).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(deployable, (pictures(2),), dynamic_shapes={"pixels": {0: batch}})
    exported = program.module()
    with torch.no_grad():
        for count in (1, 5):
            for ours, theirs in zip(deployable(pictures(count)), exported(pictures(count)), strict=True):
                torch.testing.assert_close(ours, theirs)


def test_every_preset_has_one_first_convolution():
    for name, config in PRESETS.items():
        convs = [m for m in build(config, 2).modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3]
        assert len(convs) == 1, name
