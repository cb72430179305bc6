"""A classifier on the command line, from training to prediction."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import falconet
from falconet.cli import _register, app
from falconet.core.errors import ConfigError, DataError
from falconet.core.images import read_image
from falconet.core.types import Classification
from falconet.exporting.torch_engine import TorchEngine
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor
from falconet.training import fit
from tests.runtime import tiny_model
from tests.runtime.test_stream import write_video
from tests.training.tiny_classifier import draw_colours, tiny_classifier

_register()


def run(*arguments: str | Path, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data (train, val), a run and an exported file."""
    folder = tmp_path_factory.mktemp("classify")
    draw_colours(folder / "train", count=8)
    draw_colours(folder / "val", count=3, seed=1)
    fit(tiny_classifier(folder, folder / "run", "train.epochs=28", "train.learning_rate=0.01"))
    run("export", folder / "run", "--out", folder / "exported", "--name", "colours")
    return folder


def test_export_writes_a_receipt(trained: Path):
    receipt = json.loads((trained / "exported/colours.receipt.json").read_text())
    assert receipt["task"] == "classify"
    found = {finding["key"]: finding for finding in receipt["findings"]}
    assert receipt["images"] == 9
    assert found["best class"]["value"] == 1
    assert found["probability"]["value"] < found["probability"]["most"] == 1e-3
    assert receipt["torch"]["metrics"] == receipt["exported"]["metrics"]
    assert set(receipt["torch"]["metrics"]) == {"top1"}
    assert receipt["problems"] == []
    text = (trained / "exported/colours.receipt.txt").read_text()
    assert "best class           the same in 9 of 9" in text


def test_load_gives_a_classifier(trained: Path):
    predictor = falconet.load(trained / "exported/colours.onnx")
    assert isinstance(predictor, Predictor)
    assert predictor.names == ("blue", "green", "red")
    pictures = sorted((trained / "val").rglob("*.png"))
    found = predictor.predict(pictures, batch=4)
    assert all(isinstance(one, Classification) for one in found)
    assert np.mean([one.name == path.parent.name for one, path in zip(found, pictures, strict=True)]) >= 0.8
    for one in found:
        assert float(one.probabilities.sum()) == pytest.approx(1, abs=1e-5)
        assert [score for _, score in one] == sorted((score for _, score in one), reverse=True)
        assert one.top(1) == [(one.name, one.score)]
    single = predictor.predict(read_image(pictures[0])[0])
    np.testing.assert_allclose(single.probabilities, found[0].probabilities, atol=1e-5)
    assert predictor.predict([]) == []


def test_torch_and_the_file_agree_through_the_same_predictor(trained: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    one, other = TorchEngine(trained / "run")(pixels), OnnxEngine(trained / "exported/colours.onnx")(pixels)
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-4)


def test_a_fixed_batch_is_filled_up(trained: Path):
    run("export", trained / "run", "--out", trained / "fixed", "--name", "four", "--static-batch", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    engine = OnnxEngine(trained / "fixed/four.onnx")
    assert engine.batch == 4
    one, other = engine(pixels), OnnxEngine(trained / "exported/colours.onnx")(pixels)
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-5)


@pytest.mark.parametrize("model", ["run", "exported/colours.onnx"])
def test_eval(trained: Path, model: str):
    figures = json.loads(
        run("eval", trained / model, "--data", trained / "val", "--json", "--out", trained / "report").stdout
    )
    assert figures["images"] == 9
    assert figures["top1"] >= 0.8
    assert figures["top5"] == 1
    assert set(figures["per_class"]) == {"blue", "green", "red"}
    assert json.loads((trained / "report/metrics.json").read_text()) == figures
    text = run("eval", trained / model, "--data", trained / "val", "--no-report").stdout
    assert text.splitlines()[1].startswith(f"top-1  {100 * figures['top1']:6.2f}  ")
    assert text.splitlines()[2] == "top-5  100.00  100.0 to 100.0"
    low, high = figures["intervals"]["top1"]
    assert low <= figures["top1"] <= high


def test_eval_of_a_run_takes_its_validation_data(trained: Path):
    assert json.loads(run("eval", trained / "run", "--json").stdout)["data"] == f"validation data of {trained / 'run'}"


def test_eval_matches_classes_by_name(trained: Path, tmp_path: Path):
    draw_colours(tmp_path / "d", count=2, seed=1)
    (tmp_path / "d/blue").rename(tmp_path / "d/azure")
    figures = json.loads(run("eval", trained / "run", "--data", tmp_path / "d", "--json").stdout)
    assert figures["per_class"]["azure"] == 0
    assert figures["notes"] == [f"{tmp_path / 'd'}: the model does not know azure; all of these count as wrong"]
    for name in ("green", "red"):
        (tmp_path / "d" / name).rename(tmp_path / "d" / f"not-{name}")
    with pytest.raises(DataError, match=r"best\.safetensors knows none of its classes"):
        run("eval", trained / "run", "--data", tmp_path / "d")
    with pytest.raises(
        DataError, match="no such folder; expected a folder that holds one folder of pictures per class"
    ):
        run("eval", trained / "run", "--data", tmp_path / "none")


