"""Areas of crowds and of objects that are hard to see teach nothing, from the record to every criterion's loss."""

import cv2
import numpy as np
import pytest
import torch

from falconet.core.manifest import Preprocess
from falconet.core.types import Record, Sample
from falconet.data.augment import Augment, augment
from falconet.data.mosaic import mosaic
from falconet.models import PRESETS, build
from falconet.training.batch import pad_targets
from falconet.training.loader import Loader, make_dataset
from tests.training.criterion import at, make_criterion

SIZE = 64
NONE = np.zeros((0, 4), np.float32)
RIGHT = np.array([[32, 0, 64, 64]], np.float32)
STILL = Augment(strength=0, colour_chance=0, flip=0)
KINDS = [
    ("nanodet-plus-demo", {"detach_epoch": 0}, 50),
    ("nanodet-plus-demo", {"auxiliary": "keep"}, 50),
    ("nanodet-m-320", {}, 50),
    ("ppyoloe-s", {}, 0),
    ("ppyoloe-s", {}, 99),
    ("ppyoloe-s", {"class_loss": "focal"}, 0),
    ("ppyoloe-s", {"class_loss": "focal"}, 99),
    ("yolov3-lite-mobilenet-v3-small", {"kind": "modern"}, 50),
    ("yolov3-lite-mobilenet-v3-small", {"kind": "classic"}, 50),
]


def _learn(preset, settings, epoch, targets):
    torch.manual_seed(0)
    detector = build(PRESETS[preset], 3)
    criterion = make_criterion(PRESETS[preset], detector, num_classes=3, **settings)
    outputs = detector.forward_outputs(torch.randn(2, 3, SIZE, SIZE))
    says = outputs.raw.logits if outputs.raw.objectness is None else outputs.raw.objectness
    says.retain_grad()
    terms = criterion(outputs, targets, at(epoch))
    torch.stack(list(terms.values())).sum().backward()
    return terms, says.grad.abs().sum((0, 2)), outputs.raw.priors


@pytest.mark.parametrize(("preset", "settings", "epoch"), KINDS)
def test_no_place_in_an_ignored_area_learns_that_nothing_is_there(preset, settings, epoch):
    empty, ignoring = pad_targets([NONE] * 2, [[]] * 2), pad_targets([NONE] * 2, [[]] * 2, [RIGHT] * 2)
    _, everywhere, priors = _learn(preset, settings, epoch, empty)
    _, gradient, _ = _learn(preset, settings, epoch, ignoring)
    corner = preset.startswith("yolov3")
    x = priors.points[:, 0] + (priors.strides[:, 0] / 2 if corner else 0)
    assert (everywhere > 0).all()
    assert (gradient[x >= 32] == 0).all()
    assert (gradient[x < 32] > 0).all()


@pytest.mark.parametrize(("preset", "settings", "epoch"), KINDS)
def test_an_object_in_an_ignored_area_is_learnt_as_ever(preset, settings, epoch):
    boxes, labels = [np.array([[36, 10, 60, 50]], np.float32)] * 2, [np.array([1])] * 2
    plain, _, _ = _learn(preset, settings, epoch, pad_targets(boxes, labels))
    ignoring, _, _ = _learn(preset, settings, epoch, pad_targets(boxes, labels, [RIGHT] * 2))
    objectness = "objectness" if preset.startswith("yolov3") else "class"
    assert plain.keys() == ignoring.keys()
    for name, term in plain.items():
        if name.endswith(objectness) and "classic" not in settings.values():  # a mean there
            assert ignoring[name] < term
        elif not name.endswith(objectness):
            torch.testing.assert_close(ignoring[name], term)


def test_padded_areas_hold_nothing():
    targets = pad_targets([NONE, NONE], [[], []], [RIGHT, np.concatenate([RIGHT, RIGHT / 2])])
    assert targets.ignored.shape == (2, 2, 4)
    assert torch.equal(targets.ignored[0, 1], torch.zeros(4))
    assert pad_targets([NONE], [[]], [NONE]).ignored is None


def test_areas_move_with_the_picture():
    image = np.zeros((32, 32, 3), np.uint8)
    area = np.array([[4, 8, 20, 40]], np.float32)
    rule = Preprocess(height=64, width=64)
    made = augment(Sample(image, NONE, np.zeros(0), area), STILL, rule, np.random.default_rng(0))
    np.testing.assert_allclose(made.ignored, [[8, 16, 40, 64]])
    gone = augment(Sample(image, NONE, np.zeros(0), area + 40), STILL, rule, np.random.default_rng(0))
    assert gone.ignored.shape == (0, 4)
    joined = mosaic([Sample(image, area, np.zeros(1), area)] * 4, STILL, rule, np.random.default_rng(0))
    np.testing.assert_allclose(joined.ignored, joined.boxes)
    assert len(joined.ignored) == 4


def test_crowds_of_a_data_set_reach_the_batch(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((SIZE, SIZE, 3), 90, np.uint8))
    boxes = np.array([[2, 2, 30, 30], [32, 0, 64, 64]], np.float32)
    record = Record("a", tmp_path / "a.png", SIZE, SIZE, boxes, np.array([0, 1]), np.array([False, True]))
    dataset = make_dataset(
        [record],
        [],
        preprocess=Preprocess(height=SIZE, width=SIZE),
        augmentation=STILL,
        seed=0,
        cache_mb=1,
        workers=0,
    )
    batch = next(iter(Loader(dataset, batch_size=1, workers=0)))
    np.testing.assert_allclose(batch.targets.boxes[0], boxes[:1])
    np.testing.assert_allclose(batch.targets.ignored[0], boxes[1:])
