"""An untrained network for timing: the same arithmetic as in the file that is shipped."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from falconet.exporting.onnx import export_onnx
from falconet.exporting.untrained import write_untrained
from falconet.models import PRESETS, build
from falconet.models.weights import ModelCard, save_weights
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.search.space import at_size

NAMES = [
    "nanodet-plus-demo",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("nanodet-m-320", "yolov3-lite-mobilenet-v3-small", "ppyoloe-plus-t-relu-320")
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_the_shipped_file_does(name: str, tmp_path: Path, untyped: None) -> None:
    del untyped
    model = at_size(PRESETS[name], (160, 224))  # sides that the coarsest level does not divide
    torch.manual_seed(3)
    weights = tmp_path / "a.safetensors"
    save_weights(weights, build(model, 2), ModelCard(model=model, classes=("cat", "dog")))
    torch.manual_seed(3)
    quick = write_untrained(model, ("cat", "dog"), tmp_path / "quick.onnx")
    usual = export_onnx(weights, tmp_path / "usual.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 160, 224, 3), np.uint8)
    first, other = (OnnxEngine(path, threads=1)(pixels) for path in (quick, usual))
    np.testing.assert_allclose(first["scores"], other["scores"], atol=1e-4)
    np.testing.assert_allclose(first["boxes"], other["boxes"], atol=0.05)
    assert convolutions(quick) == convolutions(usual)  # as many channels, padded alike


def convolutions(path: Path) -> list[tuple[int, ...]]:
    """Shapes of the weights of a file's convolutions."""
    graph = onnx.load(path).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    return sorted(shapes[node.input[1]] for node in graph.node if node.op_type == "Conv")
