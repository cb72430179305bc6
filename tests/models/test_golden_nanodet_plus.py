"""NanoDet-Plus computes what the original implementation computes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import PRESETS, build
from falconet.models.distances import expected_distances
from falconet.zoo.nanodet.keys import convert
from tests.golden.case import Case

CASES = {
    "nanodet_plus_m_320": "nanodet-plus-m-320",
    "nanodet_plus_m_416": "nanodet-plus-m-416",
    "nanodet_plus_m_1p5x_320": "nanodet-plus-m-1.5x-320",
}


@pytest.fixture(scope="module", params=CASES)
def loaded(request):
    case = Case(request.param)
    detector = build(PRESETS[CASES[request.param]], 80).eval()
    converted = convert({key: torch.from_numpy(value) for key, value in case.weights().items()})
    detector.load_state_dict(converted.detector)  # strict: every weight has its place
    return case, detector


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["rand", "nonsq", "photo"])
def test_outputs(loaded, name, layout):
    case, detector = loaded
    images = torch.from_numpy(case.input(name)).contiguous(memory_format=layout)
    with torch.no_grad():
        trace = detector.forward_outputs(images)
        decoded = detector.decode(trace.raw)
    for level, features in enumerate(trace.backbone):
        case.check(f"{name}/backbone.{level}", features)
    for level, features in enumerate(trace.neck):
        case.check(f"{name}/fpn.{level}", features)
    raw = trace.raw
    case.check(f"{name}/head", torch.cat((raw.logits, raw.box_code), dim=-1))
    case.check(f"{name}/distances", expected_distances(raw.box_code))
    case.check(f"{name}/boxes", decoded.boxes)
    height, width = images.shape[-2:]
    limit = torch.tensor([width, height, width, height])
    case.check(f"{name}/boxes_clamped", decoded.boxes.clamp(min=0).minimum(limit))
    torch.testing.assert_close(decoded.scores, raw.logits.sigmoid())
    if f"{name}/center_priors" in case.meta["outputs"]:
        strides = raw.priors.strides.expand(-1, 2)
        case.check(f"{name}/center_priors", torch.cat((raw.priors.points, strides), dim=-1)[None])


def test_counts(loaded):
    case, detector = loaded
    assert sum(p.numel() for p in detector.parameters()) == case.meta["params"]
    height, width = case.meta["input_size"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, height, width))
    assert counter.get_total_flops() == 2 * case.meta["macs_conv_linear"]
