"""YOLOv3's criteria: the formulas written out, gradients, batches without boxes, learning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from falconet.models import PRESETS, build
from falconet.models.types import Priors
from falconet.models.yolov3 import YOLOv3Config, YOLOv3HeadConfig, decode_boxes
from falconet.training.assign.anchor_iou import AnchorGrid, every_good_anchor
from falconet.training.batch import pad_targets
from falconet.training.criteria.yolov3 import BOX_WEIGHT, LEAST_SHAPE_IOU, MODERN_IGNORE, modern_terms, overlapping
from falconet.training.losses import complete_iou, iou
from tests.training.criterion import at, make_criterion

SIZE = 64
TARGETS = pad_targets(
    [np.array([[4, 4, 40, 44], [20, 20, 60, 60]]), np.zeros((0, 4)), np.array([[30, 2, 50, 20]])],
    [np.array([0, 2]), np.zeros(0), np.array([1])],
)
EMPTY = pad_targets([np.zeros((0, 4))] * 3, [np.zeros(0)] * 3)
CRITERIA = ["modern", "classic", "classic-xywh"]


def setup(criterion, preset="yolov3-lite-mobilenet-v3-small", **head):
    torch.manual_seed(0)
    config = PRESETS[preset]
    assert isinstance(config, YOLOv3Config)
    config = config.model_copy(update={"head": config.head.model_copy(update=head)})
    detector = build(config, 3)
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return detector, make_criterion(config, detector, num_classes=3, kind=criterion), images


def test_modern_terms_are_those_of_the_formula():
    detector, _, images = setup("modern")
    for output in detector.head.outputs:
        torch.nn.init.normal_(output.weight, std=0.3)
    detector.eval()
    trace = detector.forward_outputs(images)
    raw = trace.raw
    grid = AnchorGrid.of([tuple(f.shape[2:]) for f in trace.neck], detector.head.strides, detector.head.anchors)
    terms = modern_terms(raw, TARGETS, grid, center_reach=2.0)

    matches = every_good_anchor(TARGETS, grid, least_shape_iou=LEAST_SHAPE_IOU, center_reach=2.0)
    P = raw.logits.shape[1]
    truth = {divmod(row, P): index for row, index in zip(matches.rows.tolist(), matches.truths.tolist(), strict=True)}
    assert len(truth) > 20
    boxes, objects, classes = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for image in range(3):
        for place in range(P):
            prior = Priors(
                *(part[place : place + 1] for part in (raw.priors.points, raw.priors.strides, raw.priors.anchors))
            )
            box = decode_boxes(raw.box_code[image, place : place + 1], prior, center_reach=2.0)[0]
            real = TARGETS.boxes[image][TARGETS.mask[image]]
            if (image, place) not in truth:
                if len(real) and float(iou(box.detach(), real).max()) > MODERN_IGNORE:
                    continue
                quality = torch.zeros(())
            else:
                index = truth[image, place]
                quality = iou(box, TARGETS.boxes[image, index]).detach()
                boxes = boxes + 1 - complete_iou(box, TARGETS.boxes[image, index])
                wanted = F.one_hot(TARGETS.labels[image, index], 3).float()
                classes = classes + F.binary_cross_entropy_with_logits(
                    raw.logits[image, place], wanted, reduction="sum"
                )
            found = raw.objectness[image, place, 0]
            entropy = F.binary_cross_entropy_with_logits(found, quality)
            objects = objects + entropy * (quality - found.sigmoid()).square()
    torch.testing.assert_close(terms["box"], BOX_WEIGHT * boxes / len(truth))
    torch.testing.assert_close(terms["objectness"], objects / len(truth))
    torch.testing.assert_close(terms["class"], classes / len(truth))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("targets", [TARGETS, EMPTY], ids=["boxes", "no boxes"])
def test_every_parameter_gets_a_gradient(criterion, targets):
    detector, learn, images = setup(criterion)
    terms = learn(detector.forward_outputs(images), targets, at(0))
    assert set(terms) == {"box", "objectness", "class"}
    sum(terms.values()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in detector.parameters())
    values = {name: term.item() for name, term in terms.items()}
    nothing = targets is EMPTY
    assert (values["box"] == 0) == nothing
    assert (values["class"] == 0) == nothing
    assert values["objectness"] > 0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_are_the_slopes(criterion):
    detector, learn, images = setup(criterion)
    trace = detector.eval().forward_outputs(images)
    leaves = [
        part.detach().double().requires_grad_() for part in (trace.raw.logits, trace.raw.box_code, trace.raw.objectness)
    ]
    priors = trace.raw.priors
    priors = Priors(priors.points.double(), priors.strides.double(), priors.anchors.double())
    targets = TARGETS._replace(boxes=TARGETS.boxes.double())

    def loss():
        raw = type(trace.raw)(*leaves, priors)
        return sum(learn(trace._replace(raw=raw), targets, at(0)).values())

    loss().backward()
    generator = torch.Generator().manual_seed(3)
    for leaf in leaves:
        direction = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        if leaf.shape[-1] == 4:
            # Quality targets follow the boxes, but no gradient flows through them: only the box term may move.
            continue
        step = 1e-5
        with torch.no_grad():
            leaf += step * direction
            above = loss()
            leaf -= 2 * step * direction
            below = loss()
            leaf += step * direction
        slope = float((above - below) / (2 * step))
        assert slope == pytest.approx(float((leaf.grad * direction).sum()), rel=1e-4, abs=1e-7)


def test_what_overlaps_is_not_background():
    detector, learn, images = setup("modern")
    trace = detector.eval().forward_outputs(images)
    raw = trace.raw
    boxes = decode_boxes(raw.box_code, raw.priors, center_reach=2.0)
    # A truth that is exactly the box of a prediction.
    place = 100
    targets = pad_targets(
        [boxes[0, place : place + 1].detach().numpy()] + [np.zeros((0, 4))] * 2, [np.zeros(1)] + [np.zeros(0)] * 2
    )
    found = overlapping(raw, targets, center_reach=2.0, threshold=MODERN_IGNORE)
    assert found[0, place]
    assert not found[1:].any()
    assert not overlapping(raw, EMPTY, center_reach=2.0, threshold=0.0).any()
    assert learn(trace, targets, at(0))["objectness"].isfinite()


def test_the_loss_does_not_grow_with_the_number_of_images_without_boxes():
    detector, learn, images = setup("modern")
    detector.eval()
    one = learn(detector.forward_outputs(images[:1]), type(TARGETS)(*(part[:1] for part in TARGETS[:3])), at(0))
    padded = type(TARGETS)(*(part[[0, 1]] for part in TARGETS[:3]))
    two = learn(detector.forward_outputs(images[:2]), padded, at(0))
    torch.testing.assert_close(two["box"], one["box"])
    torch.testing.assert_close(two["class"], one["class"])
    assert two["objectness"].item() > one["objectness"].item()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_learns(criterion):
    detector, learn, images = setup(criterion)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        terms = learn(detector.forward_outputs(images), TARGETS, at(0))
        total = sum(terms.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_precision_is_left_at_the_door(criterion):
    detector, learn, images = setup(criterion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = detector.forward_outputs(images)
        terms = learn(trace, TARGETS, at(0))
    assert trace.raw.logits.dtype == torch.bfloat16
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


def test_two_levels_and_anchors_in_no_mask():
    head = YOLOv3HeadConfig(anchors=((8, 8), (16, 16), (32, 32), (90, 60), (60, 90)), masks=((1,), (3,)))
    for criterion in CRITERIA:
        detector, learn, images = setup(criterion, preset="yolov3-tiny", anchors=head.anchors, masks=head.masks)
        terms = learn(detector.forward_outputs(images), TARGETS, at(0))
        assert all(term.isfinite() for term in terms.values())
