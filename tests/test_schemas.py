"""What commands give programs is what the schemas in the docs say: no key is missing, none is too many."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import falconet
from falconet.api.bench import Bench, Row
from falconet.api.calibrate import calibrate
from falconet.api.folds import HeldOut
from falconet.api.prune import Pruned
from falconet.api.prune import Row as PrunedRow
from falconet.api.quantize import Quantized
from falconet.api.repeat import Figure, Repeated
from falconet.api.suspects import Suspects
from falconet.api.worth import Side
from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import Interval
from falconet.eval.latency import Latency
from falconet.eval.suspects import Suspect
from falconet.exporting.receipt import Finding, Receipt, describe_file
from falconet.exporting.receipt import Side as Compared
from tests.api.test_calibrate import data, run
from tests.api.test_curve import made
from tests.runtime import tiny_model

__all__ = ["data"]  # the fixture

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"


def check(name: str, document: Any) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    problems = list(Draft202012Validator(schema).iter_errors(document))
    assert not problems, problems[0].message


def test_every_schema_is_in_the_docs() -> None:
    page = (SCHEMAS.parent / "json.md").read_text()
    named = {path.name for path in SCHEMAS.iterdir()}
    assert named == {name for name in named if f"schemas/{name}" in page}
    assert page.count(".schema.json)") == len(named)


def test_eval(data: Path) -> None:
    calibrate("m.onnx", data, images="in", operating_points=["f1"])
    words = ("--data", str(data), "--images", "in", "--json")
    check("eval", json.loads(run("eval", "m.onnx", *words, "--voc", "--operating-point", "precision=0.7")))
    check("eval", json.loads(run("eval", "m.onnx", *words)))
    plain = falconet.evaluate("m.onnx", data, images="in", intervals=False).as_dict()
    check("eval", json.loads(json.dumps(plain)))


def test_eval_where_nothing_decides_a_figure(data: Path) -> None:
    content = json.loads(data.read_text())
    content["annotations"] = []
    data.write_text(json.dumps(content))
    check("eval", json.loads(run("eval", "m.onnx", "--data", str(data), "--images", "in", "--json")))


def test_a_schema_refuses_another_key_and_a_missing_one(data: Path) -> None:
    told = json.loads(run("eval", "m.onnx", "--data", str(data), "--images", "in", "--json"))
    with pytest.raises(AssertionError):
        check("eval", told | {"another": 1})
    with pytest.raises(AssertionError):
        check("eval", {name: value for name, value in told.items() if name != "AP50"})


def test_comparison(data: Path) -> None:
    tiny_model.write(Path("n.onnx"))
    words = ("--data", str(data), "--images", "in", "--json", "--operating-point", "false-alarms=500/1000")
    check("comparison", json.loads(run("eval", "m.onnx", "n.onnx", *words)))


def test_calibration(data: Path) -> None:
    check("calibration", json.loads(run("calibrate", "m.onnx", "--data", str(data), "--images", "in", "--json")))


def test_data_check(data: Path) -> None:
    content = json.loads(data.read_text())
    content["annotations"] += [
        {**content["annotations"][0], "id": 900},
        {**content["annotations"][1], "id": 901, "bbox": [5, 5, 0, 10]},
        {**content["annotations"][1], "id": 902, "image_id": 12345},
    ]
    data.write_text(json.dumps(content))
    words = ("--images", "in", "--json")
    told = json.loads(run("data", "check", str(data), *words))
    assert told["problems"]
    check("data-check", told)
    fixed = json.loads(run("data", "check", str(data), *words, "--fix", "repaired"))
    assert fixed["fix"]["repaired"]
    check("data-check", fixed)


def test_repeat() -> None:
    figures = (Figure("AP", (0.4, 0.5), Interval(0.3, 0.6)), Figure("APl", (-1.0, -1.0), None))
    done = Repeated(Path("r"), (0, 1), (Path("r/seed-0"), Path("r/seed-1")), figures, 7)
    check("repeat", json.loads(json.dumps({"run": {}, **done.as_dict()})))


def test_suspects() -> None:
    box = (1.0, 2.0, 30.0, 40.0)
    own = {"image": 0, "index": 0, "label": 1, "box": box}
    record = Record(1, Path("a.jpg"), 90, 90, np.array([box]), [1], [False], source="a.json (image 1)", box_keys=(7,))
    held = HeldOut((record,), (Detections(np.zeros((0, 4)), [], []),), (0.4, -1.0), ("a.jpg: is truncated",))
    suspects = (
        Suspect("missing", 0.9, 0, suggested_label=0, suggested_box=box, confidence=0.8),
        Suspect("nothing there", 0.7, **own),
        Suspect("wrong class", 0.6, **own, suggested_label=0, confidence=0.5),
        Suspect("bad outline", 0.5, **own, suggested_label=1, suggested_box=box, confidence=0.5, overlap=0.4),
    )
    done = Suspects(Path("doubts"), "run.yaml", ("cat", "dog"), held, suspects, 2, ("said",))
    told = json.loads(json.dumps(done.as_dict()))
    check("suspects", told)
    with pytest.raises(AssertionError):
        check("suspects", {**told, "suspects": [told["suspects"][0] | {"kind": "doubtful"}]})


def test_curve() -> None:
    done = made({"ant": [0.3, 0.4, 0.5, 0.55], "bee": [0.5, 0.52, 0.53, 0.54]})
    told = json.loads(json.dumps(done.as_dict()))
    check("curve", told)
    plan = {"pictures": [25, 50, 100, 200], "steps": 100, "draws": 1}
    training = {"folder": "x", "seed": 0, "pictures": 25, "AP": 0.3, "per_class": {"ant": None}, "seconds": 3.5}
    check("curve", {**told, "run": {}, "plan": plan, "trainings": [training]})
    with pytest.raises(AssertionError):
        check("curve", {**told, "run": {}})


def test_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from falconet.core.types import Classification
    from falconet.data.folders import open_image_folder
    from falconet.eval.classification import ClassificationResults, match_all

    monkeypatch.chdir(tmp_path)
    for number in range(4):
        tiny_model.save(tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    truth, _ = open_image_folder(tmp_path / "set")
    matched = match_all(truth.names, truth.names, data="set", model="m")
    answers = [matched.apply(Classification(np.array([0.7, 0.3]), truth.names)) for _ in truth.records]
    told = ClassificationResults.of(matched, truth.records, answers, intervals=True).as_dict()
    others = {"model": "m.onnx", "data": "set", "milliseconds": 1.0, "busy_cpus": 0.0, "notes": []}
    check("eval", json.loads(json.dumps({**told, **others})))


def test_bench() -> None:
    soak = {"seconds": 60.0, "calls": 9, "parts": [{"calls": 9, "p50_ms": 1.5, "rss_mb": None}]}
    told = {"model": "m.onnx", "path": Path("m.onnx"), "version": "1.2", "precision": "float32", "threads": 1}
    known = {"streams": 2, "start": 0.5, "latency": Latency(1, 2, 3, 4, 1.5, 100), "metrics": {"AP": 0.4}}
    own = Row(**told, **known, engine="onnxruntime", foreign=False, per_second=20.0, peak_mb=90.0, soak=soak)
    other = Row(**told, **known, engine="openvino", foreign=True, per_second=None, peak_mb=None, peak_share=0.4)
    document = json.loads(json.dumps(Bench((own, other), {"processor": "some"}, 0.1).as_dict()))
    check("bench", document)
    with pytest.raises(AssertionError):
        check("bench", {**document, "rows": [document["rows"][0] | {"cold": 1.0}]})


@pytest.mark.usefixtures("data")
def test_tune() -> None:
    told = json.loads(run("tune", "m.onnx", "--calls", "5", "--json"))
    check("bench", told)
    assert told["taken"]["path"].endswith("m.onnx")


def test_quantize() -> None:
    sides = (Side("onnxruntime", False, "float32", 0.4, 9.0), Side("onnxruntime", True, "float32", 0.399, 5.0))
    done = Quantized(Path("m.int8.onnx"), Path("m.onnx"), "AP", ("conv",), 50, 60, sides, 0.005, {"cores": "2"})
    check("quantize", json.loads(json.dumps(done.as_dict())))


def test_prune() -> None:
    rows = PrunedRow("runs/a", {"AP": 0.4}, 9.0, 1000), PrunedRow("runs/a-pruned", {}, 5.0, 500)
    check("prune", json.loads(json.dumps(Pruned(Path("runs/a-pruned"), 0.5, *rows, "onnxruntime", 1).as_dict())))


def test_receipt(tmp_path: Path) -> None:
    (tmp_path / "m.param").write_text("graph")
    (tmp_path / "m.bin").write_bytes(b"weights")
    (tmp_path / "m.falconet.json").write_text("{}")
    receipt = Receipt(
        **describe_file(tmp_path / "m.param", tmp_path / "w.safetensors", None),
        task="detect",
        images=3,
        findings=(Finding(key="boxes", text="all", value=1.0, least=0.9),),
        torch=Compared(name="torch", version="2", milliseconds=9.0, threads=1, metrics={"AP": 0.4}),
        exported=Compared(name="ncnn", version="1", milliseconds=5.0, threads=1, metrics={"AP": 0.4}),
    )
    document = json.loads(receipt.model_dump_json())
    check("receipt", document)
    assert [one["name"] for one in document["files"]] == ["m.param", "m.bin", "m.falconet.json"]
    assert document["files"][1]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert "m.bin: 0.00 MB, sha256 " in receipt.text()
