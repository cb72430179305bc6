"""The published ncnn pair as ONNX: raw numbers against ncnn itself, average precision, messages."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from falconet.api.load import load
from falconet.core.errors import ModelError
from falconet.core.manifest import EVALUATION, Manifest, Preprocess
from falconet.zoo.class_lists import COCO_NAMES
from falconet.zoo.formats.ncnn_files import read_ncnn
from falconet.zoo.nanodet import onnx_graph
from falconet.zoo.nanodet.ncnn_to_onnx import class_names, convert, find_head
from falconet.zoo.nanodet.onnx_graph import IR_VERSION, OPSET, GraphWriter, grid
from tests.zoo import files
from tests.zoo.average_precision import average_precision
from tests.zoo.shared import COCO_MINI, GRAPH, WEIGHTS, need

SIZE = Preprocess(height=64, width=96)


def raw_session(graph: Path, weights: Path, preprocess: Preprocess) -> onnxruntime.InferenceSession:
    """The converted network with its raw outputs "scores" and "code", before places are chosen and decoded."""
    writer = GraphWriter()
    head = find_head(read_ncnn(graph, weights), writer, preprocess)
    shape = ["B", preprocess.height, preprocess.width, 3]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (head.scores, head.code)]
    body = helper.make_graph(writer.nodes, "raw", [pixels], outputs, writer.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_raw_outputs_equal_those_of_ncnn() -> None:
    need(GRAPH, WEIGHTS, COCO_MINI)
    ncnn = pytest.importorskip("ncnn", reason="the ncnn package is needed as the reference: pip install ncnn")
    session = raw_session(GRAPH, WEIGHTS, Preprocess(height=416, width=416))
    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    assert net.load_param(str(GRAPH)) == 0
    assert net.load_model(str(WEIGHTS)) == 0
    worst = 0.0
    for path in sorted((COCO_MINI / "images").iterdir())[:20]:
        pixels = cv2.resize(cv2.imread(str(path)), (416, 416))
        mat = ncnn.Mat.from_pixels(pixels, ncnn.Mat.PixelType.PIXEL_BGR, 416, 416)
        mat.substract_mean_normalize([103.53, 116.28, 123.675], [1 / 57.375, 1 / 57.12, 1 / 58.395])
        extractor = net.create_extractor()
        extractor.input("data", mat)
        reference = np.array(extractor.extract("output")[1])
        scores, code = session.run(None, {"pixels": pixels[None]})
        for got, expected in ((scores[0], reference[:, :80]), (code[0], reference[:, 80:])):
            assert got.shape == expected.shape
            worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    assert worst < 1e-3


@pytest.mark.slow
def test_reference_average_precision(tmp_path: Path) -> None:
    need(GRAPH, WEIGHTS, COCO_MINI)
    path = tmp_path / "m.onnx"
    onnx.save(convert(GRAPH, WEIGHTS), path)
    metrics = average_precision(load(path, selection=EVALUATION, threads=1))
    # 39.49 and 55.64 by ncnn with the same protocol.
    assert metrics["AP"] == pytest.approx(0.3949, abs=0.001)
    assert metrics["AP50"] == pytest.approx(0.5564, abs=0.001)


def test_the_file_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny(tmp_path, source="somewhere", licence="MIT").SerializeToString())
    predictor = load(path, threads=1)
    manifest = predictor.manifest
    assert (manifest.model, manifest.classes, manifest.source, manifest.licence) == (
        "nanodet",
        ("a", "b", "c"),
        "somewhere",
        "MIT",
    )
    assert manifest.preprocess == SIZE
    assert predictor.engine.batch is None
    found = predictor.predict(np.full((40, 60, 3), 90, np.uint8))
    assert found.names == ("a", "b", "c")


def tiny(
    folder: Path, *, strides: tuple[int, ...] = (8, 16, 32), source: str = "", licence: str = ""
) -> onnx.ModelProto:
    """A tiny network of three classes, converted."""
    graph, weights = folder / "t.param", folder / "t.bin"
    for path, data in zip((graph, weights), files.nanodet_pair(3, strides=strides), strict=True):
        path.write_bytes(data)
    return convert(graph, weights, preprocess=SIZE, classes=["a", "b", "c"], source=source, licence=licence)


@pytest.mark.parametrize(("strides", "offset"), [((8, 16, 32), 0.5), ((8, 16, 32, 64), 0.0)])
def test_boxes_are_those_of_the_raw_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strides: tuple[int, ...], offset: float
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def run(model: onnx.ModelProto) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"pixels": pixels})

    boxes, scores = run(tiny(tmp_path, strides=strides))
    raw = raw_session(tmp_path / "t.param", tmp_path / "t.bin", SIZE)
    all_scores, code = raw.run(None, {"pixels": pixels})
    np.testing.assert_array_equal(scores, all_scores)  # fewer places than the limit: all of them, in order
    points, steps = grid(64, 96, strides, offset=offset)
    bins = np.exp(code.reshape(2, -1, 4, 8).astype(np.float64))
    distance = (bins * np.arange(8)).sum(-1) / bins.sum(-1) * steps
    expected = np.concatenate([points - distance[..., :2], points + distance[..., 2:]], axis=-1)
    np.testing.assert_allclose(boxes, expected.clip(0, [96, 64, 96, 64]), atol=1e-3)

    monkeypatch.setattr(onnx_graph, "MAX_POINTS", 20)
    best_boxes, best_scores = run(finished_with(20, tmp_path, strides, offset))
    order = np.argsort(-all_scores.max(-1), axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(best_scores, np.take_along_axis(all_scores, order[..., None], 1))
    np.testing.assert_array_equal(best_boxes, np.take_along_axis(boxes, order[..., None], 1))


def finished_with(count: int, folder: Path, strides: tuple[int, ...], offset: float) -> onnx.ModelProto:
    """The tiny network with only its best `count` places decoded."""
    writer = GraphWriter()
    head = find_head(read_ncnn(folder / "t.param", folder / "t.bin"), writer, SIZE)
    points, steps = grid(64, 96, strides, offset=offset)
    onnx_graph.distribution_boxes(writer, head.scores, head.code, points, steps, bins=8, height=64, width=96)
    manifest = Manifest(model="nanodet", classes=("a", "b", "c"), preprocess=SIZE, falconet_version="0")
    return onnx_graph.finish(writer, manifest, points=count)


def test_places_of_a_grid() -> None:
    points, steps = grid(32, 40, (16, 32), offset=0.5)
    assert points.tolist() == [[8, 8], [24, 8], [40, 8], [8, 24], [24, 24], [40, 24], [16, 16], [48, 16]]
    assert steps.flatten().tolist() == [16] * 6 + [32] * 2


def test_names_of_classes() -> None:
    assert class_names(80, None, "m.param") == COCO_NAMES
    assert class_names(2, ["a", "b"], "m.param") == ("a", "b")
    with pytest.raises(ModelError, match=r"m\.param: has 2 classes, and the file does not name them; pass their names"):
        class_names(2, None, "m.param")
    with pytest.raises(ModelError, match=r"m\.param: has 80 classes, but 1 names were given: a"):
        class_names(80, ["a"], "m.param")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"0=-1 1=35", b"0=-1 1=7"), "is not that of NanoDet|cannot join"),
        ((b"Sigmoid g8 1 1 c8 p8", b"Softmax g8 1 1 c8 p8"), "layer g8: layers of type Softmax are not supported"),
        (
            (b"Permute turn 1 1 all output 0=1", b"Permute turn 1 1 all output 0=0"),
            "turn: permutations of type 0",
        ),
        ((b" 3=2 4=1", b" 3=2 4=-233"), r"layer d2: padding \(-233,"),
        ((b" 9=2 -23310=1,1.000000e-01", b" 9=5"), "layer d2: activations of type 5"),
        ((b"Concat j8 2 1 p8 b8 j8", b"Concat j8 2 1 p8 d4 j8"), r"layer j8: cannot join \[\[3, 8, 12\]"),
        ((b"Slice s8 1 2 o8 c8 b8 -23300=2,3,-233", b"Slice s8 1 2 o8 c8 b8 -23300=2,90,-233"), "layer s8: cannot cut"),
        (
            (b"Split split32 1 1 d32 d32a", b"Split split32 1 2 d32 d32a left"),
            "its outputs are left, output;",
        ),
    ],
)
def test_graphs_that_cannot_be_converted(tmp_path: Path, change: tuple[bytes, bytes], message: str) -> None:
    graph, weights = files.nanodet_pair(3)
    assert change[0] in graph
    (tmp_path / "m.param").write_bytes(graph.replace(*change))
    (tmp_path / "m.bin").write_bytes(weights)
    with pytest.raises(ModelError, match=message) as caught:
        convert(tmp_path / "m.param", tmp_path / "m.bin", preprocess=SIZE, classes=["a", "b", "c"])
    assert str(caught.value).startswith(str(tmp_path / "m.param"))
