"""Selection inside of an exported file: the same boxes as ours, for whoever has no NMS of their own."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import falconet
from falconet.core.errors import ConfigError, ModelError
from falconet.core.manifest import Selection
from falconet.exporting.nms import OUTPUT, add_selection, check_selection
from falconet.exporting.onnx import export_onnx
from falconet.models import CLASSIFIERS, build
from falconet.models.weights import ModelCard, save_weights
from falconet.runtime.engines import ENGINES, Use
from tests.exporting.models import write_weights


@pytest.fixture(scope="module")
def selecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nms")
    weights = write_weights(folder / "small.safetensors", channels="rgb")
    return export_onnx(weights, folder / "small.onnx", nms=True, score=0.1)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(score_threshold=0.2, iou_threshold=0.6),
        Selection(score_threshold=0.0, iou_threshold=0.3, max_detections=7),
        Selection(score_threshold=0.0, iou_threshold=0.9, max_candidates=5),
        Selection(score_threshold=0.0, iou_threshold=1.0, max_candidates=100_000, max_detections=100_000),
        Selection(score_threshold=0.98),
    ],
)
def test_the_file_selects_as_we_do(tmp_path: Path, selection: Selection) -> None:
    """On random boxes, which overlap and compete."""
    random = np.random.default_rng(0)
    points, classes = 60, 4
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Identity", ["b"], ["boxes"]),
            onnx.helper.make_node("Identity", ["s"], ["scores"]),
            onnx.helper.make_node("Identity", ["pixels"], ["same"]),
        ],
        "random",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, [1, 2, 2, 3])],
        [
            onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, [1, points, 4]),
            onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, points, classes]),
        ],
        [
            onnx.numpy_helper.from_array(boxes_of(random, points)[None], "b"),
            onnx.numpy_helper.from_array(random.random((1, points, classes), np.float32), "s"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    add_selection(model, selection)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "random.onnx"
    onnx.save(model, path)
    count = check_selection(path, selection, [np.zeros((2, 2, 3), np.uint8)])
    assert 0 < count <= min(selection.max_detections, selection.max_candidates)


def boxes_of(random: np.random.Generator, count: int) -> np.ndarray:
    corners = random.random((count, 2), np.float32) * 60
    return np.concatenate([corners, corners + 5 + 40 * random.random((count, 2), np.float32)], axis=1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_our_runtime_takes_boxes_and_scores_as_ever(selecting: Path, engine: str, pixels: np.ndarray) -> None:
    pytest.importorskip(engine)
    opened = ENGINES[engine].open(selecting, Use())
    assert opened.manifest.selection.score_threshold == 0.1
    assert sorted(opened(pixels[:1])) == ["boxes", "scores"]
    assert falconet.load(selecting, engine=engine, score=0.9).predict(pixels[0]) is not None


def test_the_output_is_described(selecting: Path, pixels: np.ndarray) -> None:
    outputs = {one.name: one for one in onnx.load(selecting).graph.output}
    assert list(outputs) == ["boxes", "scores", OUTPUT]
    assert [side.dim_param or side.dim_value for side in outputs[OUTPUT].type.tensor_type.shape.dim] == ["N", 6]
    assert check_selection(selecting, falconet.load(selecting).manifest.selection, pixels) > 0


def test_a_difference_is_not_let_through(selecting: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ModelError, match="the selection inside of the file finds"):
        check_selection(selecting, Selection(score_threshold=0.12), pixels)


def test_nms_is_for_detectors_of_one_picture(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "small.safetensors", channels="rgb")
    with pytest.raises(ConfigError, match="one picture per run: leave --static-batch out"):
        export_onnx(weights, tmp_path / "x.onnx", nms=True, batch=2)
    assert not (tmp_path / "x.onnx").exists()


def test_a_classifier_selects_nothing(tmp_path: Path) -> None:
    config = CLASSIFIERS["shufflenet-v2-0.5"]
    card = ModelCard(model=config, classes=("a", "b"))
    save_weights(tmp_path / "c.safetensors", build(config, 2), card)
    with pytest.raises(ConfigError, match="--nms: expected a detector"):
        export_onnx(tmp_path / "c.safetensors", tmp_path / "c.onnx", nms=True)
