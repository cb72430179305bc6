"""`falconet eval`: the same figures for exported files and weights, the files it writes, its errors."""

import json
import re
import shutil
from html import escape
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from falconet.api import require
from falconet.cli import evaluate as command
from falconet.core.errors import ConfigError, DataError, ModelError
from tests.eval.test_coco_ap import KEYS
from tests.eval.test_report import parse
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save

app = typer.Typer()
app.command()(command.evaluate)

CELL = 32
"""Pixels of a cell in the pictures, which have twice the input's size."""


def box(row, column):
    return [column * CELL, row * CELL, CELL, CELL]


def annotations(folder, *, names=("red", "blue", "green"), extra=()):
    """COCO annotations of two pictures; the classes come in another order than the model's."""
    boxes = [("a.png", "red", box(0, 0)), ("a.png", "blue", box(1, 1)), ("b.png", "green", box(3, 3)), *extra]
    files = ["a.png", "b.png", "c.png"]
    content = {
        "images": [{"id": 10 + n, "file_name": file, "width": 128, "height": 128} for n, file in enumerate(files)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=3)],
        "annotations": [
            {
                "id": n,
                "image_id": 10 + files.index(file),
                "category_id": 3 + names.index(name),
                "bbox": place,
                "area": CELL * CELL,
                "iscrowd": 0,
            }
            for n, (file, name, place) in enumerate(boxes, start=1)
        ],
    }
    (folder / "truth.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "in" / "a.png", picture((0, 0, "red"), (1, 1, "blue")))
    save(tmp_path / "in" / "b.png", picture((3, 3, "green")))
    save(tmp_path / "in" / "c.png", picture())
    annotations(tmp_path)
    return tmp_path


def run(*arguments, model="m.onnx"):
    arguments = [model, "--data", "truth.json", "--images", "in", *arguments]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def fail(kind, *arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, kind), result.exception
    return str(result.exception)


@pytest.mark.usefixtures("folder")
def test_json_has_the_figures_as_fractions(caplog):
    out, _ = run("--json")
    figures = json.loads(out)
    assert tuple(figures)[:12] == KEYS
    assert (figures["AP"], figures["AP50"]) == (pytest.approx(1), pytest.approx(1))
    assert figures["APl"] == -1
    assert list(figures["per_class"]) == ["red", "blue", "green"]
    assert figures["boxes"] == {"red": 1, "blue": 1, "green": 1}
    assert (figures["images"], figures["model"], figures["data"]) == (3, "m.onnx", "truth.json")
    assert figures["score_threshold"] == 0.05
    note = "the classes of data set and model come in different orders; they are matched by name"
    assert figures["notes"] == [note]
    assert caplog.messages == [note]


@pytest.mark.usefixtures("folder")
def test_table_for_people():
    lines = run()[0].splitlines()
    assert lines[0].split() == ["95", "%", "interval"]
    assert lines[1].split() == ["AP", "100.0", "100.0", "to", "100.0"]
    assert lines[6].split() == ["APl", "–"]
    assert lines[14].split() == ["class", "boxes", "AP", "AP50", "AP,", "95", "%", "interval"]
    assert lines[15].split() == ["red", "1", "100.0", "100.0", "100.0", "to", "100.0"]


def test_two_models_on_the_same_pictures(folder):
    manifest = json.loads(tiny_model.manifest().to_json())
    other = {"blue": "green", "green": "blue"}
    swapped = json.dumps(manifest | {"classes": [other.get(name, name) for name in manifest["classes"]]})
    tiny_model.write(folder / "mixed.onnx", text=swapped)  # takes blue for green
    arguments = ["m.onnx", "mixed.onnx", "--data", "truth.json", "--images", "in"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    assert lines[:2] == ["A  m", "B  mixed"]
    (row,) = (line.split() for line in lines if line.startswith("AP "))
    assert row[:4] == ["AP", "100.0", "33.3", "-66.7"]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    difference = told["differences"]["AP"]
    assert difference["first"] == pytest.approx(1)
    assert difference["difference"] == pytest.approx(difference["second"] - 1)
    assert told["per_class_differences"]["red"]["interval"] == pytest.approx([0, 0])
    assert told["per_class_differences"]["blue"]["interval"] == pytest.approx([-1, -1])
    assert lines[-1] == told["sentence"]
    same = CliRunner().invoke(app, ["m.onnx", *arguments[:1], *arguments[2:]], catch_exceptions=False).stdout
    assert same.splitlines()[-1] == "3 pictures: too few to tell two models apart; expected 10 at least."
    assert "by chance alone" not in same  # no line is marked


def test_two_models_as_a_page(folder):
    manifest = json.loads(tiny_model.manifest().to_json())
    other = {"blue": "green", "green": "blue"}
    swapped = json.dumps(manifest | {"classes": [other.get(name, name) for name in manifest["classes"]]})
    tiny_model.write(folder / "<mixed>.onnx", text=swapped)  # takes blue for green
    arguments = ["m.onnx", "<mixed>.onnx", "--data", "truth.json", "--images", "in", "--out", "both"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    assert lines[-1] == f"comparison: {Path('both/comparison.html')}"
    assert sorted(path.name for path in (folder / "both").iterdir()) == ["comparison.html", "comparison.json"]
    told = json.loads((folder / "both" / "comparison.json").read_text(encoding="utf-8"))
    assert told["sentence"] == lines[-2]
    page = (folder / "both" / "comparison.html").read_text(encoding="utf-8")
    parse(page)
    for shown in (escape(told["sentence"]), "A: m", "B: &lt;mixed&gt;", "B / A", "read and decode", "matched by name"):
        assert shown in page
    assert "<mixed>" not in page
    every = [*told["differences"].values(), *told["per_class_differences"].values()]
    worse = [one for one in every if one["interval"] is not None and one["interval"][1] < 0]
    assert page.count('class="around loss"') == len(worse) >= 2  # AP of blue and green at least
    assert "Pictures that A answers better" in page
    assert "Pictures that B answers better" not in page
    assert page.count('<rect class="won"') == page.count('<rect class="lost"') == 2  # blue and green
    assert page.count('<rect class="false"') == 2
    printed = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout
    assert json.loads(printed)["sentence"] == told["sentence"]


@pytest.mark.usefixtures("folder")
def test_no_third_model():
    assert "two to compare, instead of 3" in fail(ConfigError, "m.onnx", "m.onnx", "m.onnx")


def test_a_report_without_jinja2_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(require, "find_spec", lambda name: None if name == "jinja2" else name)
    text = fail(ConfigError, "m.onnx", "--data", "truth.json", "--images", "in", "--out", "there")
    assert re.search(r"the report needs jinja2.*pip install 'falconet\[eval\]' \(or write none: --no-report\)", text)
    assert not (folder / "there").exists()
    run("--no-report")  # needs none
    run("--json")


def test_truth_that_is_not_found_lowers_the_figures(folder):
    annotations(folder, extra=[("c.png", "red", box(2, 2))])
    figures = json.loads(run("--json")[0])
    assert figures["per_class"]["red"] == pytest.approx(51 / 101)
    assert figures["AP"] == pytest.approx((2 + 51 / 101) / 3)


def test_score_is_the_threshold_of_the_figures(folder):
    save(folder / "in" / "a.png", picture((0, 0, "red"), (1, 1, "blue"), value=77))  # scores of 0.3
    assert json.loads(run("--json", "--score", "0.25")[0])["per_class"]["red"] == pytest.approx(1)
    assert json.loads(run("--json", "--score", "0.35")[0])["per_class"]["red"] == 0


@pytest.mark.usefixtures("folder")
def test_the_models_own_selection_and_the_protocol_of_others():
    own = json.loads(run("--json")[0])["selection"]
    assert own == {"score_threshold": 0.05, "iou_threshold": 0.6, "max_candidates": 1000, "max_detections": 100}
    coco = json.loads(run("--json", "--protocol", "coco")[0])["selection"]
    assert (coco["score_threshold"], coco["iou_threshold"], coco["max_detections"]) == (0.001, 0.6, 100)
    assert json.loads(run("--json", "--protocol", "coco", "--score", "0.3")[0])["selection"]["score_threshold"] == 0.3
    assert "detections: score above 0.05, NMS at 0.6, at most 100 per image" in run()[0]
    with pytest.raises(ConfigError, match="--protocol voc: is not known; expected one of model, coco"):
        run("--protocol", "voc")


def test_files_of_out(folder):
    out, _ = run("--out", "deep/result")
    assert out.splitlines()[-2] == f"report: {Path('deep/result/report.html')}"
    made = folder / "deep" / "result"
    assert sorted(path.name for path in made.iterdir()) == ["detections.json", "metrics.json", "report.html"]
    assert json.loads((made / "metrics.json").read_text(encoding="utf-8"))["AP50"] == pytest.approx(1)
    found = json.loads((made / "detections.json").read_text(encoding="utf-8"))
    assert [image["id"] for image in found["images"]] == [10, 11, 12]
    assert [entry["name"] for entry in found["categories"]] == ["red", "blue", "green"]
    assert found["annotations"][-1] == {
        "id": 3,
        "image_id": 11,
        "category_id": 3,
        "bbox": box(3, 3),
        "area": CELL * CELL,
        "iscrowd": 0,
        "score": 1.0,
    }
    page = (made / "report.html").read_text(encoding="utf-8")
    for shown in ("cells: m", "truth.json", "read and decode", "3, 1 of them without boxes", "matched by name"):
        assert shown in page


def test_report_shows_the_receipt_beside_the_model(folder, caplog):
    from falconet.exporting.receipt import Finding, Receipt, Side, write_receipt

    one = {"version": "1", "metrics": {"AP": 0.5}, "milliseconds": 1.5, "threads": 1}
    receipt = Receipt(
        task="detect",
        model="m.onnx",
        weights="w",
        sha256="abc123",
        size=9,
        images=4,
        findings=(Finding(key="box difference", text="largest 0.01 px", value=0.01),),
        torch=Side(name="torch", **one),
        exported=Side(name="onnxruntime", **one),
    )
    write_receipt(receipt, folder / "m.onnx")
    run("--out", "result")
    page = (folder / "result" / "report.html").read_text(encoding="utf-8")
    assert all(shown in page for shown in ("abc123", "largest 0.01 px", "the same within tolerance"))
    (folder / "m.receipt.json").write_text("{", encoding="utf-8")
    run("--out", "result")
    assert "m.receipt.json: is not a receipt" in caplog.text
    assert "Export receipt" not in (folder / "result" / "report.html").read_text(encoding="utf-8")


def test_what_is_left_out_is_said(folder, caplog):
    (folder / "in" / "b.png").unlink()
    out, _ = run("--json")
    figures = json.loads(out)
    assert figures["images"] == 2
    assert figures["per_class"]["green"] == -1
    assert any("b.png" in note for note in figures["notes"])
    assert "b.png" in caplog.text


def test_class_mismatch_names_both_lists(folder):
    annotations(folder, names=("red", "blue", "green", "pink"))
    message = fail(DataError, "m.onnx", "--data", "truth.json", "--images", "in")
    assert message.startswith("truth.json: its classes do not fit the model: pink not known to m.onnx")
    assert "data set: red, blue, green, pink" in message
    assert "model:    blue, green, red" in message


@pytest.mark.usefixtures("folder")
def test_errors_are_for_people():
    message = fail(ModelError, "none.onnx", "--data", "truth.json")
    assert message == (
        "none.onnx: no such file; expected a run folder, a weights file, an exported .onnx file or the name of "
        "published weights"
    )
    message = fail(ConfigError, "m.onnx")
    assert message == (
        "m.onnx: belongs to no training run, so there is no default data; add --data ANNOTATIONS --images FOLDER"
    )
    assert fail(ConfigError, "m.onnx", "--images", "in") == "--images needs --data ANNOTATIONS beside it"
    assert fail(ConfigError, "m.onnx", "--split", "val") == "--split needs --data ANNOTATIONS beside it"
    message = fail(ModelError, "m.onnx", "--engine", "torch", "--data", "truth.json")
    assert message == ("m.onnx: engine torch does not run it; expected onnxruntime or openvino, or leave engine out")


@pytest.mark.usefixtures("folder")
def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(require, "find_spec", lambda name: None if name == "hotcoco" else object())
    message = fail(ConfigError, "m.onnx", "--data", "truth.json")
    assert message == (
        "eval needs hotcoco, which the base install leaves out; install it with: pip install 'falconet[eval]'"
    )


def test_weights_and_run_folder(folder):
    """A run folder brings its own data; weights with --data give the same figures as the folder's best weights."""
    from falconet.core.config import write_yaml
    from tests.exporting.models import write_weights

    run_folder = folder / "run"
    run_folder.mkdir()
    write_weights(run_folder / "best.safetensors", classes=("red", "blue", "green"))
    data = {"annotations": str(folder / "truth.json"), "images": str(folder / "in")}
    tree = {"model": {"name": "nanodet-plus"}, "data": {"train": data, "val": data}}
    (run_folder / "run.yaml").write_text(write_yaml(tree), encoding="utf-8")
    history = [json.dumps({"epoch": epoch, "loss": 1.5 / epoch, "AP": 0.1}) for epoch in (1, 2)]
    (run_folder / "metrics.jsonl").write_text("\n".join(history), encoding="utf-8")

    by_hand = json.loads(run("--json", model="run/best.safetensors")[0])
    result = CliRunner().invoke(app, ["run", "--json", "--out", "result"], catch_exceptions=False)
    by_default = json.loads(result.stdout)
    assert by_default["data"] == "validation data of run"
    assert [by_default[key] for key in KEYS] == [by_hand[key] for key in KEYS]
    assert "polyline" in (folder / "result" / "report.html").read_text(encoding="utf-8")


def test_figures_of_voc_on_demand(folder: Path) -> None:
    result = CliRunner().invoke(app, ["m.onnx", "--data", "truth.json", "--images", "in", "--json"])
    plain = json.loads(result.stdout)
    assert "VOC_AP50" not in plain
    result = CliRunner().invoke(app, ["m.onnx", "--data", "truth.json", "--images", "in", "--json", "--voc"])
    figures = json.loads(result.stdout)
    assert figures["VOC_AP50"] == pytest.approx(figures["AP50"], abs=0.02)
    assert 0 < figures["VOC07_AP50"] <= 1
    assert set(figures["per_class_VOC_AP50"]) == set(figures["per_class"])
    of_the_moment = {"milliseconds", "busy_cpus"}
    assert {key: figures[key] for key in plain if key not in of_the_moment} == {
        key: value for key, value in plain.items() if key not in of_the_moment
    }
    result = CliRunner().invoke(app, ["m.onnx", "--data", "truth.json", "--images", "in", "--voc"])
    assert "AP50 by VOC's protocol " in result.stdout
    assert folder == Path.cwd()


@pytest.mark.usefixtures("folder")
def test_the_report_is_written_where_nobody_says_where():
    out, _ = run()
    assert out.splitlines()[-2:] == [
        f"report: {Path('runs/eval/m-truth/report.html')}",
        "next: falconet predict PICTURES --model m.onnx --out found",
    ]
    page = Path("runs/eval/m-truth/report.html").read_text()
    assert "AP50" in page
    shutil.rmtree("runs")
    run("--json")
    run("--no-report")
    assert not Path("runs").exists()
    assert "cannot be combined with --out" in fail(ConfigError, "m.onnx", "--no-report", "--out", "x")
    # Of a model in a run's folder, there.
    Path("mine").mkdir()
    shutil.copy("m.onnx", "mine/m.onnx")
    Path("mine/run.yaml").write_text("")
    out, _ = run(model="mine/m.onnx")
    assert out.splitlines()[-1] == f"report: {Path('mine/report-truth/report.html')}"


@pytest.mark.usefixtures("folder")
def test_what_is_found_above_which_score_is_said():
    out, _ = run("--no-report")
    assert "score above 0.25: 3 of 3 objects found, 0 false (the model's own threshold)" in out
    figures = json.loads(run("--json")[0])
    own = figures["at_own_score"]
    assert {"score": 0.25, "found": 3, "missed": 0, "false": 0, "F1": 1}.items() <= own.items()
    assert (own["recall"], own["recall_interval"]) == (1, None)  # three pictures tell nothing
    assert own["false_alarms_interval"] == pytest.approx([0, 0.632], abs=0.001)  # 1 - 0.05 ** (1 / 3)
    assert "  recall 100.0 (too few to say) %" in out
    assert figures["at_best_score"]["F1"] == 1


@pytest.mark.usefixtures("folder")
def test_the_report_begins_in_plain_language():
    run("--out", "made")
    page = Path("made/report.html").read_text()
    assert "In 3 pictures the model finds 3 of 3 objects (100%); 0 of the 3 boxes that it draws are wrong (0%)." in page
    assert re.search(r"Measured on [0-9]{1,2} [A-Z][a-z]+ [0-9]{4} on truth.json, on .+ cores?\)", page)


@pytest.mark.usefixtures("folder")
def test_a_threshold_for_what_is_wanted():
    out, _ = run("--operating-point", "precision=0.9")
    assert "precision=0.9, as it does on the pictures that the thresholds were chosen on" in out
    told = json.loads(run("--operating-point", "recall=1", "--json")[0])["operating_point"]
    assert (told["found"], told["objects"], told["recall"]) == (3, 3, 1.0)
    assert told["recall_interval"] is None  # three pictures tell nothing
    words = ["m.onnx", "--data", "truth.json", "--images", "in", "--operating-point", "fast"]
    assert "expected recall=0.95" in fail(ConfigError, *words)


@pytest.mark.usefixtures("folder")
def test_the_report_says_what_is_odd_about_the_data_and_which_labels_are_doubted():
    annotations(Path(), extra=[("a.png", "red", box(0, 0))])  # twice
    run("--out", "made")
    page = Path("made/report.html").read_text()
    assert "What is odd about these data" in page
    assert "Labels in doubt" not in page
    Path("mine/suspects").mkdir(parents=True)
    Path("mine/run.yaml").write_text("")
    shutil.copy("m.onnx", "mine/m.onnx")
    doubted = {"counts": {"missing": 1}, "labels": 4, "images": 3, "suspects": [{"sentence": "there may be a red one"}]}
    Path("mine/suspects/suspects.json").write_text(json.dumps(doubted))
    Path("mine/suspects/suspects.html").write_text("")
    run(model="mine/m.onnx")
    page = Path("mine/report-truth/report.html").read_text()
    assert "there may be a red one" in page
    assert 'href="../suspects/suspects.html"' in page
    Path("mine/suspects/suspects.json").write_text("{")
    run(model="mine/m.onnx")
    assert "Labels in doubt" not in Path("mine/report-truth/report.html").read_text()


@pytest.mark.usefixtures("folder")
def test_a_busy_machine_is_told_beside_the_milliseconds(monkeypatch):
    monkeypatch.setattr("falconet.api.evaluation.busy_cpus", lambda: 1.5)
    out, _ = run("--out", "made")
    told = "others keep 1.5 CPUs busy: these milliseconds are not those of an idle machine"
    assert f"ms in the network ({told})" in out
    assert f"Meanwhile {told}." in Path("made/report.html").read_text()
    assert json.loads(Path("made/metrics.json").read_text())["busy_cpus"] == 1.5
    monkeypatch.setattr("falconet.api.evaluation.busy_cpus", lambda: None)
    out, _ = run("--out", "made")
    assert "busy" not in out + Path("made/report.html").read_text()


@pytest.mark.usefixtures("folder")
def test_a_curve_is_refused_before_anything_takes_time():
    words = ["m.onnx", "--data", "truth.json", "--images", "in", "--curve", "in"]
    assert "has no curve.json; expected the folder of 'falconet data curve'" in fail(ConfigError, *words)
    assert "--curve goes into the report of one model" in fail(ConfigError, *words, "--no-report")
    assert "--curve goes into the report of one model" in fail(ConfigError, "m.onnx", *words)
