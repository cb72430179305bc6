"""The dynamic soft assigner: paper examples, a plain loop over images and truths, properties, nothing at all."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.training.assign.dynamic_soft import dynamic_soft_assign
from falconet.training.assign.pairs import Assignment
from falconet.training.batch import Targets, pad_targets
from falconet.training.losses import background_focal


def _targets(*images):
    """Each image a list of (x1, y1, x2, y2, label)."""
    rows = [np.array(image, np.float32).reshape(-1, 5) for image in images]
    return pad_targets([row[:, :4] for row in rows], [row[:, 4] for row in rows])


def _assign(points, boxes, logits, targets) -> Assignment:
    return dynamic_soft_assign(
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(points, dtype=torch.float32),
        targets,
    )


def test_the_truth_takes_as_many_as_its_ious_add_up_to():
    # IoU 1, 0.75, 0.5 and 0.5 add up to 2.75: the two best are taken. The last lies on the border: outside.
    boxes = [[[0, 0, 8, 8], [0, 0, 8, 6], [0, 0, 8, 4], [0, 4, 8, 8], [0, 0, 8, 8]]]
    points = [[4, 4], [4, 5], [4, 3], [4, 6], [8, 4]]
    truth, quality = _assign(points, boxes, [[[0.0]] * 5], _targets([(0, 0, 8, 8, 0)]))
    assert truth.tolist() == [[0, 0, -1, -1, -1]]
    assert quality.tolist() == [[1, 0.75, 0, 0, 0]]


def test_the_class_decides_between_equal_boxes():
    boxes, points = [[[0, 0, 8, 4]] * 3], [[4, 4]] * 3
    logits = [[[3.0, -3], [-3, -3], [-3, 0]]]
    truth, quality = _assign(points, boxes, logits, _targets([(0, 0, 8, 8, 1)]))
    assert truth.tolist() == [[-1, -1, 0]]
    assert quality.tolist() == [[0, 0, 0.5]]


def test_a_contested_prediction_goes_to_the_cheapest_of_all_truths():
    # Both truths want the first prediction; its IoU with the second truth is higher.
    boxes = [[[0, 0, 8, 10], [40, 40, 41, 41]]]
    targets = _targets([(0, 0, 8, 8, 0), (0, 0, 8, 9, 0)])
    truth, quality = _assign([[4, 4], [50, 50]], boxes, [[[0.0], [0.0]]], targets)
    assert truth.tolist() == [[1, -1]]
    assert quality[0].tolist() == pytest.approx([0.9, 0])


def test_a_truth_without_a_point_takes_one_of_another_truth():
    targets = _targets([(0, 0, 16, 16, 0), (9, 9, 10, 10, 1)])
    boxes = [[[0, 0, 16, 16], [8, 8, 12, 12], [0, 0, 4, 4]]]
    truth, quality = _assign([[4, 4], [8, 8], [12, 12]], boxes, [[[0.0, 0]] * 3], targets)
    assert truth.tolist() == [[0, 1, -1]]
    assert quality[0].tolist() == pytest.approx([1, 1 / 16, 0])


def test_all_background_where_nothing_can_be_found():
    outside = _targets([(1, 1, 2, 2, 0)], [])
    truth, quality = _assign([[4, 4], [8, 8]], [[[0, 0, 8, 8]] * 2] * 2, [[[0.0]] * 2] * 2, outside)
    assert truth.tolist() == [[-1, -1]] * 2
    assert quality.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(("B", "P", "G"), [(2, 3, 0), (2, 0, 3), (0, 3, 3), (1, 1, 1)])
def test_empty_sides(B, P, G):
    targets = Targets(torch.ones(B, G, 4), torch.zeros(B, G, dtype=torch.int64), torch.ones(B, G).bool())
    truth, quality = dynamic_soft_assign(torch.zeros(B, P, 2), torch.zeros(B, P, 4), torch.zeros(P, 2), targets)
    assert truth.shape == quality.shape == (B, P)
    assert (truth == -1).all()
    assert (quality == 0).all()
    assert truth.dtype == torch.int64


def _loop(logits, boxes, points, truths, labels):
    """One image by the description of the original, one pair and one class at a time."""
    P, C, G = len(logits), len(logits[0]), len(truths)
    truth, quality = [-1] * P, [0.0] * P

    def inside(p, g):
        x1, y1, x2, y2 = truths[g]
        return x1 < points[p][0] < x2 and y1 < points[p][1] < y2

    def iou(p, g):
        a, b = boxes[p], truths[g]
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        overlap = max(width, 0.0) * max(height, 0.0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
        return overlap / max(union, 1e-6)

    def cost(p, g):
        total = -3 * math.log(iou(p, g) + 1e-7)
        for c in range(C):
            target = iou(p, g) if c == labels[g] else 0.0
            score = 1 / (1 + math.exp(-logits[p][c]))
            entropy = -target * math.log(score) - (1 - target) * math.log(1 - score)
            total += entropy * (target - score) ** 2
        return total

    competing = [p for p in range(P) if any(inside(p, g) for g in range(G))]
    takers = {p: [] for p in competing}
    for g in range(G if competing else 0):
        k = max(1, int(sum(sorted((iou(p, g) for p in competing), reverse=True)[:13])))
        for p in sorted(competing, key=lambda p: cost(p, g))[:k]:
            takers[p].append(g)
    for p, candidates in takers.items():
        if candidates:
            contested = range(G) if len(candidates) > 1 else candidates
            truth[p] = min(contested, key=lambda g: cost(p, g))
            quality[p] = iou(p, truth[p])
    return truth, quality


def _scene(seed, B, G, C, *, crowd):
    """Predictions of a 4 x 4 grid near random truths; the number of truths differs between images."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:4, :4] * 8.0
    points = np.stack([x, y], -1).reshape(-1, 2)
    span = 6.0 if crowd else 30.0
    corner = rng.uniform(0, span, (B, G, 2))
    truths = np.concatenate([corner, corner + rng.uniform(0.5, 25, (B, G, 2))], -1)
    labels, counts = rng.integers(0, C, (B, G)), rng.integers(0, G + 1, B)
    boxes = np.concatenate([points - rng.uniform(0, 15, (B, 16, 2)), points + rng.uniform(0, 15, (B, 16, 2))], -1)
    if G:
        follows = rng.integers(0, G, (B, 16, 1)).repeat(4, -1)
        near = np.take_along_axis(truths, follows, 1) + rng.normal(0, 1, (B, 16, 4))
        near[..., 2:] = np.maximum(near[..., 2:], near[..., :2])
        boxes = np.where(rng.random((B, 16, 1)) < 0.7, near, boxes)
    logits = rng.normal(-1, 3, (B, 16, C))
    mask = np.arange(G) < counts[:, None]
    targets = Targets(*(torch.from_numpy(value) for value in (truths * mask[..., None], labels * mask, mask)))
    return torch.from_numpy(logits), torch.from_numpy(boxes), torch.from_numpy(points), targets, counts


