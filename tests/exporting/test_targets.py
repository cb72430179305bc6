"""Every network, exported to everything, computes what torch computes; docs/export.md says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import ModelError
from falconet.exporting.compare import CompareBoxes, raw_differences
from falconet.exporting.engines import ENGINES
from falconet.exporting.onnx import export_onnx
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine
from falconet.runtime.engines import Use, choose_engine
from tests.exporting.models import write_small
from tests.exporting.targets import BLOCKED, FAMILIES, PAGE, TARGETS, written

pytestmark = pytest.mark.usefixtures("untyped")

USUAL = ["NanoDet-m", "PP-YOLOE+ t", "YOLOv3 MobileNetV2", "classifier ShuffleNetV2", "classifier EfficientNet-Lite"]


def _export_openvino(weights: Path, out: Path) -> Path:
    pytest.importorskip("openvino")
    from falconet.exporting.openvino import export_openvino

    return export_openvino(weights, out)


def _export_ncnn(weights: Path, out: Path) -> Path:
    pytest.importorskip("pnnx")
    from falconet.exporting.ncnn import export_ncnn

    return export_ncnn(weights, out)


def _export_litert(weights: Path, out: Path) -> Path:
    pytest.importorskip("litert_torch", reason="has an environment of its own: make targets")
    from falconet.exporting.litert import export_litert

    return export_litert(weights, out)


def _export_executorch(weights: Path, out: Path) -> Path:
    pytest.importorskip("executorch", reason="has an environment of its own: make targets")
    from falconet.exporting.executorch import export_executorch

    return export_executorch(weights, out)


EXPORTERS: dict[str, Callable[[Path, Path], Path]] = {
    "onnx": export_onnx,
    "openvino": _export_openvino,
    "ncnn": _export_ncnn,
    "litert": _export_litert,
    "executorch": _export_executorch,
}


def check(folder: Path, family: str, target: str) -> None:
    weights = write_small(folder / "w.safetensors", FAMILIES[family])
    reason = BLOCKED.get((family, target))
    if reason is not None:
        with pytest.raises(ModelError, match=reason):
            EXPORTERS[target](weights, folder / TARGETS[target])
        return
    path = EXPORTERS[target](weights, folder / TARGETS[target])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 128, 160, 3), np.uint8)
    exported = ENGINES[choose_engine(path, "auto", engines=ENGINES)].open(path, Use(threads=1))
    found, expected = exported(pixels), TorchEngine(weights, max_points=ALL_POINTS)(pixels)
    assert list(found) == list(expected)
    if "boxes" not in found:
        assert np.abs(found["probabilities"] - expected["probabilities"]).max() < 1e-4
        return
    allowed = CompareBoxes(exported.manifest).tolerance  # as of every export
    for one, other in zip(zip(*found.values(), strict=True), zip(*expected.values(), strict=True), strict=True):
        box, score = raw_differences(*one, *other)
        assert box < allowed["box"]
        assert score < allowed["score"]


@pytest.mark.parametrize("family", USUAL)
def test_a_pair_of_ncnn_computes_what_torch_computes(tmp_path: Path, family: str) -> None:
    check(tmp_path, family, "ncnn")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_so_does_every_network_in_every_form(tmp_path: Path, family: str, target: str) -> None:
    check(tmp_path, family, target)


def test_the_page_says_what_these_tests_show() -> None:
    assert PAGE.read_text(encoding="utf-8") == written(), "run: python -m tests.exporting.targets"
