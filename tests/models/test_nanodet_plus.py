"""NanoDet-Plus: options of neck, head and criterion, each trained a step, fused, exported and loaded again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from falconet.core.manifest import Preprocess
from falconet.exporting.onnx import export_onnx
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine
from falconet.models import build
from falconet.models.backbones import ShuffleNetV2Config
from falconet.models.nanodet_plus import GhostPANConfig, NanoDetPlusConfig, NanoDetPlusHeadConfig
from falconet.models.reparam import fuse
from falconet.models.simple_head import SimpleHeadConfig
from falconet.models.weights import ModelCard, load_weights, save_weights, transfer
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.training.batch import pad_targets
from falconet.zoo.nanodet.keys import convert
from tests.training.criterion import at, make_criterion

OPTIONS = {
    "plain neck": ({"depthwise": False}, {}, {}),
    "expansion": ({"expansion": 2}, {}, {}),
    "blocks": ({"blocks": 2}, {}, {}),
    "residual": ({"residual": True}, {}, {}),
    "nearest": ({"upsampling": "nearest"}, {}, {}),
    "plain head": ({}, {"depthwise": False}, {}),
    "group norm": ({}, {"norm": "group", "shared": False}, {"quality_beta": 1.5}),
    "simple head": ({}, {"name": "simple"}, {}),
    "apart": ({}, {"shared": False}, {}),
    "all of one kind": (
        {"depthwise": False, "expansion": 2, "blocks": 2, "residual": True, "upsampling": "nearest"},
        {"depthwise": False, "shared": False},
        {},
    ),
    "criterion": ({}, {}, {"auxiliary_convs": 1, "auxiliary_channels": 16, "box_weight": 1.0}),
}
EXPORTED = ("all of one kind", "simple head")
TARGETS = pad_targets([np.array([[4, 4, 40, 44]]), np.zeros((0, 4))], [np.array([1]), np.zeros(0)])


def _head(**options: Any) -> NanoDetPlusHeadConfig | SimpleHeadConfig:
    if options.get("name") == "simple":
        return SimpleHeadConfig(channels=32, **options)
    return NanoDetPlusHeadConfig(channels=32, kernel_size=3, **options)


def test_a_head_without_a_name_is_the_usual_one() -> None:
    head = {"channels": 64}
    assert NanoDetPlusConfig.model_validate({"head": head}).head == NanoDetPlusHeadConfig(channels=64)
    assert head == {"channels": 64}


def _config(neck: dict, head: dict) -> NanoDetPlusConfig:
    return NanoDetPlusConfig(
        input=Preprocess(height=64, width=64),
        backbone=ShuffleNetV2Config(width=0.5),
        neck=GhostPANConfig(channels=32, kernel_size=3, **neck),
        head=_head(**head),
    )


LARGE = ("simple head", "all of one kind")
"""Options that take long to export."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in OPTIONS]
)
def test_options_train_fuse_export_and_load(name: str, tmp_path: Path) -> None:
    neck, head, settings = OPTIONS[name]
    torch.manual_seed(0)
    config = _config(neck, head)
    detector = build(config, 3)
    criterion = make_criterion(config, detector, num_classes=3, **settings)
    terms = criterion(detector.forward_outputs(torch.randn(2, 3, 64, 64)), TARGETS, at(0))
    torch.stack(list(terms.values())).sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in (*detector.parameters(), *criterion.parameters())
    )
    detector.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, fused = detector(images), fuse(detector)(images)
    torch.testing.assert_close(ours.logits, fused.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.box_code, fused.box_code, rtol=1e-4, atol=1e-4)
    path = tmp_path / "m.safetensors"
    save_weights(path, detector, ModelCard(model=config, classes=("a", "b", "c")))
    assert load_weights(path)[1].model == config
    other = build(config, 5)
    assert not transfer(other, detector.state_dict()).fresh
    assert set(transfer(other, detector.state_dict()).classes) == {
        f"head.{key}" for key in detector.head.class_outputs()
    }
    if name not in EXPORTED:
        return
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    expected = TorchEngine(path, max_points=ALL_POINTS)(pixels)
    found = OnnxEngine(export_onnx(path, tmp_path / "m.onnx"))(pixels)
    assert np.abs(np.sort(expected["scores"].max(2)) - np.sort(found["scores"].max(2))).max() < 1e-4


def test_weights_of_the_loss_multiply_its_terms() -> None:
    torch.manual_seed(0)
    config = _config({}, {})
    detector = build(config, 3)
    outputs = detector.forward_outputs(torch.randn(2, 3, 64, 64))
    usual, other = (
        make_criterion(config, detector, num_classes=3, detach_epoch=0, **settings)(outputs, TARGETS, at(5))
        for settings in ({}, {"class_weight": 3.0, "box_weight": 1.0, "distribution_weight": 0.0})
    )
    torch.testing.assert_close(other["class"], 3 * usual["class"])
    torch.testing.assert_close(other["box"], usual["box"] / 2)
    assert other["distribution"] == 0


def test_names_of_the_original_with_its_options() -> None:
    """By the names of its modules: a residual convolution, plain convolutions that halve, a plain head."""
    keys = {
        "fpn.top_down_blocks.1.reduce_conv.conv.weight": "neck.top_down.1.residual.conv.weight",
        "fpn.top_down_blocks.1.reduce_conv.bn.running_var": "neck.top_down.1.residual.norm.running_var",
        "fpn.top_down_blocks.1.blocks.0.ghost1.primary_conv.0.weight": (
            "neck.top_down.1.blocks.0.ghosts.0.primary.conv.weight"
        ),
        "fpn.downsamples.0.conv.weight": "neck.downsample.0.conv.weight",
        "fpn.extra_lvl_in_conv.0.bn.bias": "neck.extra_in.0.norm.bias",
        "head.cls_convs.2.1.conv.weight": "head.convs.2.1.conv.weight",
    }
    names = convert({key: key for key in keys}).detector
    assert {theirs: ours for ours, theirs in names.items()} == keys
    own = build(_config({"depthwise": False, "residual": True}, {"depthwise": False}), 3).state_dict()
    assert set(names) <= set(own)
