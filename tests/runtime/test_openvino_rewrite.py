"""Rewrites for OpenVINO keep the function."""

from pathlib import Path

import numpy as np
import pytest

from falconet.exporting.compare import raw_differences
from falconet.exporting.onnx import export_onnx
from tests.exporting.models import write_small

openvino = pytest.importorskip("openvino")

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def network(path: Path) -> "openvino.Model":
    read = openvino.Core().read_model(str(path))
    read.reshape([1, 128, 160, 3])
    return read


def splits(read: "openvino.Model") -> int:
    return sum(node.get_type_name() == "Split" for node in read.get_ordered_ops())


@pytest.mark.parametrize(
    ("name", "shuffles"),
    [
        pytest.param("nanodet-plus-m-320", 26, marks=pytest.mark.slow),
        ("shufflenet-v2-0.5", 26),
        ("mobilenet-v2-0.35", 0),
    ],
)
def test_shuffles_become_convolutions(tmp_path: Path, name: str, shuffles: int) -> None:
    from falconet.runtime.openvino_rewrite import shuffles_to_convolutions

    path = export_onnx(write_small(tmp_path / "w.safetensors", name), tmp_path / "m.onnx")
    plain, rewritten = network(path), network(path)
    assert shuffles_to_convolutions(rewritten) == shuffles
    assert splits(plain) - splits(rewritten) == shuffles
    pixels = np.random.default_rng(0).integers(0, 256, (1, 128, 160, 3), np.uint8)
    before, after = (openvino.Core().compile_model(one, "CPU", EXACT)(pixels) for one in (plain, rewritten))
    if "nanodet" in name:
        box, score = raw_differences(after["boxes"][0], after["scores"][0], before["boxes"][0], before["scores"][0])
        assert box < 1e-3
        assert score < 1e-5
    else:
        np.testing.assert_allclose(after["probabilities"], before["probabilities"], atol=1e-6)
    assert shuffles_to_convolutions(rewritten) == 0, "there is nothing left"


def test_they_are_made_where_the_network_computes_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from falconet.runtime import openvino_engine

    seen: list[int] = []
    monkeypatch.setattr(openvino_engine, "precisions", lambda: ("float32", "bfloat16"))
    monkeypatch.setattr(openvino_engine, "shuffles_to_convolutions", lambda _: seen.append(1))
    path = export_onnx(write_small(tmp_path / "w.safetensors", "shufflenet-v2-0.5"), tmp_path / "m.onnx")
    openvino_engine.OpenVinoEngine(path)
    assert seen == []
    openvino_engine.OpenVinoEngine(path, precision="bfloat16")
    assert seen == [1]
