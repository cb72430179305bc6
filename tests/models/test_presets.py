"""The contract every entry of MODELS, BACKBONES and PRESETS keeps; new entries join by being there."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from falconet.core.config import Config, parse_yaml, validate, write_yaml
from falconet.core.errors import ConfigError
from falconet.models import MODELS, PRESETS, build
from falconet.models.backbones import BACKBONES, CSPResNetConfig, ShuffleNetV2Config
from falconet.models.layers import Activation
from falconet.models.nanodet_plus import NanoDetPlusConfig
from tests.models.presets import EVERY

COUNTS = {  # parameters and multiply-adds (convolutions) with 80 classes, predictions at the preset's size
    "nanodet-plus-m-320": (1_197_924, 450_712_800, 2125),
    "nanodet-plus-m-416": (1_197_924, 762_090_840, 3598),
    "nanodet-plus-m-1.5x-320": (2_477_792, 879_196_800, 2125),
    "nanodet-plus-m-1.5x-416": (2_477_792, 1_486_468_128, 3598),
    "nanodet-plus-demo": (320_096, 72_261_024, 1045),
    "yolov3-darknet53": (61_949_149, 19_486_412_800, 6300),
    "yolov3-mobilenet-v2": (22_680_317, 9_169_523_584, 10_647),
    "yolov3-spp": (62_998_749, 19_591_270_400, 6300),
    "yolov3-tiny": (8_852_366, 1_646_438_400, 1500),
    "yolov3-lite-mobilenet-v2": (3_082_045, 899_136_000, 6300),
    "yolov3-lite-mobilenet-v3-large": (4_048_365, 746_396_800, 6300),
    "yolov3-lite-mobilenet-v3-small": (2_076_893, 425_898_752, 6300),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    config = PRESETS[name]
    detector = build(config, 80).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        raw = detector(torch.zeros(1, 3, config.input.height, config.input.width))
    counts = (sum(p.numel() for p in detector.parameters()), counter.get_total_flops() // 2, raw.logits.shape[1])
    assert counts == COUNTS[name]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [(128, 192), (97, 150)], ids=["not square", "odd sides"])
def test_runs_and_decodes_at_other_sizes(name, size):
    config = PRESETS[name]
    detector = build(config, 3).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    trace = detector.forward_outputs(images)
    cells = sum(-(-size[0] // s) * -(-size[1] // s) for s in detector.neck.strides)
    cells *= getattr(detector.head, "num_anchors", 1)
    raw = trace.raw
    assert raw.logits.shape == (2, cells, 3)
    assert raw.box_code.shape[:2] == (2, cells)
    assert raw.priors.points.shape == (cells, 2)
    assert [f.shape[1] for f in trace.backbone] == list(detector.backbone.channels)
    assert [f.shape[1] for f in trace.neck] == list(detector.neck.channels)
    for features, stride in zip(trace.neck, detector.neck.strides, strict=True):
        assert features.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        assert features.is_contiguous(memory_format=torch.channels_last)
    boxes, scores = detector.decode(raw)
    assert bool((boxes[..., 2:] >= boxes[..., :2]).all())
    # Before training every class scores about 0.01, which keeps the first losses small; where the score is a
    # product with an objectness of 0.01, the classes share that.
    expected = 0.01 if raw.objectness is None else 0.01 / (1 + 3)
    assert scores.mean().item() == pytest.approx(expected, rel=0.3)
    sum(tensor.sum() for tensor in (boxes, scores)).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in detector.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_survives_a_run_file(name):
    config = PRESETS[name]
    assert validate(type(config), parse_yaml(write_yaml(config), "run.yaml")) == config
    assert MODELS[config.name] is type(config)


@pytest.mark.parametrize("name", MODELS)
def test_models_build_from_their_name(name):
    config = MODELS[name](name=name)
    assert isinstance(build(config, 1), nn.Module)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_state_what_they_return(name):
    assert issubclass(BACKBONES[name], Config)
    backbone = BACKBONES[name](name=name).build()
    outputs = backbone(torch.zeros(1, 3, 75, 130))
    assert len(outputs) == len(backbone.channels) == len(backbone.strides)
    for features, channels, stride in zip(outputs, backbone.channels, backbone.strides, strict=True):
        assert features.shape == (1, channels, -(-75 // stride), -(-130 // stride))


@pytest.mark.parametrize("width", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("stages", [(2,), (3, 4), (4,)])
def test_shufflenet_stages(width, stages):
    backbone = ShuffleNetV2Config(width=width, out_stages=stages).build()
    outputs = backbone(torch.zeros(1, 3, 64, 64))
    assert [f.shape[1] for f in outputs] == list(backbone.channels)
    assert [64 // f.shape[2] for f in outputs] == list(backbone.strides)
    sum(f.sum() for f in outputs).backward()
    assert all(p.grad is not None for p in backbone.parameters())  # nothing is built that is not used


@pytest.mark.parametrize("extra_levels", [0, 2])
def test_other_numbers_of_levels(extra_levels):
    config = PRESETS["nanodet-plus-demo"]
    config = config.model_copy(update={"neck": config.neck.model_copy(update={"extra_levels": extra_levels})})
    detector = build(config, 2).eval()
    assert detector.neck.strides == (8, 16, 32, 64, 128)[: 3 + extra_levels]
    assert detector(torch.zeros(1, 3, 128, 128)).logits.shape[1] == sum(
        (16, 8, 4, 2, 1)[i] ** 2 for i in range(3 + extra_levels)
    )


@pytest.mark.parametrize("preset", ["nanodet-plus-demo", "ppyoloe-s"])
def test_levels_that_do_not_halve_are_refused(preset):
    backbone = CSPResNetConfig(width=0.125, stage_strides=(2, 2, 1, 2))
    config = PRESETS[preset].model_copy(update={"backbone": backbone})
    with pytest.raises(ConfigError) as error:
        build(config, 2)
    assert str(error.value) == (
        "model.backbone.out_stages: the backbone cspresnet returns levels of strides 8, 8, 16, "
        "but this neck needs each twice the one before; choose other stages"
    )


def test_equal_seeds_give_equal_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(PRESETS["nanodet-plus-demo"], 2).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_half_precision_decodes_in_float32():
    detector = build(PRESETS["nanodet-plus-demo"], 2).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        raw = detector(torch.randn(1, 3, 96, 96))
        boxes, scores = detector.decode(raw)
    assert raw.logits.dtype == torch.bfloat16
    assert (boxes.dtype, scores.dtype, raw.priors.points.dtype) == (torch.float32,) * 3


def test_mistakes_in_a_run_file_are_named():
    text = """\
name: nanodet-plus
backbone: {name: shufflenet-v2, width: 0.7, out_stages: [4, 3], with_last_conv: true}
neck: {channels: 97, kernel: 5}
head: {activation: leakyrelu}
"""
    with pytest.raises(ConfigError) as error:
        validate(NanoDetPlusConfig, parse_yaml(text, "run.yaml"), name="run.yaml")
    *others, last = get_args(Activation)
    assert str(error.value).splitlines() == [
        "run.yaml:2: backbone.width: input should be 0.5, 1.0, 1.5 or 2.0, but got 0.7",
        "run.yaml:2: backbone.out_stages: stages must ascend, each at most once, as in [2, 3, 4], but got [4, 3]",
        "run.yaml:3: neck.channels: channels must be even: a ghost module makes two halves, but got 97",
        "run.yaml:3: neck.kernel: unknown key; did you mean 'kernel_size'?",
        f"run.yaml:4: head.activation: input should be {', '.join(map(repr, others))} or {last!r}, "
        "but got 'leakyrelu'; did you mean 'leaky-relu'?",
    ]
    with pytest.raises(ValueError, match="with_last_conv needs stage 4 among out_stages"):
        ShuffleNetV2Config(out_stages=(2, 3), with_last_conv=True)
