"""Backbones and classifiers compute what torchvision, timm and the original repositories compute."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models.backbones import CSPResNetConfig, Darknet53Config
from falconet.models.classifier import Classifier, ClassifierConfig
from falconet.models.classifiers import CLASSIFIERS
from falconet.zoo.classifiers.keys import convert
from tests.golden.case import Case

EFFICIENTNET = {f"features.{stage + 1}": f"stages.{stage}" for stage in (1, 2, 4, 6)} | {"features.8": "last_conv"}
GHOSTNET = {f"blocks.{stage}": f"stages.{stage}" for stage in (2, 4, 6, 8, 9)}
MNASNET = {f"layers.{stage + 7}": f"stages.{stage}" for stage in (1, 2, 4, 6)} | {"layers.16": "last_conv"}
MOBILENET_V2 = {
    "features.3": "stages.1",
    "features.6": "stages.2",
    "features.13": "stages.4",
    "features.17": "stages.6",
    "features.18": "last_conv",
}

CASES = {
    "efficientnet_b0": ("efficientnet-b0", EFFICIENTNET),
    "efficientnet_b1": ("efficientnet-b1", EFFICIENTNET),
    "ghostnet_0p5": ("ghostnet-0.5", GHOSTNET),
    "ghostnet_1p0": ("ghostnet-1.0", GHOSTNET),
    "mnasnet0_5": ("mnasnet-0.5", MNASNET),
    "mnasnet1_0": ("mnasnet-1.0", MNASNET),
    "mobilenet_v2_0p75": ("mobilenet-v2-0.75", MOBILENET_V2),
    "mobilenet_v2_1p0": ("mobilenet-v2-1.0", MOBILENET_V2),
    "mobilenet_v3_large": (
        "mobilenet-v3-large",
        {
            "features.3": "stages.1",
            "features.6": "stages.2",
            "features.12": "stages.4",
            "features.15": "stages.5",
            "features.16": "last_conv",
        },
    ),
    "mobilenet_v3_small": (
        "mobilenet-v3-small",
        {
            "features.1": "stages.0",
            "features.3": "stages.1",
            "features.8": "stages.3",
            "features.11": "stages.4",
            "features.12": "last_conv",
        },
    ),
    "timm_efficientnet_b0": (
        "efficientnet-b0",
        {f"blocks.{stage}": f"stages.{stage}" for stage in (1, 2, 4, 6)} | {"bn2": "last_conv"},
    ),
    "timm_ghostnet_100": ("ghostnet-1.0", GHOSTNET),
    "timm_cspresnet50": ("cspresnet-50", {f"stages.{stage}": f"stages.{stage}" for stage in range(4)}),
    "timm_darknet53": ("darknet53", {f"stages.{stage}": f"stages.{stage}" for stage in range(1, 5)}),
}
"""Golden case -> our classifier, and which of our modules is the upstream's."""

SLOW = {
    "timm_darknet53",
    "timm_cspresnet50",
    "ppyoloe_plus_l",
    "efficientnet_b1",
    "timm_efficientnet_b0",
    "timm_ghostnet_100",
}
"""Large, or the same network as another case under other names."""


def marked(names):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


def configuration(case: str) -> ClassifierConfig:
    config = CLASSIFIERS[CASES[case][0]]
    if case == "timm_darknet53":
        backbone = Darknet53Config(out_stages=(4,), activation="leaky-relu-0.01")
        config = config.model_copy(update={"backbone": backbone})
    return config


@pytest.fixture(scope="module", params=marked(CASES))
def loaded(request) -> tuple[Case, Classifier, dict[str, str]]:
    case = Case(request.param)
    config = configuration(request.param)
    classifier = config.build(1000).eval()
    state = {key: torch.from_numpy(value) for key, value in case.weights().items()}
    converted = convert(config.backbone.name, state, classifier.state_dict())
    assert converted.unused == ()
    classifier.load_state_dict(converted.weights)  # strict: every weight has its place
    return case, classifier, CASES[request.param][1]


@pytest.mark.parametrize("name", ["rand", "nonsq", "photo"])
def test_features_and_logits(loaded, name):
    case, classifier, parts = loaded
    seen = {}
    hooks = [
        classifier.backbone.get_submodule(ours).register_forward_hook(
            lambda _m, _i, output, label=label: seen.update({label: output.clone()})
        )
        for label, ours in parts.items()
    ]
    with torch.no_grad():
        seen["logits"] = classifier(torch.from_numpy(case.input(name)))
    for hook in hooks:
        hook.remove()
    expected = [key.partition("/")[2] for key in case.meta["outputs"] if key.startswith(f"{name}/")]
    assert set(expected) == set(seen)
    for label in expected:
        case.check(f"{name}/{label}", seen[label])


def test_counts(loaded):
    case, classifier, _ = loaded
    assert sum(p.numel() for p in classifier.parameters()) == case.meta["params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(torch.zeros(1, 3, *case.meta["input_size"]))
    assert counter.get_total_flops() == 2 * case.meta["macs_conv_linear"]


PP_YOLOE = {
    "ppyoloe_s": CSPResNetConfig(variant="s"),
    "ppyoloe_plus_s": CSPResNetConfig(variant="s", alpha=True),
    "ppyoloe_s_small_stem": CSPResNetConfig(variant="s", stem="small"),
    "ppyoloe_plus_l": CSPResNetConfig(variant="l", alpha=True),
}


@pytest.mark.parametrize("name", marked(PP_YOLOE))
def test_backbone_of_ppyoloe(name):
    case = Case(name)
    backbone = PP_YOLOE[name].build().eval()
    state = {k: torch.from_numpy(v) for k, v in case.weights().items() if k.startswith("backbone.")}
    converted = convert("cspresnet", state, [f"backbone.{key}" for key in backbone.state_dict()])
    assert converted.unused == ()
    assert converted.missing == ()
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in converted.weights.items()}, strict=False)
    for given in case.meta["inputs"]:
        with torch.no_grad():
            outputs = backbone(torch.from_numpy(case.input(given)))
        for level, output in enumerate(outputs):
            case.check(f"{given}/backbone.{level}", output)
    block = backbone.stages[0].blocks[0].repvgg.fused()
    deployed = "deploy/backbone.stages.0.blocks.0.conv2.conv"
    if f"{deployed}.weight" in case.meta["outputs"]:
        case.check(f"{deployed}.weight", block[0].weight.detach())
        case.check(f"{deployed}.bias", block[0].bias.detach())
