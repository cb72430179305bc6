"""Backbones compute what those of RangiLyu/nanodet and bubbliiiing/yolo3-pytorch compute."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models.backbones import (
    Darknet53Config,
    EfficientNetLiteConfig,
    GhostNetConfig,
    MobileNetV2Config,
)
from falconet.zoo.classifiers.keys import convert
from tests.golden.case import Case

NANODET = {
    "nanodet_ghostnet_1p0": GhostNetConfig(activation="leaky-relu"),
    "nanodet_efficientnet_lite0": EfficientNetLiteConfig(),
    "nanodet_mobilenetv2_1p0": MobileNetV2Config(out_stages=(1, 2, 4, 6), with_last_conv=True),
}
YOLO3 = {
    "yolov3_darknet53_voc": Darknet53Config(),
    "yolov3_mobilenetv2_voc": MobileNetV2Config(),
}


def load(config, weights):
    """The backbone with `weights` by upstream names; every weight of the backbone is among them."""
    backbone = config.build().eval()
    target = [f"backbone.{key}" for key in backbone.state_dict()]
    converted = convert(config.name, {key: torch.from_numpy(value) for key, value in weights.items()}, target)
    assert converted.missing == ()
    backbone.load_state_dict({key.removeprefix("backbone."): value for key, value in converted.weights.items()})
    return backbone, converted


@pytest.mark.parametrize("name", NANODET)
def test_nanodet(name):
    case = Case(name)
    backbone, converted = load(NANODET[name], case.weights())
    assert converted.unused == ()
    for given in case.meta["inputs"]:
        with torch.no_grad():
            outputs = backbone(torch.from_numpy(case.input(given)))
        assert [output.shape[1] for output in outputs] == list(backbone.channels)
        for level, output in enumerate(outputs):
            case.check(f"{given}/out.{level}", output)
    assert sum(p.numel() for p in backbone.parameters()) == case.meta["params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.zeros(1, 3, *case.meta["input_size"]))
    assert counter.get_total_flops() == 2 * case.meta["macs_conv_linear"]


@pytest.mark.slow
@pytest.mark.parametrize("name", YOLO3)
def test_yolo3(name):
    case = Case(name)
    weights = {key: value for key, value in case.weights().items() if key.startswith("backbone.")}
    backbone, _ = load(YOLO3[name], weights)
    stored = [given for given in case.meta["inputs"] if f"{given}/backbone.0" in case.meta["outputs"]]
    if not stored:
        pytest.skip("the copy in tests/golden holds no features of the backbone")
    for given in stored:
        with torch.no_grad():
            outputs = backbone(torch.from_numpy(case.input(given)))
        for level, output in enumerate(outputs):
            case.check(f"{given}/backbone.{level}", output)
