"""Make an exported graph fast in ONNX Runtime. Every rewrite keeps the function the graph computes.

What they repair was seen in profiles of one thread: pieces of PyTorch's style that ONNX Runtime has no fast kernel for,
and channel counts its blocked layout (NCHWc) does not take.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 16
"""Channels per block of ONNX Runtime's layout on processors with AVX-512; 8 on others, which divides it."""

_KEEPS_ZERO = {"LeakyRelu", "Relu", "HardSwish", "MaxPool", "AveragePool"}
"""Operators that treat channels apart and leave a channel of zeros at zero."""


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the same function whose graph ONNX Runtime runs faster; `model` stays as it is."""
    graph = Graph(onnx.shape_inference.infer_shapes(model))
    for step in (weighted_sums, resize_by_scale, pad_channels):
        step(graph)
    return graph.model()


class Graph:
    """An ONNX graph with its constants at hand, open to small changes.

    Attributes:
        nodes: in an order in which every value is made before it is used.
        constants: by name.
        shapes: by name: sizes, None where unknown or free.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.constants = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self.shapes = {value.name: _shape(value) for value in values}
        self.outputs = {value.name for value in model.graph.output}
        self._names = 0

    def model(self) -> onnx.ModelProto:
        """The model as it is now, without what nothing uses any more."""
        self._drop_unused()
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input} | self.outputs
        result.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, order="C"), name)  # a scalar stays one
            for name, value in self.constants.items()
            if name in used
        )
        return result

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that use a value."""
        return [node for node in self.nodes if name in node.input]

    def constant(self, value: NDArray[np.generic]) -> str:
        """The name of a new constant."""
        self._names += 1
        name = f"rewritten_{self._names}"
        self.constants[name] = value
        return name

    def replace(self, node: onnx.NodeProto, by: Sequence[onnx.NodeProto]) -> None:
        """Put other nodes in the place of one."""
        place = next(index for index, one in enumerate(self.nodes) if one is node)
        self.nodes[place : place + 1] = by

    def new(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> onnx.NodeProto:
        """A node of one output, which gets a name of its own unless one is given."""
        if not output:
            self._names += 1
            output = f"rewritten_{self._names}"
        return helper.make_node(operator, list(inputs), [output], name=f"node_{output}", **attributes)

    def _drop_unused(self) -> None:
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def weighted_sums(graph: Graph) -> None:
    """Values times fixed weights, added up along the last axis: a matrix product. Mul, ReduceSum becomes MatMul."""
    for node in list(graph.nodes):
        times = graph.producer(node.input[0]) if node.op_type == "ReduceSum" and len(node.input) == 2 else None
        if times is None or times.op_type != "Mul" or attribute(node, "keepdims", 1) != 0:
            continue
        values, weights = times.input[0], graph.constants.get(times.input[1])
        shape = graph.shapes.get(values)
        axes = graph.constants.get(node.input[1], np.zeros(0)).ravel().tolist()
        if weights is None or weights.ndim != 1 or not shape or shape[-1] != len(weights):
            continue
        if axes in ([-1], [len(shape) - 1]):
            # A matrix of one column: a vector would be multiplied row by row.
            product = graph.new("MatMul", [values, graph.constant(weights[:, None])])
            last = graph.constant(np.array([-1], np.int64))
            graph.replace(node, [product, graph.new("Squeeze", [product.output[0], last], node.output[0])])


def resize_by_scale(graph: Graph) -> None:
    """Enlargement to a fixed size that is a whole multiple: say the multiple, which the blocked layout understands."""
    for node in list(graph.nodes):
        if node.op_type != "Resize" or len(node.input) < 4:
            continue
        before, after = graph.shapes.get(node.input[0]), graph.shapes.get(node.output[0])
        if before is None or after is None or len(before) != 4 or None in (*before[1:], *after[1:]):
            continue
        scales = [after[axis] / before[axis] for axis in (2, 3)]  # type: ignore[operator]  # no None left
        if not all(scale >= 1 and scale.is_integer() for scale in scales):
            continue
        rules = _resize_rules(node, after)
        if rules is not None:
            name = graph.constant(np.array([1, 1, *scales], np.float32))
            graph.replace(node, [graph.new("Resize", [node.input[0], "", name], node.output[0], **rules)])


def _resize_rules(node: onnx.NodeProto, after: Sequence[int | None]) -> dict[str, Any] | None:
    """Attributes under which the multiple alone means the same as the sizes; None if there are none known here."""
    rule = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    mode = attribute(node, "mode", b"nearest")
    nearest = attribute(node, "nearest_mode", b"round_prefer_floor")
    if mode == b"nearest" and (rule, nearest) == (b"asymmetric", b"floor"):
        return {"coordinate_transformation_mode": rule, "mode": mode, "nearest_mode": nearest}
    # Both rules differ only where the result has one row or column.
    if rule not in (b"half_pixel", b"pytorch_half_pixel") or min(after[2:]) == 1:  # type: ignore[type-var]
        return None
    rules: dict[str, Any] = {"coordinate_transformation_mode": "half_pixel", "mode": mode}
    return rules | ({"nearest_mode": nearest} if mode == b"nearest" else {})


def pad_channels(graph: Graph) -> None:
    """Give convolutions whose channels are not a multiple of `BLOCK` more channels, of zeros, where nobody sees them.

    Done where a value flows only through operators that treat channels apart into ordinary convolutions, and
    passes at least one such operator: those run only in whole blocks.
    """
    for node in list(graph.nodes):
        if node.op_type != "Conv" or attribute(node, "group", 1) != 1 or node.input[1] not in graph.constants:
            continue
        channels = graph.constants[node.input[1]].shape[0]
        flow = _flow(graph, node, channels) if channels % BLOCK else None
        if flow is None:
            continue
        inner, ends = flow
        extra = -channels % BLOCK
        for conv in (node, *inner):
            if conv.op_type == "Conv":
                _pad_constants(graph, conv, range(1, len(conv.input)), axis=0, extra=extra)
                _set_group(conv, channels, extra)
        for conv in ends:
            _pad_constants(graph, conv, [1], axis=1, extra=extra)


def _flow(
    graph: Graph, source: onnx.NodeProto, channels: int
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]] | None:
    """Operators that `source` feeds, and the convolutions its channels end in; None if somebody else sees them."""
    inner: list[onnx.NodeProto] = []
    ends: list[onnx.NodeProto] = []
    open_values = [source.output[0]]
    while open_values:
        value = open_values.pop()
        users = graph.consumers(value)
        if value in graph.outputs or not users:
            return None
        for user in users:
            if user in ends or user.input[0] != value or value in user.input[1:]:
                return None
            group = attribute(user, "group", 1) if user.op_type == "Conv" else None
            if user.op_type in _KEEPS_ZERO or (group == channels and _is_constant(graph, user)):
                inner.append(user)
                open_values.append(user.output[0])
            elif group == 1 and _is_constant(graph, user):
                ends.append(user)
            else:
                return None
    apart = any(node.op_type in ("Conv", "MaxPool", "AveragePool") for node in inner)
    return (inner, ends) if apart else None


def _is_constant(graph: Graph, conv: onnx.NodeProto) -> bool:
    return all(name in graph.constants for name in conv.input[1:])


def _pad_constants(graph: Graph, node: onnx.NodeProto, positions: Sequence[int], *, axis: int, extra: int) -> None:
    for position in positions:
        value = graph.constants[node.input[position]]
        widths = [(0, extra if one == axis else 0) for one in range(value.ndim)]
        node.input[position] = graph.constant(np.pad(value, widths))


def _set_group(conv: onnx.NodeProto, channels: int, extra: int) -> None:
    for one in conv.attribute:
        if one.name == "group" and one.i == channels and channels > 1:
            one.i = channels + extra


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
