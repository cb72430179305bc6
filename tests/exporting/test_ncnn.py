"""ncnn's pair of files: every kind of model as torch computes it, proven, and refused where something is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import falconet
from falconet.api.export import export
from falconet.core.errors import ConfigError, ModelError
from falconet.core.exported_files import model_files
from falconet.exporting import ncnn as exporter
from falconet.exporting.receipt import read_receipt
from tests.exporting.models import write_weights

pytestmark = pytest.mark.usefixtures("untyped")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ncnn")
    return exporter.export_ncnn(write_weights(folder / "w.safetensors", channels="rgb"), folder / "m.param", score=0.1)


def test_streams_and_threads_answer_alike(exported: Path) -> None:
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(12)]
    alone = falconet.load(exported, threads=1).predict(images)
    for one, other in zip(falconet.load(exported, streams=3).predict(images), alone, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert falconet.load(exported).engine.name == "ncnn", "the ending tells"
    assert falconet.load(exported).manifest.selection.score_threshold == 0.1


def test_every_file_is_checked(exported: Path, tmp_path: Path) -> None:
    for broken, change, expected in (
        ("m.bin", lambda path: path.unlink(), "m.bin is not beside it; copy all three files"),
        (
            "m.bin",
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "is not the file that m.falconet.json describes",
        ),
        ("m.param", lambda path: path.write_text(path.read_text() + "\n"), "is not the file that m.falconet.json desc"),
        (
            "m.falconet.json",
            lambda path: path.unlink(),
            "A pair of other programs is brought over by 'falconet import'",
        ),
        ("m.falconet.json", lambda path: path.write_text("{"), "does not describe an exported pair"),
        ("m.falconet.json", lambda path: path.write_text("[]"), "does not describe an exported pair"),
        ("m.falconet.json", _other_format, "has format 7; expected 1"),
    ):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for file in model_files(exported):
            shutil.copy(file, folder)
        change(folder / broken)
        with pytest.raises(ModelError, match=expected):
            falconet.load(folder / "m.param")


def _other_format(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 7}))


def test_exported_with_a_receipt(tmp_path: Path, records: list) -> None:
    weights = write_weights(tmp_path / "small.safetensors", channels="rgb")
    images = records[0].path.parent
    done = export(weights, tmp_path / "out", to="ncnn", images=images, pictures=4)
    assert done.path == tmp_path / "out/small.param"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "small.bin",
        "small.falconet.json",
        "small.ncnn.receipt.json",
        "small.ncnn.receipt.txt",
        "small.param",
    ]
    receipt = read_receipt(tmp_path / "out/small.ncnn.receipt.json")
    assert (receipt.exported.name, receipt.problems) == ("ncnn", ())
    assert receipt.size == sum(file.stat().st_size for file in model_files(done.path)[:2])


def test_what_means_nothing_for_ncnn(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "small.safetensors")
    for options, expected in (
        ({"nms": True}, "--nms is for onnx and openvino; leave it out"),
        ({"opset": 18}, "--opset is for onnx; leave it out"),
        ({"batch": 1}, "--static-batch is for onnx and openvino; leave it out"),
    ):
        with pytest.raises(ConfigError, match=f"--to ncnn: {expected}"):
            export(weights, tmp_path / "out", to="ncnn", **options)
    with pytest.raises(
        ConfigError, match=r"--to tflite: is not known; did you mean litert\? Expected some of onnx, openvino"
    ):
        export(weights, tmp_path / "out", to="tflite")
    assert not (tmp_path / "out").exists()


def test_a_network_that_pnnx_does_not_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pnnx

    monkeypatch.setattr(pnnx, "EXEC_PATH", "false")
    with pytest.raises(ModelError, match="pnnx does not convert this network: exit code 1"):
        exporter.export_ncnn(write_weights(tmp_path / "w.safetensors"), tmp_path / "m.param")
    assert not (tmp_path / "m.param").exists()
