"""The exported file: same answers as torch, describes itself, one file, any batch."""

import logging

import numpy as np
import onnx
import pytest

import falconet
from falconet.core.errors import DataError, ModelError
from falconet.core.manifest import MANIFEST_KEY, Selection, read_manifest
from falconet.exporting import onnx as exporter
from falconet.exporting.compare import raw_differences
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine
from falconet.runtime.onnx_engine import OnnxEngine
from tests.exporting.models import CLASSES, write_weights


def test_runtime_and_torch_agree_for_any_batch(weights, exported, pixels):
    engine, everything = OnnxEngine(exported), TorchEngine(weights, max_points=ALL_POINTS)
    all_boxes, all_scores = everything(pixels).values()
    for batch in (pixels, pixels[:1]):
        boxes, scores = engine(batch).values()
        assert scores.shape == (len(batch), boxes.shape[1], 3)
        assert 0.05 < scores.max() < 1
        for index in range(len(batch)):
            box, score = raw_differences(boxes[index], scores[index], all_boxes[index], all_scores[index])
            assert box < 1e-3
            assert score < 1e-5


def test_boxes_stay_in_the_input(exported, pixels):
    boxes = OnnxEngine(exported)(pixels)["boxes"]
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= 128
    assert boxes[..., 1::2].max() <= 96


def test_manifest_is_inside(exported):
    manifest = OnnxEngine(exported).manifest
    assert manifest.model == "nanodet-plus"
    assert manifest.classes == CLASSES
    assert (manifest.preprocess.height, manifest.preprocess.width, manifest.preprocess.channels) == (96, 128, "rgb")
    assert manifest.selection == Selection(score_threshold=0.4)
    assert (manifest.source, manifest.licence) == ("drawn at random", "CC0-1.0")
    assert manifest.falconet_version == falconet.__version__


def test_file_is_one_valid_model_and_tells_nothing_of_its_maker(exported):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert list(exported.parent.iterdir()) == [exported]
    assert [entry.name for entry in model.graph.input] == ["pixels"]
    assert [entry.name for entry in model.graph.output] == ["boxes", "scores"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert list(properties) == [MANIFEST_KEY]
    read_manifest(properties[MANIFEST_KEY], "file")
    content = exported.read_bytes()
    for trace in (b"site-packages", b".py", b"/home", b"/root", b"torch.nn"):
        assert trace not in content


def test_graph_has_no_training_leftovers(exported):
    operators = {node.op_type for node in onnx.load(exported).graph.node}
    assert not operators & {"BatchNormalization", "Dropout", "Identity", "GatherElements", "If", "Loop"}
    assert {entry.domain for entry in onnx.load(exported).opset_import} == {""}


def test_fixed_batch_and_a_quiet_exporter(weights, tmp_path, pixels, capfd, caplog):
    caplog.set_level(logging.INFO)
    level = logging.getLogger("torch.onnx").level
    path = exporter.export_onnx(weights, tmp_path / "fixed.onnx", batch=2)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert logging.getLogger("torch.onnx").level == level
    engine = OnnxEngine(path)
    assert engine.batch == 2
    boxes, scores = engine(pixels).values()  # three pictures: the runtime fills the second run up
    free_boxes, free_scores = TorchEngine(weights)(pixels).values()
    np.testing.assert_allclose(np.sort(scores.max(-1)), np.sort(free_scores.max(-1)), atol=1e-5)
    assert boxes.shape == free_boxes.shape


def test_errors_are_for_people(weights, tmp_path):
    out = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match=r"opset 9 cannot be exported; expected 18\.\.\d+, as in --opset 18"):
        exporter.export_onnx(weights, out, opset=9)
    with pytest.raises(ModelError, match="the batch size of an exported model must be 1 or more, but got 0"):
        exporter.export_onnx(weights, out, batch=0)
    with pytest.raises(ModelError, match="does not exist; expected a weights file"):
        exporter.export_onnx(tmp_path / "none.safetensors", out)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_the_file_cannot_be_written(weights, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "trace", lambda *_args, **_kwargs: onnx.load(exported))
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(DataError, match=r"file.m\.onnx: cannot be written"):
        exporter.export_onnx(weights, blocker / "m.onnx")


def test_torch_engine_has_the_manifest_of_the_file(weights, exported):
    assert TorchEngine(weights).manifest == OnnxEngine(exported).manifest


def test_best_points_are_those_of_all(tmp_path, pixels):
    path = write_weights(tmp_path / "w.safetensors", classes=("only",))
    few, every = TorchEngine(path, max_points=50), TorchEngine(path, max_points=ALL_POINTS)
    assert every(pixels)["scores"].shape == (3, 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2, 1)
    scores, all_scores = few(pixels)["scores"][..., 0], every(pixels)["scores"][..., 0]
    np.testing.assert_allclose(np.sort(scores), np.sort(all_scores)[:, -50:], atol=1e-6)