scenes = given(
    seed=st.integers(0, 2**31),
    B=st.integers(1, 3),
    G=st.integers(0, 12),
    C=st.integers(1, 4),
    crowd=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@scenes
def test_agrees_with_the_plain_loop(seed, B, G, C, crowd):
    logits, boxes, points, targets, counts = _scene(seed, B, G, C, crowd=crowd)
    truth, quality = dynamic_soft_assign(logits, boxes, points, targets)
    for image, count in enumerate(counts):
        truths, labels = targets.boxes[image, :count].tolist(), targets.labels[image, :count].tolist()
        expected = _loop(logits[image].tolist(), boxes[image].tolist(), points.tolist(), truths, labels)
        assert truth[image].tolist() == expected[0]
        np.testing.assert_allclose(quality[image].numpy(), expected[1], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@scenes
def test_does_not_depend_on_order_padding_or_company(seed, B, G, C, crowd):
    logits, boxes, points, targets, _ = _scene(seed, B, G, C, crowd=crowd)
    truth, quality = dynamic_soft_assign(logits, boxes, points, targets)

    order = torch.from_numpy(np.random.default_rng(seed).permutation(G + 3))
    padded = Targets(
        torch.cat([targets.boxes, torch.full((B, 3, 4), 7.0, dtype=torch.float64)], 1)[:, order],
        torch.cat([targets.labels, torch.zeros(B, 3, dtype=torch.int64)], 1)[:, order],
        torch.cat([targets.mask, torch.zeros(B, 3, dtype=torch.bool)], 1)[:, order],
    )
    moved, moved_quality = dynamic_soft_assign(logits, boxes, points, padded)
    back = torch.cat([order, torch.tensor([-1])])[moved]
    assert torch.equal(moved_quality, quality)
    # A prediction that overlaps with none of its takers costs all of them the same: the first one gets it.
    assert torch.equal(back[quality > 0], truth[quality > 0])
    assert torch.equal(back >= 0, truth >= 0)

    for image in range(B):
        alone = Targets(*(value[image : image + 1] for value in targets[:3]))
        single, _ = dynamic_soft_assign(logits[image : image + 1], boxes[image : image + 1], points, alone)
        assert torch.equal(single[0], truth[image])


@settings(max_examples=30, deadline=None)
@scenes
def test_bounds(seed, B, G, C, crowd):
    logits, boxes, points, targets, counts = _scene(seed, B, G, C, crowd=crowd)
    truth, quality = dynamic_soft_assign(logits, boxes, points, targets)
    assert (truth < torch.from_numpy(counts)[:, None]).all()
    assert ((quality >= 0) & (quality <= 1)).all()
    assert (quality[truth < 0] == 0).all()


def test_background_loss_may_be_given():
    logits, boxes, points, targets, _ = _scene(5, 2, 8, 3, crowd=True)
    without = dynamic_soft_assign(logits, boxes, points, targets)
    given_ = dynamic_soft_assign(logits, boxes, points, targets, background=background_focal(logits).loss)
    assert all(torch.equal(a, b) for a, b in zip(without, given_, strict=True))


def test_duplicate_truths_go_to_the_first():
    logits, boxes, points, _, _ = _scene(3, 1, 1, 2, crowd=False)
    truth, _ = dynamic_soft_assign(logits, boxes, points, _targets([(2, 2, 22, 22, 1)] * 2))
    assert set(truth.unique().tolist()) == {-1, 0}


def test_half_precision_logits():
    logits, boxes, points, targets, _ = _scene(11, 2, 8, 3, crowd=True)
    half, boxes, points = logits.bfloat16(), boxes.float(), points.float()
    targets = targets._replace(boxes=targets.boxes.float())
    truth, quality = dynamic_soft_assign(half, boxes, points, targets)
    expected, _ = dynamic_soft_assign(half.float(), boxes, points, targets)
    assert quality.dtype == torch.float32
    assert torch.equal(truth, expected)


MEASURE = """
import torch
from falconet.training.assign.dynamic_soft import dynamic_soft_assign
from falconet.training.batch import Targets

def peak():
    # Not getrusage: its figure survives exec, so it would start at the size of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def assign(P, G, C):
    generator = torch.Generator().manual_seed(0)
    points = 640 * torch.rand(P, 2, generator=generator)
    near = points[torch.randint(0, P, (1, G), generator=generator)]
    targets = Targets(
        torch.cat([near - 30, near + 30], -1),
        torch.randint(0, C, (1, G), generator=generator),
        torch.ones(1, G, dtype=torch.bool),
    )
    boxes = torch.cat([points - 25, points + 25], -1)[None]
    logits = torch.randn(1, P, C, generator=generator)
    before = peak()
    truth, _ = dynamic_soft_assign(logits, boxes, points, targets)
    assert (truth >= 0).any()
    return peak() - before

torch.set_num_threads(1)
assign(100, 5, 3)
print(assign({P}, {G}, {C}) / 1024)
"""


def _peak_megabytes(P: int, G: int, C: int) -> float:
    """How far the largest resident size of a fresh process rises while it assigns once."""
    code = MEASURE.replace("{P}", str(P)).replace("{G}", str(G)).replace("{C}", str(C))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_memory():
    eighty, one = _peak_megabytes(8500, 500, 80), _peak_megabytes(8500, 500, 1)
    # One number per pair takes 17 MB, so a peak far below it would mean that nothing was measured.
    assert one > 17
    assert eighty < 400
    # What grows with the classes are a few numbers per prediction and class, 2.7 MB each, not 1360 MB of pairs.
    assert eighty - one < 20
