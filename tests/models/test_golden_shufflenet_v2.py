"""ShuffleNetV2 computes what torchvision and the original NanoDet compute."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from falconet.models.backbones import ShuffleNetV2
from falconet.models.classifier import Classifier
from falconet.zoo.nanodet.keys import backbone_key
from tests.golden.case import Case

WIDTHS = {"shufflenet_v2_x0_5": 0.5, "shufflenet_v2_x1_0": 1.0, "shufflenet_v2_x1_5": 1.5}


@pytest.fixture(scope="module", params=WIDTHS)
def loaded(request):
    case = Case(request.param)
    backbone = ShuffleNetV2(width=WIDTHS[request.param], activation="relu", with_last_conv=True)
    classifier = Classifier(backbone, 1000).eval()
    state = {}
    for key, value in case.weights().items():
        name = key.replace("fc.", "output.") if key.startswith("fc.") else f"backbone.{backbone_key(key)}"
        state[name] = torch.from_numpy(value)
    classifier.load_state_dict(state)
    return case, classifier


@pytest.mark.parametrize("name", ["rand", "nonsq", "photo"])
def test_features_and_logits(loaded, name):
    case, classifier = loaded
    seen = {}
    parts = {"maxpool": classifier.backbone.pool, "conv5": classifier.backbone.last_conv}
    parts |= {f"stage{number}": stage for number, stage in enumerate(classifier.backbone.stages, start=2)}
    hooks = [
        part.register_forward_hook(lambda _m, _i, output, label=label: seen.update({label: output}))
        for label, part in parts.items()
    ]
    with torch.no_grad():
        seen["logits"] = classifier(torch.from_numpy(case.input(name)))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 6
    for label, output in seen.items():
        case.check(f"{name}/{label}", output)


def test_counts(loaded):
    case, classifier = loaded
    assert sum(p.numel() for p in classifier.parameters()) == case.meta["params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(torch.zeros(1, 3, *case.meta["input_size"]))
    assert counter.get_total_flops() == 2 * case.meta["macs_conv_linear"]


@pytest.mark.parametrize("name", ["rand", "nonsq", "photo"])
def test_backbone_with_last_convolution(name):
    case = Case("nanodet_shufflenetv2_0p5_lastconv")
    backbone = ShuffleNetV2(width=0.5, activation="relu", with_last_conv=True).eval()
    backbone.load_state_dict({backbone_key(k): torch.from_numpy(v) for k, v in case.weights().items()})
    with torch.no_grad():
        outputs = backbone(torch.from_numpy(case.input(name)))
    assert [output.shape[1] for output in outputs] == list(backbone.channels)
    for level, output in enumerate(outputs):
        case.check(f"{name}/out.{level}", output)
    assert sum(p.numel() for p in backbone.parameters()) == case.meta["params"]