def test_the_report_shows_what_is_taken_for_what(trained: Path, tmp_path: Path):
    draw_colours(tmp_path / "d", count=2, seed=1)
    (tmp_path / "d/blue").rename(tmp_path / "d/azure")
    run("eval", trained / "run", "--data", tmp_path / "d", "--out", tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert "azure taken for blue" in page
    assert "azure, taken for blue with a score of " in page
    assert ">missed<" not in page
    assert "top-1" in page
    assert page.count("<figure>") == 2  # both azure images are wrong
    assert "Worst pictures" in page
    found = json.loads((tmp_path / "out/classes.json").read_text())["images"]
    assert {(one["class"], one["found"][0]["class"]) for one in found} >= {("azure", "blue"), ("red", "red")}


def test_two_classifiers_on_the_same_pictures(trained: Path, tmp_path: Path):
    out = tmp_path / "both"
    models = trained / "run", trained / "exported/colours.onnx"
    assert (
        f"comparison: {out / 'comparison.html'}" in run("eval", *models, "--data", trained / "val", "--out", out).stdout
    )
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "top1" in page
    assert "Share of the class&#39;s images" in page
    assert "answers better" not in page  # both are the same network
    assert "differences" in json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def test_predict(trained: Path, tmp_path: Path):
    model = trained / "exported/colours.onnx"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    arguments = ("--model", model, "--out", out, "--save", "images,csv,json", "--top", 2, "--batch", 2)
    result = run("predict", trained / "val/red", tmp_path / "broken.png", *arguments, code=2)
    assert "0.png: 40x71, red 0." in result.stdout
    assert "3 pictures, 1 not readable" in result.stdout
    rows = list(csv.DictReader((out / "classes.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert [row["rank"] for row in rows] == ["1", "2"] * 3
    pictures = json.loads((out / "classes.json").read_text())["pictures"]
    assert [one["classes"][0]["name"] for one in pictures if "classes" in one].count("red") >= 2
    assert "error" in pictures[-1]
    assert sorted(path.name for path in (out / "annotated").glob("*.jpg")) == ["0.jpg", "1.jpg", "2.jpg"]
    document = json.loads(run("predict", trained / "val/red/0.png", "--model", model, "--json").stdout)
    (only,) = document["pictures"]
    assert (only["file"], len(only["classes"])) == (str(trained / "val/red/0.png"), 3)


def test_a_video_is_classified_frame_by_frame(trained: Path, tmp_path: Path):
    clip = write_video(tmp_path / "clip.mp4", frames=4)
    out = tmp_path / "out"
    result = run("predict", clip, "--model", trained / "exported/colours.onnx", "--out", out, "--batch", 3)
    assert "clip.mp4: 4 frames at 10 per second, " in result.stdout
    rows = list(csv.DictReader((out / "classes.csv").read_text().splitlines()))
    assert [row["frame"] for row in rows if row["rank"] == "1"] == ["0", "1", "2", "3"]
    assert (out / "annotated/clip.webm").stat().st_size > 0


def test_task_is_accepted_for_a_while(trained: Path):
    model, picture = trained / "exported/colours.onnx", trained / "val/red/0.png"
    result = run("predict", picture, "--task", "classify", "--model", model)
    assert result.stderr.startswith("--task is no longer needed: the file says what the model does")
    with pytest.raises(ConfigError, match="--task detect: the model is a classifier; leave --task out"):
        run("predict", picture, "--task", "detect", "--model", model)


def test_options_of_detectors_are_refused(trained: Path):
    model, picture = trained / "exported/colours.onnx", trained / "val/red/0.png"
    for option in (("--score", 0.5), ("--iou", 0.5), ("--max-detections", 3), ("--classes", "red")):
        with pytest.raises(ConfigError, match=f"{option[0]}: the model is a classifier, for which it means nothing"):
            run("predict", picture, "--model", model, *option)
    with pytest.raises(ConfigError, match="cannot save 'coco' of a classifier; expected some of: images, json, csv"):
        run("predict", picture, "--model", model, "--save", "coco")
    with pytest.raises(ConfigError, match="classes: means nothing for a classifier; leave it out"):
        falconet.load(model, classes=["red"])
    with pytest.raises(ConfigError, match="--split belongs to data with boxes; of a classifier name one folder"):
        run("eval", model, "--data", trained / "val", "--split", "val")
    for option in (("--score", 0.5), ("--voc",)):
        with pytest.raises(ConfigError, match=f"{option[0]}: .* is a classifier, for which it means nothing"):
            run("eval", model, "--data", trained / "val", *option)


def test_options_of_classifiers_are_refused(trained: Path, tmp_path: Path):
    cells = tiny_model.write(tmp_path / "cells.onnx")
    with pytest.raises(ConfigError, match="--top: the model is a detector, for which it means nothing"):
        run("predict", trained / "val/red/0.png", "--model", cells, "--top", 3)


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_says_the_same(trained: Path):
    figures = [
        json.loads(run("eval", trained / "exported/colours.onnx", "--data", trained / "val", "--json", *more).stdout)
        for more in ((), ("--engine", "openvino"))
    ]
    assert figures[0]["top1"] == figures[1]["top1"]


def test_a_classification_checks_itself():
    with pytest.raises(ValueError, match=r"must have shape \[C\], but got \[2, 2\]"):
        Classification(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="must have 2 entries, but got 1"):
        Classification(np.zeros(2, np.float32), ("a",))
    found = Classification(np.array([0.5, 0.5], np.float32))
    assert (found.label, found.name, len(found)) == (0, "class 0", 2)
