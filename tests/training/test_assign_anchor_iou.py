"""Matching by the shapes of anchors: cells and anchors by hand, contested predictions, against a plain loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.training.assign.anchor_iou import (
    USED_REACH,
    AnchorGrid,
    Pairs,
    best_anchor,
    every_good_anchor,
    shape_iou,
    unique,
)
from falconet.training.batch import pad_targets

ANCHORS = torch.tensor([[[8.0, 8], [8, 16]], [[32, 32], [40, 20]]])
GRID = AnchorGrid.of([(4, 6), (2, 3)], (8, 16), ANCHORS)
"""An input of 32 x 48: 48 predictions at stride 8, then 12 at stride 16."""
MASKS = ((0, 1), (2, 3))
FLAT = ANCHORS.flatten(0, 1)
EMPTY = pad_targets([np.zeros((0, 4))] * 2, [np.zeros(0)] * 2)


def place(level, y, x, anchor):
    """Position of a prediction within an image."""
    rows, columns = GRID.sizes[level]
    assert 0 <= y < rows
    assert 0 <= x < columns
    return (0, 48)[level] + (y * columns + x) * 2 + anchor


def truths(*images):
    """Targets of boxes given as centre x, centre y, width, height."""
    boxes = [np.array(boxes, np.float32).reshape(-1, 4) for boxes in images]
    corners = [np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1) for b in boxes]
    return pad_targets(corners, [np.zeros(len(b)) for b in boxes])


def pairs_of(result):
    return sorted(zip(result.rows.tolist(), result.images.tolist(), result.truths.tolist(), strict=True))


def test_shape_iou_by_hand():
    sides = torch.tensor([[[8.0, 8], [16, 16]]])
    expected = [[[1, 0.5, 64 / 1024, 64 / 800], [0.25, 0.5, 256 / 1024, 256 / 800]]]
    torch.testing.assert_close(shape_iou(sides, FLAT), torch.tensor(expected))


def test_counts_of_the_grid():
    assert GRID.counts == [48, 12]
    assert GRID.tables().tolist() == [[4, 6, 0, 0], [4, 6, 0, 1], [2, 3, 48, 0], [2, 3, 48, 1]]
    assert GRID.strides.tolist() == [8, 8, 16, 16]


def test_the_best_anchor_in_the_cell_of_the_centre():
    targets = truths([[20, 12, 9, 8], [40, 30, 40, 22]], [[47.9, 31.9, 8, 18]])
    found = pairs_of(best_anchor(targets, GRID, anchors=FLAT, masks=MASKS))
    assert found == [
        (place(0, 1, 2, 0), 0, 0),
        (place(1, 1, 2, 1), 0, 1),
        (60 + place(0, 3, 5, 1), 1, 0),
    ]


def test_a_best_anchor_in_no_mask_learns_nothing():
    targets = truths([[20, 12, 9, 8]], [[20, 12, 30, 30]])
    only_coarse = AnchorGrid.of([(2, 3)], (16,), ANCHORS[1:])
    found = pairs_of(best_anchor(targets, only_coarse, anchors=FLAT, masks=((2, 3),)))
    assert found == [(12 + 2, 1, 0)]


def test_every_good_anchor_and_every_cell_within_reach():
    # Anchors like enough to 9 x 12: both of the fine level. The centre (20.4, 12) lies at 2.55, 1.5 cells.
    targets = truths([[20.4, 12, 9, 12]], [])
    found = every_good_anchor(targets, GRID, least_shape_iou=0.4, center_reach=1.0)
    assert pairs_of(found) == [(place(0, 1, 2, a), 0, 0) for a in (0, 1)]
    # With a reach of 2, cells whose border is within 0.4: none here, for 0.55 and 0.5 are in the middle.
    wide = every_good_anchor(targets, GRID, least_shape_iou=0.4, center_reach=2.0)
    assert pairs_of(wide) == pairs_of(found)
    # At 2.7, 1.1 cells the right and the upper neighbour reach it too, and the one diagonal to it.
    targets = truths([[21.6, 8.8, 9, 12]], [])
    wide = every_good_anchor(targets, GRID, least_shape_iou=0.4, center_reach=2.0)
    cells = [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert pairs_of(wide) == sorted((place(0, y, x, a), 0, 0) for y, x in cells for a in (0, 1))


def test_neighbours_outside_of_the_picture_do_not_exist():
    targets = truths([[0.4, 31.8, 8, 8]], [])
    found = every_good_anchor(targets, GRID, least_shape_iou=0.9, center_reach=2.0)
    assert pairs_of(found) == [(place(0, 3, 0, 0), 0, 0)]


def test_a_truth_unlike_all_anchors_takes_the_best():
    targets = truths([[24.5, 20.5, 47, 2]], [])
    found = every_good_anchor(targets, GRID, least_shape_iou=0.25, center_reach=1.0)
    assert len(found.rows) == 1
    # 2 x 8 pixels in common with 8 x 8: 16 / 142; with 40 x 20 it is 80 / 814.
    assert found.rows.item() == place(0, 2, 3, 0)


def test_a_contested_prediction_goes_to_the_truth_its_anchor_is_like_the_first_of_equals():
    same_cell = truths([[20, 12, 8, 11], [21, 13, 8, 9], [20, 13, 8, 9]], [])
    found = every_good_anchor(same_cell, GRID, least_shape_iou=0.6, center_reach=1.0)
    assert pairs_of(found) == [(place(0, 1, 2, 0), 0, 1), (place(0, 1, 2, 1), 0, 0)]


def test_first_or_last_of_several_truths():
    pairs = Pairs(
        rows=torch.tensor([7, 3, 7]),
        images=torch.tensor([0, 0, 0]),
        truths=torch.tensor([2, 1, 0]),
        likeness=torch.ones(3),
    )
    assert pairs_of(unique(pairs, 10, last=True)) == [(3, 0, 1), (7, 0, 2)]
    assert pairs_of(unique(pairs, 10, last=False)) == [(3, 0, 1), (7, 0, 0)]


@pytest.mark.parametrize("targets", [EMPTY, pad_targets([], [])], ids=["no boxes", "no images"])
def test_nothing_to_match(targets):
    assert len(best_anchor(targets, GRID, anchors=FLAT, masks=MASKS).rows) == 0
    assert len(every_good_anchor(targets, GRID, least_shape_iou=0.25, center_reach=2.0).rows) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 48), st.floats(0, 32), st.floats(1, 48), st.floats(1, 32)), min_size=1, max_size=6),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
)
def test_equals_a_plain_loop(boxes, center_reach):
    targets = truths(boxes, [])
    found = every_good_anchor(targets, GRID, least_shape_iou=0.3, center_reach=center_reach)
    reach = USED_REACH * (center_reach - 1) / 2
    wanted: dict[int, tuple[float, int]] = {}
    likeness = shape_iou(targets.boxes[..., 2:] - targets.boxes[..., :2], FLAT)[0]
    for truth in range(len(boxes)):
        box = targets.boxes[0, truth]
        for slot in range(4):
            like = float(likeness[truth, slot])
            if not (like > 0.3 or like == float(likeness[truth].max())):
                continue
            level, anchor = divmod(slot, 2)
            rows, columns = GRID.sizes[level]
            x, y = ((box[:2] + box[2:]) / 2 / GRID.strides[slot]).tolist()
            own_y, own_x = min(int(y), rows - 1), min(int(x), columns - 1)
            for row in range(rows):
                for column in range(columns):
                    near = abs(row - own_y) <= 1 and abs(column - own_x) <= 1
                    reached = -reach <= x - column <= 1 + reach and -reach <= y - row <= 1 + reach
                    if (row, column) != (own_y, own_x) and not (near and reached and reach):
                        continue
                    key = place(level, row, column, anchor)
                    if key not in wanted or like > wanted[key][0]:
                        wanted[key] = (like, truth)
    assert pairs_of(found) == sorted((key, 0, truth) for key, (_, truth) in wanted.items())
