"""ATSS: by hand, against a plain loop over truths, and with nothing to assign."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.boxes import pairwise_iou
from falconet.models.priors import make_priors
from falconet.training.assign.atss import atss_assign
from falconet.training.batch import Targets, pad_targets


def _anchors(size: int, strides: tuple[int, ...], scale: float) -> tuple[torch.Tensor, list[int]]:
    priors = make_priors((size, size), strides, offset=0.5)
    half = scale * priors.strides / 2
    sizes = [(-(-size // stride)) ** 2 for stride in strides]
    return torch.cat((priors.points - half, priors.points + half), dim=-1), sizes


def _targets(*images: list[list[float]]) -> Targets:
    return pad_targets(
        [np.array(boxes, np.float32).reshape(-1, 4) for boxes in images], [np.zeros(len(boxes)) for boxes in images]
    )


def _plain(anchors: np.ndarray, sizes: list[int], truths: np.ndarray, candidates: int) -> np.ndarray:
    """Algorithm 1 of the paper, one truth at a time, in float64."""
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    overlaps = pairwise_iou(anchors.astype(np.float32), truths.astype(np.float32)).astype(np.float64)
    best = np.full(len(anchors), -1.0)
    truth = np.full(len(anchors), -1)
    for index, box in enumerate(truths):
        middle = (box[:2] + box[2:]) / 2
        distance = ((centres - middle) ** 2).sum(1)
        chosen, start = [], 0
        for size in sizes:
            order = np.argsort(distance[start : start + size], kind="stable")[:candidates]
            chosen.extend(start + order)
            start += size
        own = overlaps[chosen, index]
        threshold = own.mean() + (own.std(ddof=1) if len(own) > 1 else 0)
        for place, value in zip(chosen, own, strict=True):
            x, y = centres[place]
            margin = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            if value >= threshold and margin > 0.01 and value > best[place]:
                best[place], truth[place] = value, index
    return truth


def test_by_hand() -> None:
    # Four cells of 8 pixels, anchors of the cells' own size. The truth is the first cell: IoUs 1, 0, 0, 0,
    # mean 0.25, deviation 0.5, so only the first reaches 0.75.
    anchors, sizes = _anchors(16, (8,), 1)
    assert atss_assign(anchors, sizes, _targets([[0, 0, 8, 8]])).tolist() == [[0, -1, -1, -1]]


def test_the_centre_must_lie_inside() -> None:
    # Half over the border of two cells: both reach the threshold, neither centre lies in a truth of width 2.
    anchors, sizes = _anchors(16, (8,), 1)
    assert atss_assign(anchors, sizes, _targets([[7, 0, 9, 8]])).tolist() == [[-1] * 4]


def test_contested_anchors_go_to_the_larger_overlap() -> None:
    anchors, sizes = _anchors(16, (8,), 1)
    both = [[0.0, 0, 8, 7], [0, 0, 8, 8]]
    assert atss_assign(anchors, sizes, _targets(both)).tolist() == [[1, -1, -1, -1]]
    assert atss_assign(anchors, sizes, _targets(both[::-1])).tolist() == [[0, -1, -1, -1]]


def test_nothing_to_assign() -> None:
    anchors, sizes = _anchors(16, (8,), 1)
    assert atss_assign(anchors, sizes, _targets([], [])).tolist() == [[-1] * 4] * 2
    assert atss_assign(anchors[:0], [0], _targets([[0, 0, 8, 8]])).shape == (1, 0)


def test_padding_takes_nothing() -> None:
    anchors, sizes = _anchors(32, (8, 16), 1)
    found = atss_assign(anchors, sizes, _targets([[0, 0, 20, 20]], [], [[2, 2, 9, 30], [0, 0, 20, 20]]))
    assert (found[1] == -1).all()
    assert found[0].max() == 0
    assert torch.equal(found[0], atss_assign(anchors, sizes, _targets([[0, 0, 20, 20]]))[0])


def test_one_anchor_alone() -> None:
    anchors, sizes = _anchors(8, (8,), 1)
    assert atss_assign(anchors, sizes, _targets([[0, 0, 8, 8]])).tolist() == [[0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 60, width=32)] * 2, *[st.floats(1, 50, width=32)] * 2), min_size=1, max_size=6)
)
def test_equals_a_plain_loop(boxes: list[tuple[float, ...]]) -> None:
    # An odd offset keeps distances from being equal, where any choice would be right.
    truths = np.array([[x + 0.137, y + 0.071, x + w + 0.137, y + h + 0.071] for x, y, w, h in boxes], np.float32)
    anchors, sizes = _anchors(64, (8, 16, 32), 5)
    found = atss_assign(anchors, sizes, _targets(truths.tolist()))[0].numpy()
    expected = _plain(anchors.numpy().astype(np.float64), sizes, truths.astype(np.float64), 9)
    overlaps = pairwise_iou(anchors.numpy(), truths)
    for place in np.nonzero(found != expected)[0]:
        # Both must be equally good: equal truths, or an overlap on the threshold up to rounding.
        a, b = found[place], expected[place]
        same = a >= 0 and b >= 0 and np.isclose(overlaps[place, a], overlaps[place, b], rtol=1e-5)
        assert same or _near_threshold(anchors.numpy(), sizes, truths, place, max(a, b))


def _near_threshold(anchors: np.ndarray, sizes: list[int], truths: np.ndarray, place: int, index: int) -> bool:
    """Whether a tie of distances or of the threshold explains a difference for this anchor and truth."""
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    box = truths[index]
    distance = ((centres - (box[:2] + box[2:]) / 2) ** 2).sum(1)
    own, start, tie = [], 0, False
    for size in sizes:
        level = np.sort(distance[start : start + size])
        order = np.argsort(distance[start : start + size], kind="stable")[:9]
        tie |= len(level) > 9 and bool(np.isclose(level[8], level[9], rtol=1e-5))
        own.extend(pairwise_iou(anchors[start + order], box[None])[:, 0])
        start += size
    threshold = np.mean(own) + np.std(own, ddof=1)
    value = pairwise_iou(anchors[place][None], box[None])[0, 0]
    return tie or bool(np.isclose(value, threshold, rtol=1e-4))
