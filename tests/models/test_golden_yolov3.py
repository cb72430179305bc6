"""YOLOv3 computes what the original PyTorch implementation computes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import build
from falconet.models.backbones import Darknet53Config, MobileNetV2Config
from falconet.models.yolov3 import YOLOv3Config
from falconet.zoo.yolov3.keys import convert, our_rows
from tests.golden.case import Case

CASES = {
    "yolov3_mobilenetv2_voc": YOLOv3Config(backbone=MobileNetV2Config()),
    "yolov3_darknet53_voc": YOLOv3Config(backbone=Darknet53Config()),
}
UNUSED_PARAMETERS = {"yolov3_mobilenetv2_voc": 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000, "yolov3_darknet53_voc": 0}
"""The original carries the last convolution and the classifier of its MobileNetV2 without using them."""


@pytest.fixture(scope="module", params=[pytest.param("yolov3_darknet53_voc", marks=pytest.mark.slow), *list(CASES)[:1]])
def loaded(request):
    case = Case(request.param)
    config = CASES[request.param]
    detector = build(config, 20).eval()
    converted = convert(config.backbone.name, case.weights(), detector.state_dict())
    assert not converted.missing
    assert all("features.18" in key or "classifier" in key for key in converted.unused if "num_batches" not in key)
    state = {key: torch.from_numpy(value) for key, value in converted.weights.items()}
    _, unexpected = detector.load_state_dict(state, strict=False)
    assert not unexpected
    return case, detector


def check(case, name, got):
    """Compare with the stored output; the copy in tests/golden holds a part of them."""
    if name in case.meta["outputs"]:
        case.check(name, got)


def original_order(raw, level_sizes):
    """Our predictions as the original's outputs, coarsest level first: [B, anchors * (5 + C), H, W]."""
    B, _, C = raw.logits.shape
    joined = torch.cat((raw.box_code, raw.objectness, raw.logits), dim=-1)
    cells = [3 * height * width for height, width in level_sizes]
    levels = []
    for part, (height, width) in zip(joined.split(cells, dim=1), level_sizes, strict=True):
        levels.append(part.reshape(B, height, width, 3 * (5 + C)).permute(0, 3, 1, 2))
    return levels[::-1]


@pytest.mark.parametrize("name", ["rand", "nonsq", "photo"])
def test_outputs(loaded, name):
    case, detector = loaded
    if f"{name}/out.0" not in case.meta["outputs"]:
        pytest.skip(f"the copy in tests/golden holds no output of {name}")
    images = torch.from_numpy(case.input(name)).contiguous(memory_format=torch.channels_last)
    height, width = images.shape[-2:]
    with torch.no_grad():
        trace = detector.forward_outputs(images)
        boxes, scores = detector.decode(trace.raw)
    sizes = [tuple(features.shape[-2:]) for features in trace.neck]
    for level, features in enumerate(trace.backbone):
        check(case, f"{name}/backbone.{level}", features)
    for level, output in enumerate(original_order(trace.raw, sizes)):
        check(case, f"{name}/out.{level}", output)

    # Decoded: centre and sides as fractions of the input, then probabilities; rows anchor, y, x.
    fractions = torch.cat((boxes[..., :2] + boxes[..., 2:], 2 * (boxes[..., 2:] - boxes[..., :2])), -1) / 2
    fractions = fractions / torch.tensor([width, height, width, height])
    decoded = torch.cat((fractions, trace.raw.objectness.sigmoid(), trace.raw.logits.sigmoid()), -1)
    parts = decoded.split([3 * h * w for h, w in sizes], dim=1)
    for level, (part, (h, w)) in enumerate(zip(reversed(parts), reversed(sizes), strict=True)):
        check(case, f"{name}/decoded.{level}", part.reshape(1, h, w, 3, -1).permute(0, 3, 1, 2, 4).reshape(1, -1, 25))
    torch.testing.assert_close(scores, decoded[..., 4:5] * decoded[..., 5:])


def test_counts(loaded):
    case, detector = loaded
    count = sum(p.numel() for p in detector.parameters())
    assert count + UNUSED_PARAMETERS[case.meta["case"]] == case.meta["params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, *case.meta["input_size"]))
    assert counter.get_total_flops() == 2 * case.meta["macs_conv_linear"]


def test_rows_by_hand():
    # Two anchors, one class: darknet has x y w h o c, x y w h o c.
    assert our_rows(2, 1).tolist() == [5, 11, 0, 1, 2, 3, 6, 7, 8, 9, 4, 10]
