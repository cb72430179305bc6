"""`falconet export`: what it writes, that a drift leaves nothing behind, its errors."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from falconet.cli import export as command
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.exporting import onnx as exporter
from falconet.exporting import verify as verification
from falconet.exporting.receipt import exported_from
from falconet.runtime import engines
from tests.exporting.models import write_weights

app = typer.Typer()
app.command()(command.export)


@pytest.fixture
def folder(weights, exported, records, tmp_path, monkeypatch) -> Path:
    """A folder with weights, pictures and truth. The file is not exported again, but copied."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(weights, "small.safetensors")
    shutil.copytree(records[0].path.parent, "in")

    def copied(_weights, out, *, layers=False, **_options):
        if layers:
            raise ModelError("this one is copied")
        return Path(shutil.copy(exported, out))

    monkeypatch.setattr(exporter, "export_onnx", copied)
    monkeypatch.setattr(verification, "default_threads", lambda: 1)
    truth = {
        "images": [{"id": r.image_id, "file_name": r.path.name, "width": r.width, "height": r.height} for r in records],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("circle", "square", "triangle"))],
        "annotations": [
            {
                "id": n,
                "image_id": r.image_id,
                "category_id": int(r.labels[0]),
                "bbox": [2, 2, r.boxes[0, 2].item() - 2, r.boxes[0, 3].item() - 2],
                "iscrowd": 0,
            }
            for n, r in enumerate(records)
        ],
    }
    Path("truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(kind, *arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, kind), result.exception
    return str(result.exception)


@pytest.mark.usefixtures("folder")
def test_model_and_receipt():
    out = run("small.safetensors", "--to", "onnx", "--out", "made", "--data", "truth.json", "--images", "in")
    assert sorted(path.name for path in Path("made").iterdir()) == [
        "small.onnx",
        "small.receipt.json",
        "small.receipt.txt",
    ]
    receipt = json.loads(Path("made/small.receipt.json").read_text(encoding="utf-8"))
    assert (receipt["model"], receipt["images"], receipt["problems"]) == ("small.onnx", 4, [])
    assert set(receipt["torch"]["metrics"]) == {"AP", "AP50"}
    assert "verdict              the same within tolerance" in out
    assert f"model                {Path('made/small.onnx')}" in out
    assert receipt["weights_path"] == "../small.safetensors"
    shutil.copytree(".", "../moved")
    assert exported_from(Path("../moved/made/small.onnx")) == Path("../moved/small.safetensors")


@pytest.mark.usefixtures("folder")
def test_any_pictures_will_do_and_json_is_the_receipt():
    out = run("small.safetensors", "--out", "made", "--images", "in", "--name", "other", "--pictures", "2", "--json")
    receipt = json.loads(out)
    assert (receipt["model"], receipt["images"], receipt["torch"]["metrics"]) == ("other.onnx", 2, {})
    assert Path("made/other.onnx").is_file()


@pytest.mark.usefixtures("folder")
def test_a_drift_is_an_error_and_leaves_what_was_there():
    Path("made").mkdir()
    Path("made/bent.onnx").write_bytes(b"the one before")
    write_weights(Path("bent.safetensors"), seed=5, channels="rgb")  # not what the copied file was made of
    message = fail(ModelError, "bent.safetensors", "--out", "made", "--images", "in")
    assert message.startswith(f"{Path('made/bent.onnx')}: not written, the exported file in onnxruntime differs from")
    assert "torch: boxes differ by" in message
    assert "\nwhich layer differs first could not be found: this one is copied\n" in message
    assert [path.name for path in Path("made").iterdir()] == ["bent.onnx"]
    assert Path("made/bent.onnx").read_bytes() == b"the one before"


@pytest.mark.usefixtures("folder")
def test_errors_are_for_people():
    message = fail(ConfigError, "small.safetensors", "--out", "made")
    assert message == (
        "small.safetensors: does not say which data it was measured on; add --data ANNOTATIONS (and --images FOLDER); "
        "any pictures are enough to compare on: --images FOLDER alone"
    )
    message = fail(ModelError, "none.safetensors", "--images", "in")
    assert message == (
        "none.safetensors: no such file; expected a run folder, a weights file or the name of published weights"
    )
    Path("empty").mkdir()
    message = fail(DataError, "small.safetensors", "--out", "made", "--images", "empty")
    assert message == "empty: holds no images; expected a folder of JPEG or PNG files to compare on"
    message = fail(DataError, "small.safetensors", "--out", "truth.json", "--images", "in")
    assert message == "truth.json: cannot be made: File exists"
    assert not Path("made").exists()


@pytest.mark.usefixtures("folder")
def test_classes_of_the_data_must_be_known():
    truth = json.loads(Path("truth.json").read_text(encoding="utf-8"))
    truth["categories"][0]["name"] = "blob"
    Path("truth.json").write_text(json.dumps(truth), encoding="utf-8")
    message = fail(DataError, "small.safetensors", "--out", "made", "--data", "truth.json", "--images", "in")
    assert message.startswith("truth.json: its classes do not fit the model: blob not known to small.safetensors")
    assert not Path("made").exists()


@pytest.mark.usefixtures("folder")
def test_a_receipt_for_each_engine(monkeypatch):
    pytest.importorskip("openvino")
    arguments = ("small.safetensors", "--out", "made", "--images", "in")
    assert "openvino" in run(*arguments, "--engine", "onnxruntime,openvino")
    names = sorted(path.name for path in Path("made").glob("*.json"))
    assert names == ["small.openvino.receipt.json", "small.receipt.json"]
    receipts = json.loads(run(*arguments, "--engine", "onnxruntime,openvino", "--json"))
    assert [one["exported"]["name"] for one in receipts] == ["onnxruntime", "openvino"]
    assert "engine 'tflite' is not known" in fail(ConfigError, *arguments, "--engine", "tflite")
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    assert "install it with: pip install 'falconet[openvino]'" in fail(ConfigError, *arguments, "--engine", "openvino")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("to", ["litert", "executorch"])
def test_formats_whose_converters_are_not_there(to):
    if find_spec({"litert": "litert_torch"}.get(to, to)) is not None:
        pytest.skip("it is there")
    said = fail(ConfigError, "small.safetensors", "--to", to, "--images", "in")
    assert said.startswith(f"export to {to} needs ")
    assert ("a virtual environment of their own" in said) == (to == "litert")
    assert not Path("export").exists()
