"""`falconet profile`: counts by hand, times that add up, one table and one picture for a comparison."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from falconet.cli import _register, app
from falconet.core.errors import ConfigError, FalconetError
from falconet.core.manifest import Preprocess
from falconet.models import CLASSIFIERS, PRESETS, build
from falconet.models.classifier import Classifier
from falconet.models.deployable import Deployable, DeployableClassifier
from falconet.models.reparam import fuse
from falconet.profile.block import parse_block
from falconet.profile.layers import OTHER, count_layers, layer_of, part_of, tagged_group
from falconet.profile.scatter import Point, scatter
from falconet.runtime import engines, onnx_engine
from falconet.runtime.roofline import Peak, measure_peak

_register()


def run(*arguments: str | Path, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


class Two(nn.Module):
    """A backbone of one strided convolution."""

    channels, strides = (8,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)

    def forward(self, images):
        return [self.stem(images)]


def test_counts_by_hand():
    module = DeployableClassifier(Classifier(Two(), 5), Preprocess(height=32, width=64)).eval()
    stem, output = count_layers(module, torch.zeros(1, 32, 64, 3, dtype=torch.uint8), part_of)
    assert (stem.name, stem.shape) == ("backbone.stem", (8, 16, 32))
    assert stem.parameters == 8 * 3 * 9 + 8
    assert stem.macs == 8 * 16 * 32 * 27
    assert stem.activations == 8 * 16 * 32
    assert stem.moved == 4 * (3 * 32 * 64 + 8 * 16 * 32 + 8 * 27)
    assert (output.name, output.shape, output.parameters, output.macs) == ("output", (5,), 45, 40)
    assert output.weight_bytes == 180


def test_totals_are_torchs_own():
    config = CLASSIFIERS["ghostnet-0.5"]
    network = fuse(build(config, 10).eval())
    groups = count_layers(
        DeployableClassifier(network, config.input).eval(), torch.zeros(1, 64, 96, 3, dtype=torch.uint8), part_of
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 96))
    assert sum(group.macs for group in groups) == counter.get_total_flops() // 2
    assert sum(group.parameters for group in groups) == sum(p.numel() for p in network.parameters())


def test_groups():
    assert part_of("detector.backbone.stages.2.0.expand.conv") == "backbone.stages.2"
    assert part_of("detector.backbone.stem.0") == "backbone.stem"
    assert part_of("detector.neck.top_down.1") == "neck"
    assert part_of("classifier.hidden.linear") == "hidden"
    assert part_of("normalize") == "input"
    assert part_of("") == part_of("detector") == "output"
    assert tagged_group("fused g001_17 nchwc", ["a", "b"]) == "b"
    assert tagged_group("ReorderInput_token_3", ["a"]) == OTHER


def test_each_layer_by_itself():
    config = PRESETS["nanodet-plus-demo"]
    network = fuse(build(config, 3).eval())
    module = Deployable(network, config.input, max_points=100).eval()
    layers = count_layers(module, torch.zeros(1, 64, 64, 3, dtype=torch.uint8), layer_of(module))
    assert [layer.name for layer in layers[:3]] == [
        "backbone.stem",
        "backbone.stages.0.down.shortcut.0",
        "backbone.stages.0.down.shortcut.1",
    ]
    stem, depthwise, point = layers[:3]
    assert (stem.kind, stem.shape, stem.parameters, stem.uses) == ("conv 3x3 / 2", (24, 32, 32), 24 * 27 + 24, 1)
    assert (depthwise.kind, depthwise.macs, depthwise.flops) == ("depthwise 3x3 / 2", 24 * 9 * 64, 2 * 24 * 9 * 64)
    assert (point.kind, point.macs) == ("conv 1x1", 24 * 24 * 64)
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    assert sum(layer.uses for layer in layers) == len(layers) == len(convolutions)
    parts = count_layers(module, torch.zeros(1, 64, 64, 3, dtype=torch.uint8), part_of)
    for key in ("macs", "parameters", "activations", "moved"):
        assert sum(getattr(one, key) for one in layers) == sum(getattr(one, key) for one in parts)


def test_a_profile_layer_by_layer():
    arguments = ("--layers", "--size", 64, "--calls", 3, "--json")
    (model,) = json.loads(run("profile", "lcnet-0.25", *arguments).stdout)["models"]
    times = model["measured"][0]["groups"]
    layers = [layer["name"] for layer in model["layers"] if layer["macs"] and layer["name"] != "total"]
    assert len(layers) > 30
    assert len(set(layers) & set(times)) > 0.8 * len(layers), "nearly every layer has a time of its own"
    shown = run("profile", "lcnet-0.25", *arguments[:-1]).stdout
    assert "depthwise 3x3 / 2" in shown
    assert "MACs so far" in shown


@pytest.mark.parametrize(
    ("text", "parameters", "macs"),
    [
        # By hand: weights of the convolutions with a bias each, since norms are folded; MACs on 20 x 20 places.
        ("conv k=3 c=4 o=6", 4 * 6 * 9 + 6, 400 * 4 * 6 * 9),
        ("depthwise k=5 c=8 s=2", 8 * 25 + 8, 100 * 8 * 25),
        ("separable k=5 c=40", 40 * 26 + 40 * 41, 400 * (40 * 25 + 40 * 40)),
        ("separable k=3 c=40 n=2", 2 * (40 * 10 + 40 * 41), 400 * 2 * (40 * 9 + 40 * 40)),
        (
            "mbconv k=5 e=6 c=40 se=0.25",
            240 * 41 + 240 * 26 + (240 * 10 + 10) + (10 * 240 + 240) + (240 * 40 + 40),
            400 * (40 * 240 + 240 * 25 + 240 * 40) + 2 * 240 * 10,
        ),
        ("mbconv e=1 c=16 o=24 se=0", 16 * 10 + 24 * 17, 400 * (16 * 9 + 16 * 24)),
        ("ghost c=40", 20 * 41 + 20 * 10, 400 * (40 * 20 + 20 * 9)),
        ("repvgg c=8", 8 * 8 * 9 + 8, 400 * 8 * 8 * 9),
    ],
)
def test_blocks_by_hand(text, parameters, macs):
    block, channels = parse_block(text)
    module = fuse(block)
    layers = count_layers(module, torch.zeros(1, channels, 20, 20), layer_of(module))
    assert sum(layer.parameters for layer in layers) == parameters
    assert sum(layer.macs for layer in layers) == macs


def test_blocks_beside_each_other(tmp_path: Path):
    two = ("--block", "separable k=5 c=8", "--block", "separable k=3 c=8 n=2")
    text = run("profile", *two, "--size", 6, "--calls", 3, "--out", tmp_path).stdout
    assert "separable k=3 c=8 n=2" in text
    assert "published" not in text
    first, second = json.loads((tmp_path / "profile.json").read_text())["models"]
    assert first["layers"][-1]["macs"] == 36 * (8 * 25 + 64)
    assert second["layers"][-1]["macs"] == 36 * 2 * (8 * 9 + 64)
    assert {"0.depthwise", "0.pointwise"} <= set(first["measured"][0]["groups"])


def test_classes_of_a_preset():
    arguments = ("--classes", 20, "--size", 64, "--calls", 3, "--json")
    (model,) = json.loads(run("profile", "yolov3-mobilenet-v2", *arguments).stdout)["models"]
    with torch.device("meta"):
        network = fuse(build(PRESETS["yolov3-mobilenet-v2"], 20).eval())
    assert model["layers"][-1]["parameters"] == sum(one.numel() for one in network.parameters())


def test_the_roof():
    peak = Peak(1, macs=1e9, bandwidth=1e8)
    assert peak.milliseconds(macs=1e6, moved=0) == pytest.approx(1)
    assert peak.milliseconds(macs=1e6, moved=1e6) == pytest.approx(10)
    found = measure_peak(2, side=64, copied=1 << 16, repeats=2)
    assert found.threads == 2
    assert found.macs > 0
    assert found.bandwidth > 0


def test_warm_up_runs_do_not_count():
    def event(name, duration):
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration}

    events = [event("a", 900), event("b", 50), event("a", 20), event("b", 2), event("a", 40), event("b", 4)]
    events.insert(0, {"cat": "Session", "name": "model_run", "dur": 5})
    assert onnx_engine._node_means(events, skip=1, runs=2) == pytest.approx({"a": 30e-6, "b": 3e-6})


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("profile")
    arguments = ("--size", "64x96", "--calls", 3, "--json", "--out", folder)
    text = run("profile", "mobilenet-v2-0.35", "--threads", "1,2", *arguments).stdout
    assert (folder / "profile.json").read_text() == text
    return json.loads(text)


def test_a_profile(document):
    (model,) = document["models"]
    assert (model["height"], model["width"]) == (64, 96)
    *layers, total = model["layers"]
    names = [layer["name"] for layer in layers]
    assert names[0] == "input"
    assert names.index("backbone.stem") < names.index("backbone.stages.3") < names.index("output")
    assert total["name"] == "total"
    for key in ("parameters", "macs", "activations", "weight_bytes"):
        assert total[key] == sum(layer[key] for layer in layers) > 0
    assert [one["threads"] for one in model["measured"]] == [1, 2]
    for one in model["measured"]:
        assert sum(one["groups"].values()) == pytest.approx(one["milliseconds"]["p50"])
        assert set(one["groups"]) <= set(names)
        assert "backbone.stages.3" in one["groups"], "times are told apart by layer"
        assert one["milliseconds"]["calls"] == 3
        assert one["roofline_share"] > 0


def test_compare_makes_one_table_and_a_picture(tmp_path: Path):
    both = "mobilenet-v2-0.35,lcnet-0.25"
    text = run("profile", "--compare", both, "--size", 64, "--calls", 3, "--out", tmp_path).stdout
    assert "51.9 ImageNet top-1" in text
    assert "PP-LCNet, arXiv:2109.15099" in text
    picture = ElementTree.fromstring((tmp_path / "compare.svg").read_text())
    words = [element.text for element in picture.iter() if element.text]
    assert "lcnet-0.25" in words
    assert "mobilenet-v2-0.35" not in words, "nothing is published for it"
    assert len(json.loads((tmp_path / "profile.json").read_text())["models"]) == 2


def test_a_detector_in_layers():
    arguments = ("--size", 64, "--calls", 3, "--json")
    (model,) = json.loads(run("profile", "nanodet-plus-demo", *arguments).stdout)["models"]
    names = [layer["name"] for layer in model["layers"]]
    assert {"input", "backbone.stem", "neck", "head", "output", "total"} <= set(names)
    assert {"neck", "head"} <= set(model["measured"][0]["groups"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"expected a model, as in 'falconet profile efficientnet-lite0', --compare a,b,c or --block"),
        (["efficientnet-lite"], r"no such file; expected .* published weights; did you mean 'efficientnet-lite\d'\?"),
        (["lcnet-1.0", "--size", "32x32x3"], r"--size 32x32x3: expected pixels from 32"),
        (["lcnet-1.0", "--size", "20"], r"--size 20: expected pixels from 32"),
        (["lcnet-1.0", "--threads", "1,0"], r"--threads 1,0: expected numbers from 1, as in 1,2"),
        (["lcnet-1.0", "--engine", "tflite"], r"--engine tflite: is not known; expected some of onnxruntime, openvino"),
        (["lcnet-1.0", "--block", "conv c=8"], r"--block is measured by itself; leave out lcnet-1.0"),
        (["--block", "mbcon c=8"], r"there is no block 'mbcon'; did you mean 'mbconv'\?"),
        (["--block", "conv c=8 se=1"], r"'se=1' is no option of conv; expected k, c, o, s, act, n"),
        (["--block", "conv k=3"], r"the channels are missing; add them as in c=40"),
        (["--block", "conv c=8 k=two"], r"k=two: expected a number from 1 to 31"),
        (["--block", "conv c=8 k=4"], r"k=4: kernels are odd"),
        (["--block", "conv c=8 act=gelu"], r"act=gelu: expected one of relu, "),
        (["--compare", "lcnet-1.0,nanodet-m-320"], r"detectors and classifiers have no accuracy in common"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(FalconetError, match=message):
        run("profile", *arguments)


def test_openvino_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"openvino is not installed; install it with: pip install"):
        run("profile", "lcnet-1.0", "--engine", "openvino")


@pytest.mark.slow
def test_openvino():
    (model,) = json.loads(
        run("profile", "lcnet-0.25", "--size", 64, "--calls", 3, "--engine", "openvino", "--json").stdout
    )["models"]
    (measured,) = model["measured"]
    assert measured["engine"] == "openvino"
    assert "backbone.stages.3" in measured["groups"]


def test_points_stay_inside_and_need_one():
    text = scatter([Point("a & b", 3, 70), Point("c", 30, 80)], title="t", x_label="x", y_label="y")
    circles = [one for one in ElementTree.fromstring(text).iter() if one.tag.endswith("circle")]
    places = np.array([(float(one.get("cx")), float(one.get("cy"))) for one in circles])
    assert (places > 0).all()
    assert places[0, 0] < places[1, 0]
    assert places[0, 1] > places[1, 1], "the better one lies higher"
    with pytest.raises(ValueError, match="at least one"):
        scatter([], title="t", x_label="x", y_label="y")


def test_names_of_points_side_by_side_do_not_cover_one_another() -> None:
    points = [Point(f"an engine of a long name, {number} threads", 10 + number, 40.0) for number in range(8)]
    text = scatter(points, title="t", x_label="x", y_label="y")
    found = re.findall(r'<text x="([0-9.]+)" y="([0-9.]+)" text-anchor="(end|start)">(an engine[^<]*)<', text)
    assert [name for *_, name in found] == [point.name for point in points]
    boxes = []
    for x, y, anchor, name in found:
        wide = 6 * len(name)
        left = float(x) - wide if anchor == "end" else float(x)
        assert left >= 0
        assert left + wide <= 720
        assert 0 < float(y) <= 440
        boxes.append((left, float(y), wide))
    for number, (left, y, wide) in enumerate(boxes):
        for other_left, other_y, other_wide in boxes[:number]:
            assert abs(y - other_y) >= 12 or left + wide <= other_left or other_left + other_wide <= left
