"""The receipt: what is compared, and that a difference does not pass."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from falconet.core.errors import ConfigError, ModelError
from falconet.core.types import Detections
from falconet.eval.classes import match
from falconet.exporting.compare import CompareBoxes, count_matches, raw_differences
from falconet.exporting.receipt import Finding, Receipt, read_receipt, receipt_paths, write_receipt
from falconet.exporting.torch_engine import manifest_of
from falconet.exporting.verify import verify
from falconet.models.weights import read_card
from tests.exporting.models import CLASSES
from tests.runtime import tiny_model


@pytest.fixture(scope="module")
def receipt(weights, exported, records) -> Receipt:
    classes = match(CLASSES, CLASSES, data="data", model="model")
    comparison = CompareBoxes(manifest_of(read_card(weights)), classes, raw_images=2)
    return verify(weights, exported, records, comparison=comparison, name="final.onnx", threads=1)


def found(receipt: Receipt, key: str) -> Finding:
    (finding,) = [one for one in receipt.findings if one.key == key]
    return finding


def test_receipt_of_a_good_export(receipt, exported):
    assert receipt.problems == ()
    assert (receipt.model, receipt.weights) == ("final.onnx", "small.safetensors")
    assert (receipt.task, receipt.images) == ("detect", 4)
    assert found(receipt, "images").text == "3 of 4 have other proportions than the input"
    assert found(receipt, "matched detections").value == 1
    assert 0 <= found(receipt, "box difference").value < 1e-2
    assert "of 2 images before selection" in found(receipt, "box difference").text
    assert 0 <= found(receipt, "score difference").value < 1e-5
    assert receipt.torch.metrics["AP"] == pytest.approx(receipt.exported.metrics["AP"], abs=1e-3)
    assert receipt.torch.metrics["AP50"] > 0
    assert receipt.size == exported.stat().st_size
    assert len(receipt.sha256) == 64
    assert receipt.torch.threads == receipt.exported.threads == 1
    assert receipt.torch.milliseconds > 0


def test_receipt_lies_beside_the_model(receipt, tmp_path):
    paths = write_receipt(receipt, tmp_path / "m.onnx")
    assert paths == receipt_paths(tmp_path / "m.onnx") == (tmp_path / "m.receipt.json", tmp_path / "m.receipt.txt")
    read = read_receipt(paths[0])
    assert read.model_copy(update={"weights_path": receipt.weights_path}) == receipt
    assert (tmp_path / read.weights_path).resolve() == Path(receipt.weights_path).resolve()
    text = paths[1].read_text(encoding="utf-8")
    assert "compared on 4 images\nimages               3 of 4 have other proportions" in text
    assert "verdict              the same within tolerance" in text
    assert json.loads(paths[0].read_text(encoding="utf-8"))["findings"][1]["most"] == 0.1


def test_other_weights_are_a_drift(exported, records, tmp_path):
    from tests.exporting.models import write_weights

    other = write_weights(tmp_path / "other.safetensors", seed=1, channels="rgb")
    problems = verify(other, exported, records, threads=1).problems
    assert any(problem.startswith("boxes differ by") for problem in problems)
    assert any(problem.startswith("only") for problem in problems)


def test_a_small_change_of_the_file_is_a_drift(weights, exported, records, tmp_path):
    model = onnx.load(exported)
    bias = next(entry for entry in model.graph.initializer if entry.name.endswith("head.outputs.0.bias"))
    value = numpy_helper.to_array(bias).copy()
    value[0] += 0.05
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    onnx.save(model, tmp_path / "bent.onnx")
    receipt = verify(weights, tmp_path / "bent.onnx", records, threads=1)
    assert any(problem.startswith("scores differ by 0.0") for problem in receipt.problems)


def test_without_truth_there_is_no_ap(weights, exported, records):
    receipt = verify(weights, exported, records[:1], threads=1)
    assert receipt.torch.metrics == receipt.exported.metrics == {}
    assert "AP  " not in receipt.text()


def test_pictures_that_cannot_be_read_are_left_out(weights, exported, records, tmp_path, caplog):
    from dataclasses import replace

    broken = replace(records[0], path=tmp_path / "broken.jpg")
    broken.path.write_bytes(b"no picture")
    assert verify(weights, exported, [broken, records[1]], threads=1).images == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"left out: {broken.path}")
    with pytest.raises(ModelError, match="compared with torch on images, but there are none"):
        verify(weights, exported, [broken])


BOX = Detections([[0, 0, 100, 100]] * 100, np.linspace(1, 0.5, 100), [0] * 100)


@pytest.mark.parametrize(
    ("changes", "metrics", "expected"),
    [
        ({}, (0.5, 0.5), []),
        ({"_box": 0.2}, (0.5, 0.5), ["boxes differ by 0.2 px, allowed are 0.1"]),
        ({"_score": 0.02}, (0.5, 0.5), ["scores differ by 0.02, allowed are 0.001"]),
        ({"_score": np.nan}, (0.5, 0.5), ["scores differ by nan, allowed are 0.001"]),
        ({"_matched": 98}, (0.5, 0.5), ["only 98 of 100 detections match, expected 99.0%"]),
        ({"_found": ([BOX], [BOX, BOX.above(0.98)])}, (0.5, 0.5), ["only 99 of 104 detections match, expected 99.0%"]),
        ({}, (0.5, 0.49), ["AP changes by -0.0100, allowed are 0.002"]),
        ({}, None, []),
        ({"_found": ([], []), "_matched": 0}, None, []),
    ],
)
def test_each_tolerance(changes, metrics, expected):
    values = {"_box": 0.05, "_score": 1e-4, "_matched": 99, "_found": ([BOX], [BOX])}
    comparison = CompareBoxes(tiny_model.manifest(), **values | changes)
    sides = ({}, {}) if metrics is None else tuple({"AP": value} for value in metrics)
    assert [one.problem for one in comparison.findings(sides) if one.problem] == expected


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_a_receipt_of_another_engine(weights, exported, records, tmp_path):
    receipt = verify(weights, exported, records, engine="openvino", threads=1)
    assert receipt.problems == ()
    assert receipt.exported.name == "openvino"
    paths = write_receipt(receipt, tmp_path / "m.onnx")
    assert [path.name for path in paths] == ["m.openvino.receipt.json", "m.openvino.receipt.txt"]
    with pytest.raises(ConfigError, match="engine 'tensorrt' is not known"):
        verify(weights, exported, records, engine="tensorrt")


def test_not_a_receipt(tmp_path):
    path = tmp_path / "r.json"
    with pytest.raises(ModelError, match=r"r\.json: cannot be read: No such file"):
        read_receipt(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"r\.json: is not a receipt of this version"):
        read_receipt(path)


def test_rows_are_compared_whatever_their_order():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 9, 9]], np.float32)
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.1]], np.float32)
    order = [1, 0]
    assert raw_differences(boxes[order], scores[order], boxes, scores) == (0, 0)
    moved = boxes + np.float32(0.25)
    box, score = raw_differences(moved[order], scores[order] + np.float32(0.001), boxes, scores)
    assert box == pytest.approx(0.25)
    assert score == pytest.approx(0.001, abs=1e-6)


def test_leaving_out_a_better_point_is_a_difference():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    scores = np.array([[0.9], [0.5]], np.float32)
    assert raw_differences(boxes[1:], scores[1:], boxes, scores) == (0, pytest.approx(0.4))


def test_nan_is_a_difference():
    boxes, scores = np.zeros((1, 4), np.float32), np.full((1, 1), np.nan, np.float32)
    assert raw_differences(boxes, scores, boxes, scores) == (np.inf, np.inf)


def test_each_detection_has_one_partner():
    box = [0, 0, 100, 100]
    one = Detections([box, box, box], [0.9, 0.8, 0.7], [0, 0, 1])
    assert count_matches(one, one) == 3
    assert count_matches(one, Detections([box], [0.9], [0])) == 1
    assert count_matches(one, Detections([box], [0.9], [2])) == 0
    assert count_matches(one, Detections([[0, 0, 100, 98]], [0.9], [0])) == 0
    assert count_matches(one, Detections([], [], [])) == 0
    assert count_matches(Detections([], [], []), one) == 0
