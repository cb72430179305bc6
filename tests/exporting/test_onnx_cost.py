"""Arithmetic of ONNX files, against what the network's layers say."""

from math import prod
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from falconet.models.cost import cost
from falconet.models.weights import read_card
from falconet.runtime.onnx_cost import multiply_adds


def test_an_exported_file_has_the_arithmetic_of_its_network(weights: Path, exported: Path) -> None:
    counted, told = multiply_adds(exported), cost(read_card(weights).model, 3).macs
    assert counted is not None
    # Shuffles, channels that are filled up and the decoding are the file's own.
    assert told <= counted < 1.3 * told


def write(path: Path, *nodes: onnx.NodeProto, shape: list[int | str], weights: dict[str, list[int]]) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor(name, TensorProto.FLOAT, dims, [0.0] * prod(dims)) for name, dims in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def test_by_hand(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    flat = helper.make_node("GlobalAveragePool", ["h"], ["p"])
    rows = helper.make_node("Flatten", ["p"], ["f"])
    product = helper.make_node("Gemm", ["f", "m"], ["y"])
    nodes, weights = (conv, flat, rows, product), {"w": [6, 2, 3, 3], "m": [6, 5]}
    path = write(tmp_path / "a.onnx", *nodes, shape=["n", 4, 8, 10], weights=weights)
    assert multiply_adds(path) == 6 * 4 * 5 * 2 * 9 + 6 * 5
    alone = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    path = write(tmp_path / "b.onnx", alone, shape=["n", 4, "h", "w"], weights={"w": [6, 2, 3, 3]})
    assert multiply_adds(path) is None
    assert multiply_adds(path, size=(8, 10)) == 6 * 4 * 5 * 2 * 9


@pytest.mark.parametrize("name", ["m.tflite", "none.onnx"])
def test_what_cannot_be_told(tmp_path: Path, name: str) -> None:
    assert multiply_adds(tmp_path / name) is None
