"""`falconet calibrate`: what is written, what it does to answers, what it refuses."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import falconet
from falconet.api.calibrate import calibrate, undo
from falconet.cli import _register, app
from falconet.core.coco_json import coco_annotation, coco_categories
from falconet.core.errors import ConfigError, DataError
from falconet.core.manifest import MANIFEST_KEY
from falconet.exporting.onnx import export_onnx
from falconet.models.weights import load_weights, read_card
from falconet.runtime.onnx_engine import OnnxEngine
from tests.exporting.models import write_weights
from tests.runtime import tiny_model

SIDE = 2 * tiny_model.CELL


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in which a cell that scores s is an object with a chance of s squared; of the classes blue and red."""
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    chance = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(60):
        image = np.zeros((tiny_model.SIDE * 2, tiny_model.SIDE * 2, 3), np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
        for place in chance.choice(16, 6, replace=False).tolist():
            row, column = divmod(place, 4)
            label, value = int(chance.integers(0, 2)) * 2, int(chance.integers(30, 256))
            image[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE, label] = value
            if chance.random() < (value / 255) ** 2:
                result = {
                    "image_id": number,
                    "category_id": 1 + label // 2,
                    "bbox": [column * SIDE, row * SIDE, SIDE, SIDE],
                }
                annotations.append(coco_annotation(len(annotations) + 1, result))
        tiny_model.save(tmp_path / "in" / f"{number}.png", image)
    content = {"images": images, "annotations": annotations, "categories": coco_categories(("blue", "red"))}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


def run(*words: str) -> str:
    _register()
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def figures(path: str, data: Path) -> dict[str, object]:
    told = falconet.evaluate(path, data, images="in").as_dict()
    kept = ("AP", "AP50", "AR100", "per_class", "intervals")
    return {name: told[name] for name in kept}


def test_scores_say_how_often_they_are_right_and_ap_stays(data: Path) -> None:
    before = figures("m.onnx", data)
    done = calibrate("m.onnx", data, images="in")
    assert done.before.d_ece > 0.12
    assert done.after.d_ece < 0.6 * done.before.d_ece
    assert figures("m.onnx", data) == before
    predictor = falconet.load("m.onnx")
    image = tiny_model.picture((0, 0, "red"), value=128)
    (score,) = predictor.predict(image).scores.tolist()
    assert score == pytest.approx(0.25, abs=0.12)  # 128 of 255, squared


def test_the_answers_in_coco_form_have_the_same_ap(data: Path) -> None:
    from falconet.data.formats import open_dataset
    from falconet.eval.coco_ap import evaluate

    truth = open_dataset(data, "in")
    calibrate("m.onnx", data, images="in")
    measured = falconet.evaluate("m.onnx", data, images="in")
    told = evaluate(truth.names, measured.results.records, measured.results.answers)
    assert told["AP"] == pytest.approx(measured["AP"], abs=1e-6)


def test_as_many_boxes_lie_above_the_threshold(data: Path) -> None:
    def count() -> int:
        predictor = falconet.load("m.onnx", classes=["blue", "red"])
        return sum(len(predictor.predict(path)) for path in sorted(Path("in").iterdir()))

    before = count()
    done = calibrate("m.onnx", data, images="in")
    assert count() == before
    assert done.own_threshold == 0.25
    assert done.threshold < 0.25


def test_a_class_that_the_data_do_not_know_takes_the_map_of_all(data: Path) -> None:
    calibrate("m.onnx", data, images="in", operating_points=["f1"])
    manifest = OnnxEngine(Path("m.onnx")).manifest
    assert [one.scores[0] for one in manifest.calibration] == [0, 0, 0]
    blue, green, red = (np.interp(0.5, one.scores, one.probabilities) for one in manifest.calibration)
    assert min(blue, red) - 0.1 < green < max(blue, red) + 0.1
    (point,) = manifest.operating_points
    assert point.name == "f1"
    assert len(point.thresholds) == 3


def test_calibrating_again_begins_with_the_models_own_scores(data: Path) -> None:
    first = calibrate("m.onnx", data, images="in")
    once = Path("m.onnx").read_bytes()
    again = calibrate("m.onnx", data, images="in")
    assert again.before == first.before
    assert again.own_threshold == 0.25
    assert Path("m.onnx").read_bytes() == once


def test_undo_gives_the_file_back(data: Path) -> None:
    before = OnnxEngine(Path("m.onnx")).manifest
    calibrate("m.onnx", data, images="in")
    undo("m.onnx")
    assert OnnxEngine(Path("m.onnx")).manifest == before
    text = {one.key: one.value for one in onnx.load("m.onnx").metadata_props}[MANIFEST_KEY]
    assert "calibration" not in text  # versions before it read the file
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo("m.onnx")


def test_another_file_leaves_the_model_as_it_was(data: Path) -> None:
    before = Path("m.onnx").read_bytes()
    done = calibrate("m.onnx", data, images="in", out="c.onnx")
    assert done.path == Path("c.onnx")
    assert Path("m.onnx").read_bytes() == before
    assert OnnxEngine(Path("c.onnx")).manifest.calibration


def test_operating_points_are_stored_and_used(data: Path) -> None:
    said = run(
        "calibrate", "m.onnx", "--data", str(data), "--images", "in", "--operating-point", "precision=0.8",
        "--operating-point", "false-alarms=500/1000",
    )  # fmt: skip
    assert "precision=0.8: recall " in said
    assert "false-alarms=500/1000: recall " in said
    plain = run("predict", "in", "--model", "m.onnx", "--json")
    few = run("predict", "in", "--model", "m.onnx", "--json", "--operating-point", "precision=0.8")
    assert 0 < few.count('"box"') < plain.count('"box"')
    loaded = falconet.load("m.onnx", operating_point="precision=0.8")
    assert sum(len(loaded.predict(path)) for path in Path("in").iterdir()) == few.count('"box"')


def test_what_predict_says_where_a_point_is_not_stored(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"stored with it, but with: none; 'falconet calibrate MODEL "):
        falconet.load("m.onnx", operating_point="recall=0.95")
    calibrate("m.onnx", data, images="in", operating_points=["f1"])
    with pytest.raises(ConfigError, match=r"stored with it, but with: f1; 'falconet calibrate MODEL "):
        falconet.load("m.onnx", operating_point="recall=0.95")
    with pytest.raises(ConfigError, match="both are thresholds"):
        falconet.load("m.onnx", operating_point="f1", score=0.5)


def test_usual_points_that_are_not_reached_are_said_and_named_ones_refused(data: Path) -> None:
    content = json.loads(data.read_text())
    for one in content["annotations"]:
        if one["category_id"] == 2:
            one["bbox"][0] += 64  # red objects are where nothing is
    data.write_text(json.dumps(content))
    done = calibrate("m.onnx", data, images="in")
    assert [point.wanted.text for point in done.points] == ["f1"] or done.refused
    assert any("recall=0.9: no threshold reaches it" in sentence for sentence in done.refused)
    before = Path("m.onnx").read_bytes()
    with pytest.raises(ConfigError, match=r"recall=0\.9: no threshold reaches it"):
        calibrate("m.onnx", data, images="in", operating_points=["recall=0.9"])
    assert Path("m.onnx").read_bytes() == before


def test_what_is_written_for_programs(data: Path) -> None:
    told = json.loads(run("calibrate", "m.onnx", "--data", str(data), "--images", "in", "--json"))
    assert told == json.loads(Path("m.calibration.json").read_text())
    assert told["before"]["d_ece"] > told["after"]["d_ece"]
    assert sum(one["number"] for one in told["bins_after"]) == told["detections"] == 360
    assert set(told["operating_points"]) <= {"f1", "precision=0.9", "recall=0.9"}


def test_few_detections_are_refused(data: Path) -> None:
    content = json.loads(data.read_text())
    content["annotations"] = content["annotations"][:10]
    data.write_text(json.dumps(content))
    with pytest.raises(DataError, match="10 right detections there and 350 wrong ones; expected 20 of each"):
        calibrate("m.onnx", data, images="in")


@pytest.mark.usefixtures("data")
def test_what_cannot_be_calibrated() -> None:
    with pytest.raises(ConfigError, match=r"--target speed: is not known; expected precision or iou"):
        calibrate("m.onnx", target="speed")
    with pytest.raises(ConfigError, match=r"--operating-point fast: expected recall=0\.95"):
        calibrate("m.onnx", operating_points=["fast"])
    with pytest.raises(ConfigError, match=r"--out c\.xml: expected a name that ends in \.onnx"):
        calibrate("m.onnx", out="c.xml")


@pytest.mark.slow
def test_weights_carry_it_into_exported_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = write_weights(tmp_path / "w.safetensors")
    card = read_card(weights)
    predictor = falconet.load(weights, score=0.0)
    chance = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(12):
        image = chance.integers(0, 256, (96, 128, 3), np.uint8)
        tiny_model.save(tmp_path / "in" / f"{number}.png", image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        found = predictor.predict(image)
        for box, label in zip(found.boxes[::3], found.labels[::3], strict=True):
            x1, y1, x2, y2 = map(float, box)
            result = {"image_id": number, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append(coco_annotation(len(annotations) + 1, result))
    content = {"images": images, "annotations": annotations, "categories": coco_categories(card.classes)}
    Path("truth.json").write_text(json.dumps(content))
    calibrate(weights, "truth.json", images="in", operating_points=["f1"])
    network, calibrated = load_weights(weights)
    assert len(calibrated.calibration) == len(card.classes)
    assert calibrated.data == card.data
    assert network is not None
    manifest = OnnxEngine(export_onnx(weights, tmp_path / "m.onnx")).manifest
    assert manifest.calibration == calibrated.calibration
    assert manifest.operating_points == calibrated.operating_points
    assert manifest.selection == card.selection  # programs that know no maps go on as before
    told = OnnxEngine(export_onnx(weights, tmp_path / "s.onnx", score=0.7)).manifest
    assert (told.told_selection.score_threshold, told.selection) == (0.7, card.selection)


def test_two_models_at_the_same_number_of_false_alarms(data: Path) -> None:
    tiny_model.write(Path("n.onnx"))
    compared = falconet.compare(
        "m.onnx", "n.onnx", data, images="in", operating_point="false-alarms=500/1000"
    ).as_dict()
    difference = compared["differences"]["recall, false-alarms=500/1000"]
    assert difference["first"] == difference["second"] > 0.5
    assert tuple(difference["interval"]) == (0, 0)


def test_the_report_says_what_scores_of_the_overlap_say(data: Path) -> None:
    words = ("--data", str(data), "--images", "in", "--out", "report")
    run("eval", "m.onnx", *words)
    assert "eight in ten are right" in Path("report/report.html").read_text()
    before = Path("m.onnx").read_bytes()
    calibrate("m.onnx", data, images="in", target="iou")
    assert OnnxEngine(Path("m.onnx")).manifest.calibration_target == "iou"
    run("eval", "m.onnx", *words)
    page = Path("report/report.html").read_text()
    assert "The scores say how well boxes fit." in page
    assert "mean IoU with the object" in page
    assert "eight in ten are right" not in page
    undo("m.onnx")
    assert OnnxEngine(Path("m.onnx")).manifest == OnnxEngine(_written("n.onnx", before)).manifest


def _written(name: str, content: bytes) -> Path:
    Path(name).write_bytes(content)
    return Path(name)


def test_the_same_operating_point_in_another_spelling(data: Path) -> None:
    done = calibrate("m.onnx", data, images="in", operating_points=["recall=0.50", "recall=0.5", "F1", "f1"])
    assert [one.wanted.text for one in done.points] == ["recall=0.5", "f1"]
    image = tiny_model.picture((0, 0, "red"), value=128)
    found = [falconet.load("m.onnx", operating_point=name).predict(image) for name in ("recall=0.500", "recall=0.5")]
    assert found[0].scores.tolist() == found[1].scores.tolist()
    falconet.load("m.onnx", operating_point="F1")
    with pytest.raises(ConfigError, match=r"operating point recall=0\.51: the model was not stored with it"):
        falconet.load("m.onnx", operating_point="recall=0.51")
