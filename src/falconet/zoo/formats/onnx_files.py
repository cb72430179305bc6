"""The convolutions of a foreign ONNX model, in the order in which they are computed. Needs `onnx`, not torch."""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from onnx import numpy_helper

from falconet.core.errors import ModelError
from falconet.core.types import Floats
from falconet.zoo.formats.ncnn_files import Layer


def read_convolutions(path: Path) -> list[Layer]:
    """The convolutions of an ONNX file as layers with weights; see `parse_convolutions`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return parse_convolutions(data, str(path))


def parse_convolutions(data: bytes, name: str) -> list[Layer]:
    """The convolutions in the bytes of an ONNX model, in the order of its nodes.

    Layers have kind "Convolution", weights "weight" [outputs, inputs / groups, rows, columns] and, where there
    is one, "bias". Batch norms must have been folded in, as torch's export does in eval mode.

    Raises:
        ModelError: no ONNX model, weights outside of the file, not float32, or not as large as they say.
    """
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{name}: is not an ONNX model, or is damaged") from error
    if not model.graph.node:
        raise ModelError(f"{name}: is not an ONNX model: it has no nodes")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and node.output and value is not None:
            constants[node.output[0]] = value
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ModelError(f"{name}: has batch norms of their own; export it in eval mode, or import the checkpoint")
    return [_layer(node, constants, name) for node in model.graph.node if node.op_type == "Conv"]


def _layer(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], name: str) -> Layer:
    if len(node.input) not in (2, 3) or len(node.output) != 1:
        raise ModelError(f"{name}: convolution {node.name[:60]!a} has {len(node.input)} inputs; expected 2 or 3")
    weights = {}
    for key, source, rank in zip(("weight", "bias"), node.input[1:], (4, 1), strict=False):
        if source not in constants:
            raise ModelError(f"{name}: convolution {node.name[:60]!a} has weights that are no constant (quantised?)")
        weights[key] = _values(constants[source], rank, f"{name}: {source[:60]!a}")
    return Layer("Convolution", node.name[:60], tuple(node.input[:1]), tuple(node.output), {}, weights)


def _values(tensor: onnx.TensorProto, rank: int, where: str) -> Floats:
    """[..] the content of a tensor, whose size is checked before anything is made of it."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"{where}: lies outside of the file; expected a model in one file")
    if tensor.data_type != onnx.TensorProto.FLOAT:
        raise ModelError(f"{where}: is not in single precision")
    shape = [int(side) for side in tensor.dims]
    count = len(tensor.raw_data) // 4 or len(tensor.float_data)
    expected = 1
    for side in shape:
        expected *= side
    if len(shape) != rank or min(shape, default=0) < 1 or expected != count or len(tensor.raw_data) % 4:
        raise ModelError(f"{where}: of shape {shape} holds {count} numbers; the file is damaged")
    return np.asarray(numpy_helper.to_array(tensor), np.float32)
