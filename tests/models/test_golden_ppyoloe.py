"""PP-YOLOE computes what the original implementation computes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import PRESETS, build
from falconet.models.backbones import CSPResNetConfig
from falconet.models.distances import expected_distances
from falconet.models.reparam import fuse
from falconet.zoo.ppyoloe.keys import CONSTANT, convert
from tests.golden.case import Case

SMALL = PRESETS["ppyoloe-s"]
CASES = {
    "ppyoloe_s": SMALL,
    "ppyoloe_plus_s": PRESETS["ppyoloe-plus-s"],
    "ppyoloe_s_small_stem": SMALL.model_copy(update={"backbone": CSPResNetConfig(variant="s", stem="small")}),
    "ppyoloe_plus_l": PRESETS["ppyoloe-plus-l"],
}
LEVELS = (2, 1, 0)
"""The original's levels, which start at the coarsest, in our order."""


def load(case, config):
    """The detector with the weights of a case: every weight has its place."""
    detector = build(config, 80).eval()
    converted = convert({key: torch.from_numpy(value) for key, value in case.weights().items()})
    assert converted.unused == ()
    wanted = {name for name in detector.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(converted.detector) == wanted
    detector.load_state_dict(converted.detector, strict=False)
    return detector


def theirs(values, sizes):
    """Rows of all levels [B, P, K], finest first, in the original's order of levels."""
    return torch.cat(list(values.split(sizes, dim=1))[::-1], dim=1)


@pytest.fixture(scope="module", params=[*list(CASES)[:3], pytest.param("ppyoloe_plus_l", marks=pytest.mark.slow)])
def loaded(request):
    case = Case(request.param)
    return case, load(case, CASES[request.param])


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
WITH_PHOTO = ["ppyoloe_s", "ppyoloe_plus_s", pytest.param("ppyoloe_plus_l", marks=pytest.mark.slow)]


@LAYOUTS
@pytest.mark.parametrize("name", ["rand", "nonsq"])
def test_outputs(loaded, name, layout):
    check_outputs(*loaded, name, layout)


@LAYOUTS
@pytest.mark.parametrize("loaded", WITH_PHOTO, indirect=True)
def test_outputs_of_a_photo(loaded, layout):
    check_outputs(*loaded, "photo", layout)


def check_outputs(case, detector, name, layout):
    """Every stored output of the input `name`."""
    images = torch.from_numpy(case.input(name)).contiguous(memory_format=layout)
    with torch.no_grad():
        trace = detector.to(memory_format=layout).forward_outputs(images)
        decoded = detector.decode(trace.raw)
    raw = trace.raw
    sizes = [level.shape[2] * level.shape[3] for level in trace.neck]
    outputs = {}
    for level, features in enumerate(trace.backbone):
        outputs[f"backbone.{level}"] = features
    for level, original in enumerate(LEVELS):
        height, width = trace.neck[level].shape[2:]
        outputs[f"neck.{original}"] = trace.neck[level]
        for part, values in (("cls_logit", raw.logits), ("reg_dist", raw.box_code)):
            outputs[f"{part}.{original}"] = values.split(sizes, dim=1)[level].mT.unflatten(2, (height, width))
    outputs["scores"] = theirs(decoded.scores, sizes).mT
    outputs["dist"] = theirs(expected_distances(raw.box_code), sizes)
    outputs["decoded"] = theirs(torch.cat(decoded, dim=-1), sizes)
    if name == "rand":
        points = raw.priors.points / raw.priors.strides
        outputs["anchor_points"] = theirs(points[None], sizes)[0]
        outputs["stride_tensor"] = theirs(raw.priors.strides[None], sizes)[0]
    stored = {key.removeprefix(f"{name}/") for key in case.meta["outputs"] if key.startswith(f"{name}/")}
    stored = {key for key in stored if not key.startswith("deploy")}
    assert stored <= set(outputs)
    for key in stored:
        case.check(f"{name}/{key}", outputs[key].contiguous())


def test_fused(loaded):
    case, detector = loaded
    fused = fuse(detector)
    block = fused.backbone.stages[0].blocks[0].repvgg[0]
    case.check("deploy/backbone.stages.0.blocks.0.conv2.conv.weight", block.weight)
    case.check("deploy/backbone.stages.0.blocks.0.conv2.conv.bias", block.bias)
    images = torch.from_numpy(case.input("rand"))
    with torch.no_grad():
        before, trace = detector.forward_outputs(images), fused.forward_outputs(images)
        decoded = fused.decode(trace.raw)
    for level, original in enumerate(LEVELS):
        case.check(f"rand/deploy_neck.{original}", trace.neck[level])
    sizes = [level.shape[2] * level.shape[3] for level in trace.neck]
    case.check("rand/deploy_decoded", theirs(torch.cat(decoded, dim=-1), sizes))
    for old, new in ((before.raw.logits, trace.raw.logits), (before.raw.box_code, trace.raw.box_code)):
        assert (old - new).abs().max() <= 1e-5 * old.abs().max().clamp(min=1)


def test_counts(loaded):
    case, detector = loaded
    assert sum(p.numel() for p in detector.parameters()) == case.meta["params_trainable"]
    statistics = sum(v.numel() for n, v in detector.state_dict().items() if n.endswith(("running_mean", "running_var")))
    constant = detector.head.reg_max + 1
    assert [key for key, _ in case.meta["state"] if "proj_conv" in key] == [CONSTANT]
    assert case.meta["params"] == case.meta["params_trainable"] + statistics + constant
    height, width = case.meta["input_size"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, height, width))
    # The original projects distributions by a convolution over reg_max + 1 bins of four sides of each prediction.
    projection = 4 * constant * sum((height // s) * (width // s) for s in (8, 16, 32))
    assert counter.get_total_flops() == 2 * (case.meta["macs_conv_linear"] - projection)
