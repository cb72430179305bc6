"""Selection and mapping back against the original's post-processing (`../shared/golden`)."""

import numpy as np
import pytest

from falconet.core.boxes import clip
from falconet.core.manifest import EVALUATION
from falconet.core.select import select
from falconet.core.types import Detections, Floats, Placement
from falconet.data.augment import warp_boxes
from tests.golden.case import Case

SIZES = {"sq": (320, 320), "nonsq": (256, 416)}
ORIGINALS = ((375, 400), (500, 333))
"""(height, width) of the two pictures."""
CASES = ("few_sq", "few_nonsq", "many_sq", "many_nonsq", "none_sq", "dense_sq", "sparse_sq")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("nanodet_postprocess_s1")


def _scores(case: Case, which: str) -> Floats:
    """[B, P, 80]; the sparse inputs give a few classes' logits, all others are -9."""
    values = case.input(f"{which}_cls")
    logits = np.full((*values.shape[:2], 80), -9.0, np.float32)
    first = 0 if values.shape[2] == 80 else 5
    logits[..., first : first + values.shape[2]] = values
    return 1 / (1 + np.exp(-logits))


def _boxes(case: Case, which: str, height: int, width: int) -> Floats:
    """[B, P, 4] clipped to the input, decoded as NanoDet-Plus does; NumPy only, as is all of `core`."""
    bins = case.input(f"{which}_reg").reshape(2, -1, 4, 8)
    bins = np.exp(bins - bins.max(-1, keepdims=True))
    distances = (bins / bins.sum(-1, keepdims=True) * np.arange(8, dtype=np.float32)).sum(-1)
    levels = []
    for stride in (8, 16, 32, 64):
        y, x = np.mgrid[: -(-height // stride), : -(-width // stride)] * stride
        levels.append(np.stack([x, y, np.full_like(x, stride)], -1).reshape(-1, 3))
    priors = np.concatenate(levels).astype(np.float32)
    points, strides = priors[:, :2], priors[:, 2:]
    distances = distances * strides
    boxes = np.concatenate([points - distances[..., :2], points + distances[..., 2:]], -1)
    return np.stack([clip(image, height=height, width=width) for image in boxes])


def _by_class(found: Detections) -> Floats:
    """Rows class, x1, y1, x2, y2, score; classes rise, scores fall within a class."""
    order = np.argsort(found.labels, kind="stable")
    rows = np.concatenate([found.labels[:, None], found.boxes, found.scores[:, None]], 1)
    return rows[order].astype(np.float32)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("which", CASES)
def test_detections(case: Case, which: str, image: int) -> None:
    height, width = SIZES[which.partition("_")[2]]
    boxes, scores = _boxes(case, which, height, width)[image], _scores(case, which)[image]
    assert int((scores > EVALUATION.score_threshold).sum()) == case.meta["candidates"][which][image]
    unmoved = Placement((1.0, 1.0), (0.0, 0.0), (height, width))
    found = select(boxes, scores, unmoved, EVALUATION)
    case.check(f"{which}/{image}/dets", np.concatenate([found.boxes, found.scores[:, None]], 1))
    case.check(f"{which}/{image}/labels", found.labels)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("which", CASES)
def test_detections_in_the_original_picture(case: Case, which: str, image: int) -> None:
    height, width = SIZES[which.partition("_")[2]]
    boxes, scores = _boxes(case, which, height, width)[image], _scores(case, which)[image]
    warp = np.array(case.meta["warp_matrix"][image])
    unmoved = Placement((1.0, 1.0), (0.0, 0.0), (height, width))
    found = select(boxes, scores, unmoved, EVALUATION)
    # The second picture was also turned, which inference never does but the warp of training does.
    original_height, original_width = ORIGINALS[image]
    back = clip(warp_boxes(found.boxes, np.linalg.inv(warp)[:2]), height=original_height, width=original_width)
    case.check(f"post/{which}/{image}", _by_class(Detections(back, found.scores, found.labels)))


@pytest.mark.parametrize("which", CASES)
def test_placement_maps_back_like_the_original(case: Case, which: str) -> None:
    height, width = SIZES[which.partition("_")[2]]
    boxes, scores = _boxes(case, which, height, width)[0], _scores(case, which)[0]
    (x_scale, _, x_offset), (_, y_scale, y_offset), _ = case.meta["warp_matrix"][0]
    placement = Placement((x_scale, y_scale), (x_offset, y_offset), ORIGINALS[0])
    case.check(f"post/{which}/0", _by_class(select(boxes, scores, placement, EVALUATION)))


def test_every_output_of_the_case_is_compared(case: Case) -> None:
    each = {f"{which}/{image}" for which in CASES for image in (0, 1)}
    expected = {f"{name}/{what}" for name in each for what in ("dets", "labels")}
    assert set(case.meta["outputs"]) == expected | {f"post/{name}" for name in each}
