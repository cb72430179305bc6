"""The first layer of an exported file that differs from torch is found, in each engine that is here."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from falconet.api.export import FORMATS
from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.exporting.engines import ENGINES
from falconet.exporting.layers import Layers, first_difference
from falconet.exporting.torch_engine import TorchEngine, shipped
from falconet.models import CLASSIFIERS, build
from falconet.models.deployable import DeployableClassifier
from falconet.runtime.engines import DEFAULT_USE
from tests.exporting.models import write_small

PICTURES = [np.random.default_rng(seed).integers(0, 256, (128, 160, 3), np.uint8) for seed in range(2)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("layers") / "small.safetensors", "mobilenet-v1-0.25")


def said(small: Path, folder: Path, kind: str, engine: str, bend=lambda _: None) -> str:
    row = FORMATS[kind]

    def convert(file: Path) -> None:
        row.convert(small, file, layers=True)
        bend(file)

    ours = TorchEngine(small, layers=True)
    return first_difference(
        convert, lambda file: ENGINES[engine].open(file, DEFAULT_USE), ours, folder / f"l{row.suffix}", PICTURES
    )


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("onnx", "onnxruntime"),
        pytest.param("openvino", "openvino", marks=pytest.mark.slow),
        ("ncnn", "ncnn"),
        ("onnx", "openvino"),
    ],
)
def test_no_layer_differs(small: Path, tmp_path: Path, kind: str, engine: str) -> None:
    if find_spec(ENGINES[engine].module) is None:
        pytest.skip(f"{engine} is not installed")
    assert said(small, tmp_path, kind, engine).startswith("each layer by itself is the same, within ")


@pytest.mark.parametrize(
    "place", [pytest.param(0, marks=pytest.mark.slow), 13, pytest.param(26, marks=pytest.mark.slow)]
)
def test_a_bent_layer_is_named(small: Path, tmp_path: Path, place: int) -> None:
    bent = []

    def bend(file: Path) -> None:
        model = onnx.load(file)
        name = [node for node in model.graph.node if node.op_type == "Conv"][place].input[1]
        tensor = next(one for one in model.graph.initializer if one.name == name)
        values = 1.5 * onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
        onnx.save(model, file)
        bent.append(name)

    text = said(small, tmp_path, "onnx", "onnxruntime", bend)
    named = text.removeprefix("the first layer that differs is ").partition(",")[0]
    assert bent[0].removeprefix("network.").startswith(named)
    assert text.endswith("of its magnitude")


def test_what_cannot_be_found_is_said(small: Path, tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise ModelError("pnnx does not convert this network: no such layer")

    text = said(small, tmp_path, "onnx", "onnxruntime", refuse)
    assert text == "which layer differs first could not be found: pnnx does not convert this network: no such layer"


def test_numbers_that_are_none_are_a_difference(small: Path, tmp_path: Path) -> None:
    row = FORMATS["onnx"]
    ours = TorchEngine(small, layers=True)

    class Broken:
        def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = ours(pixels)
            found["probabilities"][:, 7] = np.nan
            return found

    text = first_difference(
        partial(row.convert, small, layers=True), lambda _: Broken(), ours, tmp_path / "l.onnx", PICTURES[:1]
    )
    assert text.startswith(f"the first layer that differs is {ours.manifest.classes[7]}, by inf")


@pytest.mark.parametrize("preset", ["ppyoloe-plus-t-320", "mobilenet-v3-small"])
def test_every_layer_with_weights_is_looked_at(tmp_path: Path, preset: str) -> None:
    path = write_small(tmp_path / "w.safetensors", preset)
    module, manifest = shipped(path, layers=True)
    assert isinstance(module, Layers)
    half = len(manifest.classes) // 2
    layers = [one for one in module.network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    assert half == len(layers) > 30
    assert len(set(manifest.classes)) == 2 * half
    with torch.no_grad():
        numbers = module(torch.zeros(1, 128, 160, 3, dtype=torch.uint8))
    assert numbers.shape == (1, 2 * half)
    assert (numbers[0, half:] >= numbers[0, :half].abs()).all()


def test_a_layer_that_runs_twice_has_two_names() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.again(self.again(self.first(x))).mean((2, 3))

    whole = DeployableClassifier(build(CLASSIFIERS["mobilenet-v1-0.25"], 2), Preprocess(height=32, width=32))
    whole.classifier = Twice()
    assert Layers(whole, (32, 32)).names == (
        *("first", "again", "again (2)"),
        *("first magnitude", "again magnitude", "again (2) magnitude"),
    )
