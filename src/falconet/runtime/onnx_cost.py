"""How much arithmetic an ONNX file is, whoever wrote it."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any


def multiply_adds(path: Path, *, size: tuple[int, int] = (0, 0)) -> int | None:
    """Multiply-adds of convolutions and matrix products for one picture; None where that cannot be told.

    Args:
        path: any file; only ONNX files are counted, and only with the package `onnx` at hand.
        size: (height, width) of inputs that leave them open.
    """
    if path.suffix != ".onnx":
        return None
    try:
        import onnx
    except ImportError:  # a device may do without it
        return None
    try:
        model = onnx.load(str(path))
        for entry in model.graph.input:
            _settle(entry, size)
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError, ValueError):
        return None
    shapes = {one.name: _shape(one) for one in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {one.name: list(one.dims) for one in graph.initializer}
    counts = [_count(node, shapes) for node in graph.node]
    return None if any(count is None for count in counts) else sum(filter(None, counts))


def _settle(entry: Any, size: tuple[int, int]) -> None:
    """Give an input that leaves its sizes open one picture, of `size`."""
    sides = list(entry.type.tensor_type.shape.dim)
    wanted = [1, *([3, *size] if len(sides) == 4 else [])]
    for place, side in enumerate(sides):
        if side.HasField("dim_value") and side.dim_value > 0:
            continue
        if place < len(wanted) and wanted[place]:
            side.dim_value = wanted[place]


def _shape(value: Any) -> list[int]:
    """Sizes, 0 where they are not known. The first is the number of pictures: one, unless the file says otherwise."""
    first, *others = [side.dim_value for side in value.type.tensor_type.shape.dim] or [0]
    return [first or 1, *others]


def _count(node: Any, shapes: dict[str, list[int]]) -> int | None:
    """Multiply-adds of one node; None where a shape is not known."""
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        kernel, made = shapes.get(_weights(node), []), shapes.get(node.output[0], [])
        return _product(kernel[1:], made)
    if node.op_type in ("MatMul", "Gemm"):
        left, made = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
        across = any(one.name == "transA" and one.i for one in node.attribute)
        return _product(left[:1] if across else left[-1:], made)
    return 0


def _weights(node: Any) -> str:
    """The input of a convolution that holds its kernels."""
    return str(node.input[3 if node.op_type == "QLinearConv" else 1])


def _product(one: Sequence[int], other: Sequence[int]) -> int | None:
    return None if not one or not other or 0 in (*one, *other) else prod(one) * prod(other)
