"""OpenVINO's own pair of files: the network of the .onnx file, what it says about itself, and refusals."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import falconet
from falconet.api.export import export
from falconet.core.errors import ConfigError, ModelError
from falconet.core.exported_files import model_files
from falconet.exporting.nms import check_selection
from falconet.exporting.onnx import export_onnx
from falconet.exporting.receipt import read_receipt
from falconet.runtime.onnx_engine import OnnxEngine
from tests.exporting.models import write_weights

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("openvino") / "w.safetensors", channels="rgb")


@pytest.fixture(scope="module")
def exported(weights: Path) -> Path:
    from falconet.exporting.openvino import export_openvino

    return export_openvino(weights, weights.parent / "m.openvino.xml", score=0.1)


def test_computes_what_the_onnx_file_computes(weights: Path, exported: Path) -> None:
    from falconet.runtime.openvino_engine import OpenVinoEngine

    whole = OnnxEngine(export_onnx(weights, weights.parent / "m.onnx", score=0.1))
    pair = OpenVinoEngine(exported)
    assert pair.manifest == whole.manifest
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 128, 3), np.uint8)
    for name, values in whole(pixels).items():
        np.testing.assert_allclose(pair(pixels)[name], values, rtol=1e-3, atol=1e-3)


def test_the_ending_tells_the_engine(exported: Path) -> None:
    detector = falconet.load(exported, streams=2)
    assert (detector.engine.name, detector.engine.streams) == ("openvino", 2)
    assert detector.manifest.selection.score_threshold == 0.1
    with pytest.raises(ModelError, match="engine onnxruntime does not run it; expected openvino"):
        falconet.load(exported, engine="onnxruntime")


def test_both_files_belong_together(exported: Path, tmp_path: Path) -> None:
    for file in model_files(exported):
        shutil.copy(file, tmp_path)
    copy = tmp_path / exported.name
    binary = copy.with_suffix(".bin")
    content = bytearray(binary.read_bytes())
    content[100] ^= 1
    binary.write_bytes(content)
    with pytest.raises(ModelError, match=r"m.openvino.bin: is not the file that m.openvino.xml was written with"):
        falconet.load(copy)
    binary.unlink()
    with pytest.raises(ModelError, match=r"m.openvino.bin is not beside it; copy both files"):
        falconet.load(copy)


def test_exported_with_a_receipt(weights: Path, tmp_path: Path, records: list) -> None:
    done = export(weights, tmp_path, to="openvino", images=records[0].path.parent, pictures=4, name="s", nms=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s.openvino.bin",
        "s.openvino.xml",
        "s.openvino.xml.receipt.json",
        "s.openvino.xml.receipt.txt",
    ]
    receipt = read_receipt(done.written[0][0])
    assert (receipt.exported.name, receipt.problems) == ("openvino", ())
    assert receipt.size == sum(file.stat().st_size for file in model_files(done.path))
    with pytest.raises(ConfigError, match="--to openvino: --opset is for onnx; leave it out"):
        export(weights, tmp_path, to="openvino", opset=18)


@pytest.mark.slow
def test_selection_inside_is_compared(weights: Path, tmp_path: Path) -> None:
    from falconet.exporting.openvino import export_openvino

    path = export_openvino(weights, tmp_path / "m.openvino.xml", score=0.1, nms=True)
    pictures = [np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)]
    selection = falconet.load(path).manifest.selection
    assert check_selection(path, selection, pictures) > 0
    with pytest.raises(ModelError, match="the selection inside of the file finds"):
        check_selection(path, replace(selection, score_threshold=0.9), pictures)


def test_what_is_no_network(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "voc.bin").touch()
    for content in ("<annotation><size/></annotation>", "<net", exported.read_text()[:2000]):
        (tmp_path / "voc.xml").write_text(content)
        with pytest.raises(ModelError, match=r"voc.xml: is not a complete OpenVINO model"):
            falconet.load(tmp_path / "voc.xml")
    foreign = exported.read_text().replace("<falconet ", "<other ")
    shutil.copy(exported.with_suffix(".bin"), tmp_path / "voc.bin")
    (tmp_path / "voc.xml").write_text(foreign)
    with pytest.raises(ModelError, match=r"falconet export"):
        falconet.load(tmp_path / "voc.xml")
