"""NanoDet computes what the original implementation computes; shapes, parameters, places."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import PRESETS, build
from falconet.models.nanodet import PAN
from falconet.models.reparam import fuse
from falconet.zoo.formats.pickles import arrays
from falconet.zoo.formats.torch_files import read_checkpoint
from falconet.zoo.nanodet.m_keys import convert
from tests.golden import fill
from tests.zoo.shared import CHECKPOINT, OUTPUTS, SHARED, need

PHOTO = SHARED / "golden" / "photo.npz"


@pytest.fixture(scope="module")
def original():
    need(CHECKPOINT, OUTPUTS, PHOTO)
    state = arrays(read_checkpoint(CHECKPOINT)["state_dict"], "x", limit=10**8)
    tensors = {key.removeprefix("model."): torch.from_numpy(value.copy()) for key, value in state.items()}
    converted = convert(tensors)
    detector = build(PRESETS["nanodet-m-416"], 80).eval()
    detector.load_state_dict(converted.detector)  # strict: every weight has its place
    return detector, converted, np.load(OUTPUTS)


def _images(kind):
    if kind == "rand":
        return torch.from_numpy(fill.tensor({"kind": "unit", "key": "input", "shape": [1, 3, 256, 320]}))
    pixels = np.load(PHOTO)["bgr_416x416"].astype(np.float32)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    normal = ((pixels - mean.astype(np.float32)) / std.astype(np.float32)).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(normal))[None]


@pytest.mark.parametrize("kind", ["rand", "photo"])
def test_outputs_of_the_real_checkpoint(original, kind):
    detector, _, expected = original
    with torch.no_grad():
        trace = detector.forward_outputs(_images(kind))
    for step, part, levels in ((17, "backbone", trace.backbone), (7, "neck", trace.neck)):
        for level, features in enumerate(levels):
            got = features.contiguous().flatten()[::step].numpy()
            np.testing.assert_allclose(got, expected[f"{kind}/{part}.{level}"], rtol=1e-4, atol=1e-4)
    raw = torch.cat((trace.raw.logits, trace.raw.box_code), dim=-1)
    np.testing.assert_allclose(raw.numpy(), expected[f"{kind}/raw"], rtol=1e-4, atol=2e-4)


def test_what_the_checkpoint_carries_and_nothing_uses(original):
    _, converted, _ = original
    unused = [f"head.gfl_reg.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")]
    assert sorted(converted.unused) == sorted(["head.distribution_project.project", *unused])


def test_fused(original):
    detector, _, _ = original
    images = _images("rand")
    with torch.no_grad():
        before, after = detector(images), fuse(detector)(images)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.box_code, before.box_code, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    # Published: 0.95 M and 0.72 G (320), 1.2 G (416), 2.08 M and 2.42 G (1.5x at 416), counting a pair as two.
    ("preset", "size", "parameters", "billions"),
    [
        ("nanodet-m-320", 320, 0.95e6, 0.72),
        ("nanodet-m-416", 416, 0.95e6, 1.2),
        ("nanodet-m-1.5x", 416, 2.08e6, 2.42),
    ],
)
def test_published_sizes(preset, size, parameters, billions):
    config = PRESETS[preset]
    assert (config.input.height, config.input.width) == (size, size)
    detector = build(config, 80).eval()
    assert sum(p.numel() for p in detector.parameters()) == pytest.approx(parameters, rel=0.02)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, size, size))
    assert counter.get_total_flops() / 1e9 == pytest.approx(billions, rel=0.06)


@pytest.mark.parametrize("size", [(64, 96), (72, 100), (33, 33)])
def test_any_size(size):
    detector = build(PRESETS["nanodet-m-320"], 3).eval()
    with torch.no_grad():
        raw = detector(torch.zeros(2, 3, *size))
        boxes, scores = detector.decode(raw)
    places = sum(-(-size[0] // s) * -(-size[1] // s) for s in (8, 16, 32))
    assert boxes.shape == (2, places, 4)
    assert scores.shape == (2, places, 3)


def test_places_are_the_centres_of_cells():
    detector = build(PRESETS["nanodet-m-320"], 1).eval()
    with torch.no_grad():
        priors = detector(torch.zeros(1, 3, 32, 32)).priors
    assert priors.points[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    assert priors.points[-1].tolist() == [16, 16]
    assert priors.strides.flatten().tolist() == [8] * 16 + [16] * 4 + [32]


def test_the_neck_by_hand():
    neck = PAN((1, 1), 1, strides=(8, 16))
    for conv in neck.reduce:
        torch.nn.init.ones_(conv.weight)
    fine, coarse = torch.arange(4.0).reshape(1, 1, 2, 2), torch.full((1, 1, 1, 1), 10.0)
    with torch.no_grad():
        first, second = neck([fine, coarse])
    assert first.flatten().tolist() == [10, 11, 12, 13]
    assert second.flatten().tolist() == [10 + 11.5]
