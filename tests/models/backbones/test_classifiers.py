"""Classifiers by name: parameters as published, structure of the heads, fusing."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import CLASSIFIERS
from falconet.models.backbones import BACKBONES, LCNetConfig, MobileNetV4Config
from falconet.models.classifier import Classifier, ClassifierConfig
from falconet.models.reparam import fuse
from tests.models.backbones.test_contract import randomise_norms

PARAMETERS = {
    "shufflenet-v2-0.5": 1_366_792,
    "shufflenet-v2-1.0": 2_278_604,
    "shufflenet-v2-1.5": 3_503_624,
    "shufflenet-v2-2.0": 7_393_996,
    "ghostnet-0.5": 2_587_292,
    "ghostnet-1.0": 5_182_508,
    "mobilenet-v1-1.0": 4_231_976,
    "mobilenet-v2-1.0": 3_504_872,
    "mobilenet-v3-large": 5_483_032,
    "mobilenet-v3-small": 2_542_856,
    "mnasnet-0.5": 2_218_512,
    "mnasnet-0.75": 3_170_208,
    "mnasnet-1.0": 4_383_312,
    "mnasnet-1.3": 6_282_256,
    "efficientnet-b0": 5_288_548,
    "efficientnet-b1": 7_794_184,
    "efficientnet-b2": 9_109_994,
    "efficientnet-b3": 12_233_232,
    "efficientnet-b4": 19_341_616,
    "efficientnet-b5": 30_389_784,
    "efficientnet-b6": 43_040_704,
    "efficientnet-b7": 66_347_960,
    "xception": 22_855_952,
    "cspresnet-50": 21_616_168,
    "darknet53": 41_609_928,
    "densenet-121": 7_978_856,
    "densenet-161": 28_681_000,
    "densenet-169": 14_149_480,
    "densenet-201": 20_013_928,
}
"""As torchvision, timm and the original repositories state them for 1000 classes."""

MACS = {
    "mobilenet-v1-0.25": 41e6,
    "mobilenet-v1-0.5": 149e6,
    "mobilenet-v1-0.75": 325e6,
    "mobilenet-v1-1.0": 569e6,
    "mnasnet-a1": 312e6,
    "efficientnet-b5": 10.266e9,
    "efficientnet-b6": 19.068e9,
    "efficientnet-b7": 37.746e9,
    "xception": 8.4e9,
    "densenet-121": 2.834e9,
    "densenet-161": 7.728e9,
    "densenet-169": 3.36e9,
    "densenet-201": 4.291e9,
}
"""Multiply-adds as the papers state them, EfficientNet's and DenseNet's as torchvision does. Keras pads less."""

REPVGG = {
    "a0": (9.11, 8.31, 1.4),
    "a1": (14.09, 12.79, 2.4),
    "a2": (28.21, 25.50, 5.1),
    "b0": (15.82, 14.34, 3.1),
    "b1": (57.42, 51.83, 11.8),
    "b2": (89.02, 80.32, 18.4),
    "b3": (123.09, 110.96, 26.2),
}
"""Millions of parameters before and after fusing and billions of multiply-adds after it: RepVGG, tables 2 and 4."""

MILLIONS = {
    "ghostnet-1.3": 7.4,
    "mobilenet-v1-0.25": 0.5,
    "mobilenet-v1-0.5": 1.3,
    "mobilenet-v1-0.75": 2.6,
    "mobilenet-v4-conv-s": 3.8,
    "mnasnet-a1": 3.9,
    "efficientnet-lite0": 4.7,
    "efficientnet-lite1": 5.4,
    "efficientnet-lite2": 6.1,
    "efficientnet-lite3": 8.2,
    "efficientnet-lite4": 13.0,
    "lcnet-0.25": 1.5,
    "lcnet-0.35": 1.6,
    "lcnet-0.5": 1.9,
    "lcnet-0.75": 2.4,
    "lcnet-1.0": 3.0,
    "lcnet-1.5": 4.5,
    "lcnet-2.0": 6.5,
    "lcnet-2.5": 9.0,
}
"""As the papers round them."""


def count(name):
    with torch.device("meta"):
        return sum(p.numel() for p in CLASSIFIERS[name].build(1000).parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert count(name) == PARAMETERS[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_in_millions(name):
    assert count(name) / 1e6 == pytest.approx(MILLIONS[name], abs=0.06)


LARGE = ("efficientnet-b6", "efficientnet-b7", "densenet-161", "densenet-169", "densenet-201")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in MACS])
def test_multiply_adds(name):
    side = CLASSIFIERS[name].input.height
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        CLASSIFIERS[name].build(1000)(torch.empty(1, 3, side, side))
    assert counter.get_total_flops() / 2 == pytest.approx(MACS[name], rel=0.01)


@pytest.mark.parametrize("variant", REPVGG)
def test_repvgg_before_and_after_fusing(variant):
    training, deployed, billions = REPVGG[variant]
    with torch.device("meta"):
        network = CLASSIFIERS[f"repvgg-{variant}"].build(1000)
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(training, abs=0.006)
        fused = fuse(network)
        assert sum(p.numel() for p in fused.parameters()) / 1e6 == pytest.approx(deployed, abs=0.006)
        with FlopCounterMode(display=False) as counter:
            fused(torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.06)


def test_every_family_is_a_classifier():
    # No classifier of YOLOv3-tiny's backbone is published.
    assert {config.backbone.name for config in CLASSIFIERS.values()} == set(BACKBONES) - {"darknet-tiny"}
    for config in CLASSIFIERS.values():
        assert ClassifierConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (LCNetConfig(width=0.25), {}),
        (LCNetConfig(width=0.25), {"hidden_channels": 20, "activation": "hard-swish", "dropout": 0.5}),
        (MobileNetV4Config(width=0.25), {"hidden_channels": 20, "hidden_norm": True}),
    ],
)
def test_fusing_changes_nothing(backbone, options):
    torch.manual_seed(0)
    classifier = Classifier(backbone.build(), 7, **options)
    randomise_norms(classifier)
    classifier.eval()
    fused = fuse(classifier)
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in fused.modules())
    images = torch.rand(3, 3, 64, 96)
    with torch.no_grad():
        before, after = classifier(images), fused(images)
    assert before.shape == (3, 7)
    assert float((before - after).abs().max()) < 1e-5


def test_a_classifier_learns():
    torch.manual_seed(0)
    classifier = ClassifierConfig(backbone=LCNetConfig(width=0.25)).build(2)
    images = torch.zeros(8, 3, 32, 32)
    images[::2, 0] = 1.0
    labels = torch.tensor([0, 1] * 4)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(classifier(images + 0.1 * torch.rand_like(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # Norms over eight images make single steps uneven, and each processor rounds in its own way.
    assert np.mean(losses[-8:]) < 0.5 * losses[0]
