"""NanoDet's criterion: the formula written out, gradients, batches without boxes, learning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from falconet.models import PRESETS, build
from falconet.models.distances import boxes_at, expected_distances
from falconet.models.types import Priors
from falconet.training.assign.atss import atss_assign
from falconet.training.batch import pad_targets
from falconet.training.criteria.nanodet import nanodet_terms
from falconet.training.losses import generalized_iou, iou
from tests.training.criterion import at, make_criterion

SIZE = 64
TARGETS = pad_targets(
    [np.array([[4, 4, 40, 44], [20, 20, 60, 60]]), np.zeros((0, 4)), np.array([[30, 2, 50, 20]])],
    [np.array([0, 2]), np.zeros(0), np.array([1])],
)
EMPTY = pad_targets([np.zeros((0, 4))] * 3, [np.zeros(0)] * 3)


def _setup():
    torch.manual_seed(0)
    config = PRESETS["nanodet-m-320"]
    detector = build(config, 3)
    criterion = make_criterion(config, detector, num_classes=3)
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return detector, criterion, images


def test_terms_are_those_of_the_formula():
    detector, _, images = _setup()
    for output in detector.head.outputs:
        torch.nn.init.normal_(output.weight, std=0.5)
    raw = detector.eval()(images)
    terms = nanodet_terms(raw, TARGETS, strides=(8, 16, 32), reg_max=7)

    points, strides = raw.priors.points, raw.priors.strides
    anchors = torch.cat((points - 2.5 * strides, points + 2.5 * strides), dim=-1)
    truth = atss_assign(anchors, [64, 16, 4], TARGETS)
    classes, boxes, sides, weights = torch.zeros(()), torch.zeros(()), torch.zeros(()), torch.zeros(())
    for image in range(3):
        for place in range(84):
            target = torch.zeros(3)
            index = int(truth[image, place])
            if index >= 0:
                box, label = TARGETS.boxes[image, index], int(TARGETS.labels[image, index])
                code = raw.box_code[image, place]
                prior = Priors(points[place : place + 1], strides[place : place + 1])
                decoded = boxes_at(prior, expected_distances(code[None]))[0]
                target[label] = iou(decoded, box).detach()
                weight = raw.logits[image, place].sigmoid().max().detach()
                sides_of_box = torch.cat((points[place] - box[:2], box[2:] - points[place]))
                distance = (sides_of_box / strides[place]).clamp(0, 6.9)
                boxes = boxes + weight * (1 - generalized_iou(decoded, box))
                low = distance.floor().long()
                bins = code.reshape(4, 8)
                near = F.cross_entropy(bins, low, reduction="none") * (low + 1 - distance)
                far = F.cross_entropy(bins, low + 1, reduction="none") * (distance - low)
                sides = sides + weight * (near + far).mean()
                weights = weights + weight
            logits = raw.logits[image, place]
            entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            classes = classes + (entropy * (target - logits.sigmoid()).abs() ** 2).sum()
    count = (truth >= 0).sum(1).clamp(min=1).sum()
    assert (truth >= 0).sum(1).tolist()[1] == 0
    torch.testing.assert_close(terms["class"], classes / count, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["box"], 2 * boxes / weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["distribution"], sides / weights / 4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("targets", [TARGETS, EMPTY])
def test_every_parameter_gets_a_finite_gradient(targets):
    detector, criterion, images = _setup()
    terms = criterion(detector.forward_outputs(images), targets, at(0))
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if targets is EMPTY:
        assert terms["box"] == 0
        assert terms["distribution"] == 0
        assert terms["class"] > 0


def test_half_precision_gives_float32_terms():
    detector, criterion, images = _setup()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = criterion(detector.forward_outputs(images), TARGETS, at(0))
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_the_loss_falls():
    detector, criterion, images = _setup()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    totals = []
    for _ in range(15):
        total = torch.stack(list(criterion(detector.forward_outputs(images), TARGETS, at(0)).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]
