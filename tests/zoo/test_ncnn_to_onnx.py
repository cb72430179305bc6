"""The published ncnn pair as ONNX: raw numbers against ncnn itself, average precision, messages."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from falconet.core.manifest import Preprocess
from falconet.zoo.ncnn_files import read_ncnn
from falconet.zoo.ncnn_to_onnx import find_head
from falconet.zoo.onnx_graph import IR_VERSION, OPSET, GraphWriter
from tests.zoo.shared import COCO_MINI, GRAPH, WEIGHTS, need


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
