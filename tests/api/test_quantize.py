"""Exported files in 8-bit integers, and the verdict on them."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import falconet
from falconet.api.quantize import Quantized, quantize
from falconet.api.worth import Side, judge
from falconet.core.coco_json import coco_annotation, coco_categories
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.exporting.onnx import export_onnx
from falconet.exporting.quantize import Agreement, Quantizer, _shared, agreement_with, sensitivity
from falconet.exporting.receipt import exported_from
from falconet.models import CLASSIFIERS, build
from falconet.models.weights import ModelCard, save_weights
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor
from tests.exporting.models import write_weights


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    return export_onnx(write_weights(folder / "w.safetensors"), folder / "small.onnx", score=0.12)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [random.integers(0, 256, (12, 16, 3), np.uint8) for _ in range(24)]
    return [cv2.resize(one, (128, 96), interpolation=cv2.INTER_CUBIC) for one in shapes]


@pytest.fixture(scope="module")
def data(source: Path, pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose truth is what the network in float32 finds."""
    folder, predictor = tmp_path_factory.mktemp("data"), falconet.load(source)
    images, annotations = [], []
    for number, image in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        found = predictor.predict(image)
        for box, label in zip(found.boxes[:5], found.labels[:5], strict=True):
            x1, y1, x2, y2 = map(float, box)
            result = {"image_id": number, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append(coco_annotation(len(annotations) + 1, result))
    truth = {"images": images, "annotations": annotations, "categories": coco_categories(predictor.names)}
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "truth.json"


def quantised(path: Path) -> set[str]:
    """Convolutions whose weights are 8-bit integers."""
    graph = onnx.load(path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return {
        node.name for node in graph.node if node.op_type == "Conv" and makers.get(node.input[1]) == "DequantizeLinear"
    }


def test_convolutions_but_those_kept(source: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    quantizer = Quantizer(source, pictures, scratch=tmp_path)
    every = set(quantizer.convolutions)
    assert len(every) > 50
    whole = quantizer.write(tmp_path / "whole.onnx", [])
    assert quantised(whole) == every
    assert whole.stat().st_size < source.stat().st_size
    kept = quantizer.convolutions[:7]
    assert quantised(quantizer.write(tmp_path / "some.onnx", kept)) == every - set(kept)
    assert not quantised(quantizer.write(tmp_path / "none.onnx", every))
    assert OnnxEngine(whole).manifest == OnnxEngine(source).manifest
    assert [one.key for one in onnx.load(whole).metadata_props] == ["falconet"]
    with pytest.raises(ModelError, match="is quantised already; expected the file it was made of"):
        Quantizer(whole, pictures, scratch=tmp_path)


def test_answers_agree(source: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    predictor = Predictor(OnnxEngine(source))
    agreement = agreement_with(source, [predictor.prepare(one) for one in pictures[:4]])
    quantizer = Quantizer(source, pictures, scratch=tmp_path)
    nothing = quantizer.write(tmp_path / "none.onnx", quantizer.convolutions)
    pixels = pictures[0][None]
    for name, values in OnnxEngine(nothing)(pixels).items():
        np.testing.assert_allclose(values, OnnxEngine(source)(pixels)[name], rtol=1e-4, atol=1e-4)
    assert agreement(nothing) >= agreement(quantizer.write(tmp_path / "all.onnx", []))


def test_what_hurts_most_comes_first(source: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    quantizer = Quantizer(source, pictures[:2], scratch=tmp_path)
    every = quantizer.convolutions
    worst = {every[9]: 0.2, every[3]: 0.5}

    def agreement(path: Path) -> float:
        (alone,) = quantised(path)
        return worst.get(alone, 1.0)

    assert sensitivity(quantizer, agreement, scratch=tmp_path)[:3] == [every[9], every[3], every[0]]


@pytest.mark.slow
def test_a_classifier_agrees_by_its_probabilities(tmp_path: Path) -> None:
    config = CLASSIFIERS["shufflenet-v2-0.5"]
    config = config.model_copy(update={"input": replace(config.input, height=64, width=64)})
    save_weights(tmp_path / "c.safetensors", build(config, 3), ModelCard(model=config, classes=("a", "b", "c")))
    source = export_onnx(tmp_path / "c.safetensors", tmp_path / "c.onnx")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
    predictor = Predictor(OnnxEngine(source))
    agreement = agreement_with(source, [predictor.prepare(one) for one in images])
    assert agreement(source) == pytest.approx(1.0)
    whole = Quantizer(source, images, scratch=tmp_path).write(tmp_path / "q.onnx", [])
    assert 0.9 < agreement(whole) <= 1.000001
    half, quarter = ({"probabilities": np.array([values], np.float32)} for values in ([0.5, 0.5, 0], [0.25, 0.5, 0.25]))
    assert _shared([half, half], [half, quarter]) == pytest.approx((1 + 0.75) / 2)


@pytest.mark.slow
def test_from_file_to_verdict(source: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    done = quantize(source, tmp_path, data=data)
    assert done.path == tmp_path / "small.int8.onnx"
    assert done.pictures == 12
    assert {"float32", "int8"} <= {one.kind for one in done.sides}
    assert all(one.value > 0 and one.milliseconds > 0 for one in done.sides)
    assert quantised(done.path)
    written = json.loads((tmp_path / "small.int8.json").read_text())
    assert written["verdict"] == done.verdict.sentence
    assert f"verdict: {done.verdict.sentence}" in str(done)
    assert falconet.load(done.path).predict(np.zeros((96, 128, 3), np.uint8)) is not None


def test_too_few_pictures_judge_nothing(source: Path, data: Path, tmp_path: Path) -> None:
    few = json.loads(data.read_text())
    few["images"] = few["images"][:19]
    few["annotations"] = [one for one in few["annotations"] if one["image_id"] < 19]
    for image in few["images"]:
        image["file_name"] = str(data.parent / image["file_name"])
    (tmp_path / "few.json").write_text(json.dumps(few))
    with pytest.raises(ConfigError, match="has 19 pictures; expected at least 20 with truth"):
        quantize(source, tmp_path / "out", data=tmp_path / "few.json", images=data.parent)
    assert not (tmp_path / "out").exists()


def side(engine: str, kind: str, value: float, milliseconds: float) -> Side:
    precision = "bfloat16" if kind.endswith("bfloat16") else "float32"
    return Side(engine, kind.startswith("int8"), precision, value, milliseconds)


FULL = (side("onnxruntime", "float32", 0.40, 20.0), side("openvino", "float32", 0.40, 22.0))


def test_take_what_is_faster_and_keeps_its_ap() -> None:
    found = judge([*FULL, side("onnxruntime", "int8", 0.398, 15.0)], 0.005, "AP")
    assert found.take
    assert found.sentence == (
        "take it, with engine onnxruntime: onnxruntime int8 takes 15.00 ms at AP 39.8, "
        "onnxruntime float32 takes 20.00 ms at AP 40.0"
    )
    found = judge([*FULL, side("openvino", "int8 + bfloat16", 0.399, 9.0)], 0.005, "AP")
    assert found.sentence.startswith("take it, with engine openvino and precision bfloat16: openvino int8 + bfloat16")


def test_the_fastest_in_8_bits_is_not_taken_where_it_costs_too_much() -> None:
    sides = [*FULL, side("openvino", "int8", 0.37, 8.0), side("onnxruntime", "int8", 0.399, 15.0)]
    found = judge(sides, 0.005, "AP")
    assert found.take
    assert found.best.engine == "onnxruntime"
    slower = [*FULL, side("openvino", "int8", 0.37, 8.0), side("onnxruntime", "int8", 0.399, 25.0)]
    found = judge(slower, 0.005, "AP")
    assert not found.take
    assert found.sentence == (
        "do not use it on this machine: onnxruntime int8 takes 25.00 ms at AP 39.9, "
        "onnxruntime float32 takes 20.00 ms at AP 40.0"
    )


def test_a_loss_that_is_not_kept_is_told() -> None:
    sides = [*FULL, side("openvino", "int8", 0.37, 8.0), side("onnxruntime", "int8", 0.38, 15.0)]
    found = judge(sides, 0.005, "AP")
    assert not found.take
    assert found.sentence == (
        "do not use it: in no engine does it cost at most 0.5 points of AP; "
        "onnxruntime int8 takes 15.00 ms at AP 38.0, 2.0 points less than in float32"
    )


def test_bfloat16_may_be_the_better_choice() -> None:
    sides = [*FULL, side("openvino", "int8", 0.399, 9.0), side("openvino", "bfloat16", 0.399, 7.0)]
    found = judge(sides, 0.005, "AP")
    assert not found.take
    assert found.other.kind == "bfloat16"
    worse = [*FULL, side("openvino", "int8", 0.399, 9.0), side("openvino", "bfloat16", 0.3, 7.0)]
    assert judge(worse, 0.005, "AP").take


def test_few_pictures_are_told() -> None:
    sides = (FULL[0], side("onnxruntime", "int8", 0.398, 15.0))
    done = Quantized(Path("m.int8.onnx"), Path("m.onnx"), "AP", (), 9, 50, sides, 0.005, {})
    assert "50 pictures are few: a difference of a point may be chance" in str(done)
    assert "are few" not in str(replace(done, pictures=500))


def test_nothing_is_written_where_measuring_is_interrupted(
    source: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hotcoco")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("falconet.exporting.quantize.sensitivity", lambda quantizer, *_, **__: quantizer.convolutions)
    monkeypatch.setattr("falconet.api.bench.bench", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize(source, tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()


def test_the_weights_are_found_behind_the_file_it_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "m.int8.onnx").touch()
    assert exported_from(tmp_path / "m.int8.onnx") is None


def test_an_interrupted_command_goes_on(
    source: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def interrupted(*_: object) -> Agreement:
        def agreement(_: Path) -> float:
            asked.append(1)
            if len(asked) % 4 == 0:
                raise KeyboardInterrupt
            return 0.9

        return agreement

    monkeypatch.setattr("falconet.exporting.quantize.agreement_with", interrupted)
    notes = tmp_path / "small.int8.partial.json"
    for count in (3, 6):
        with pytest.raises(KeyboardInterrupt), caplog.at_level("INFO"):
            quantize(source, tmp_path, data=data, images=data.parent, pictures=2)
        assert len(json.loads(notes.read_text())["hurt"]) == count
    assert "going on with 3 convolutions measured before" in caplog.text
    with pytest.raises(KeyboardInterrupt):  # of other pictures nothing is known
        quantize(source, tmp_path, data=data, images=data.parent, pictures=3)
    assert len(json.loads(notes.read_text())["hurt"]) == 3


def test_what_cannot_be_is_told_before_the_work(source: Path, data: Path, tmp_path: Path) -> None:
    truth = json.loads(data.read_text())
    for one in truth["categories"]:
        one["name"] = f"other {one['name']}"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(truth))
    with pytest.raises(DataError, match="its classes do not fit the model"):
        quantize(source, tmp_path, data=other, images=data.parent)
    for name in ("m.openvino.xml", "m.param", "m.tflite"):
        with pytest.raises(ConfigError, match=f"{name}: is no ONNX file, .* with --to onnx"):
            quantize(tmp_path / name, data=data, images=data.parent)
    assert [one.name for one in tmp_path.iterdir()] == ["other.json"]
