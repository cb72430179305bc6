"""YOLOv3's classic criterion computes what the original PyTorch implementation computes."""

import pytest
import torch

from falconet.models.types import HeadOutputs
from falconet.models.yolov3 import COCO_ANCHORS, anchor_priors
from falconet.training.assign.anchor_iou import AnchorGrid, best_anchor, unique
from falconet.training.batch import pad_targets
from falconet.training.criteria.yolov3 import CLASSIC_IGNORE, classic_terms, overlapping
from falconet.zoo.yolov3.keys import our_rows
from tests.golden.case import Case

SIZE, CLASSES = 416, 20
STRIDES = (8, 16, 32)
ANCHORS = torch.tensor(COCO_ANCHORS, dtype=torch.float32)
MASKS = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
KINDS = {"zero": [0], "one": [1], "crowd": [2], "batch": [0, 1, 2]}
IMAGES = ("zero", "one", "crowd")


@pytest.fixture(scope="module")
def case():
    return Case("yolov3_loss_s1")


def grid():
    return AnchorGrid.of([(SIZE // stride,) * 2 for stride in STRIDES], STRIDES, ANCHORS.reshape(3, 3, 2))


def truths(case, images):
    boxes, labels = [], []
    for image in images:
        rows = torch.from_numpy(case.arrays[f"gt/{IMAGES[image]}"]).reshape(-1, 5)
        centre, sides = SIZE * rows[:, :2], SIZE * rows[:, 2:4]
        boxes.append(torch.cat((centre - sides / 2, centre + sides / 2), -1).numpy())
        labels.append(rows[:, 4].numpy())
    return pad_targets(boxes, labels)


def predictions(case, images):
    """Raw of the case's outputs, and these outputs, coarsest level first, as leaves that gradients reach."""
    outputs = [torch.from_numpy(case.input(f"out.{level}"))[images].requires_grad_() for level in range(3)]
    levels = [output[:, our_rows(3, CLASSES)].permute(0, 2, 3, 1).flatten(1, 2) for output in outputs[::-1]]
    logits, codes, objectness = torch.cat(levels, dim=1).split((3 * CLASSES, 12, 3), dim=-1)
    priors = anchor_priors((SIZE, SIZE), STRIDES, ANCHORS.reshape(3, 3, 2))
    parts = (part.unflatten(-1, (3, -1)).flatten(1, 2) for part in (logits, codes, objectness))
    return HeadOutputs(*parts, priors), outputs


@pytest.mark.parametrize("boxes", ["giou", "xywh"])
@pytest.mark.parametrize("kind", KINDS)
def test_terms_and_gradients(case, kind, boxes):
    raw, outputs = predictions(case, KINDS[kind])
    targets = truths(case, KINDS[kind])
    pairs = best_anchor(targets, grid(), anchors=ANCHORS, masks=MASKS)
    terms = classic_terms(raw, targets, grid(), pairs, center_reach=1.0, xywh=boxes == "xywh")
    levels = torch.stack(list(terms.values())).sum(0)
    for level in range(3):
        case.check(f"{kind}/{boxes}/level.{2 - level}", levels[level].detach())
    case.check(f"{kind}/{boxes}/total", levels.sum().detach())
    levels.sum().backward()
    for level, output in enumerate(outputs):
        if f"{kind}/{boxes}/grad.{level}" in case.meta["outputs"]:
            case.check(f"{kind}/{boxes}/grad.{level}", output.grad)
            cells = output.grad.abs().unflatten(1, (3, -1)).sum(2)
            case.check(f"{kind}/{boxes}/grad_cellsum.{level}", cells)


@pytest.mark.parametrize("kind", KINDS)
def test_assignment(case, kind):
    raw, _ = predictions(case, KINDS[kind])
    targets = truths(case, KINDS[kind])
    pairs = best_anchor(targets, grid(), anchors=ANCHORS, masks=MASKS)
    B, P, _ = raw.logits.shape
    matches = unique(pairs, B * P, last=True)
    matched = torch.zeros(B * P, dtype=torch.bool)
    matched[matches.rows] = True
    ignored = overlapping(raw, targets, center_reach=1.0, threshold=CLASSIC_IGNORE)
    background = ~(matched.view(B, P) | ignored)
    start = 0
    for level, (rows, columns) in enumerate(grid().sizes):
        part = slice(start, start + 3 * rows * columns)
        start = part.stop
        # Theirs: (image, anchor, y, x), in that order; ours: image, y, x, anchor.
        table = matched.view(B, P)[:, part].reshape(B, rows, columns, 3).permute(0, 3, 1, 2)
        case.check(f"{kind}/target.{2 - level}/pos", table.nonzero())
        case.check(f"{kind}/target.{2 - level}/noobj_count", background[:, part].sum(1))
