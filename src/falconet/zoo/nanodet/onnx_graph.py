"""A small way to write ONNX graphs by hand, and the two ends every converted detector gets. Needs `onnx`, not torch.

The ends make a converted file the same as one of 'falconet export': uint8 pixels in, clipped boxes and scores
of the best points out, the manifest inside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from falconet.core.manifest import MANIFEST_KEY, Manifest, Preprocess
from falconet.core.types import Floats

OPSET = 17
IR_VERSION = 9
MAX_POINTS = 1000


class GraphWriter:
    """Nodes in the order they are added; every value gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def constant(self, value: NDArray[Any]) -> str:
        """The name of a constant."""
        name = f"c{self._count}"
        self._count += 1
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def floats(self, *values: float) -> str:
        """The name of a constant vector of single-precision numbers."""
        return self.constant(np.array(values, np.float32))

    def integers(self, *values: int) -> str:
        """The name of a constant vector of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns its name; `attributes` are those of the ONNX operator."""
        return self.add_many(kind, inputs, 1, **attributes)[0]

    def add_many(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs and returns their names."""
        names = [f"v{self._count + index}" for index in range(outputs)]
        self._count += outputs
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def rename(self, value: str, name: str) -> None:
        """Gives the output `value` a name for the outside."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))


def normalised_pixels(graph: GraphWriter, preprocess: Preprocess) -> str:
    """Network input [B, 3, H, W] of the graph input "pixels", uint8 [B, H, W, 3]."""
    scale = 1 / np.array(preprocess.std, np.float32)
    shift = -np.array(preprocess.mean, np.float32) * scale
    values = graph.add("Cast", "pixels", to=TensorProto.FLOAT)
    values = graph.add("Mul", values, graph.constant(scale))
    values = graph.add("Add", values, graph.constant(shift))
    values = graph.add("Transpose", values, perm=[0, 3, 1, 2])
    if preprocess.channels == "rgb":
        values = graph.add("Gather", values, graph.integers(2, 1, 0), axis=1)
    return values


def grid(height: int, width: int, strides: Sequence[int], *, offset: float) -> tuple[Floats, Floats]:
    """Points [P, 2] (x, y) in input pixels and strides [P, 1] of all levels; see `falconet.models.priors`."""
    points, steps = [], []
    for stride in strides:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.mgrid[:rows, :columns].astype(np.float32)
        points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + offset) * stride)
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(steps).astype(np.float32)


def distribution_boxes(
    graph: GraphWriter,
    scores: str,
    code: str,
    points: Floats,
    strides: Floats,
    *,
    bins: int,
    height: int,
    width: int,
) -> None:
    """Adds the graph outputs "boxes" [B, N, 4] and "scores" [B, N, C] of the best `MAX_POINTS` points.

    Args:
        scores: [B, P, C] 0..1.
        code: [B, P, 4 * bins] logits of the distances left, top, right, bottom in strides.
        points, strides: [P, 2] and [P, 1] of `grid`.
        height, width: boxes are clipped to this, in pixels.
    """
    corners = np.concatenate([points, points], axis=1)
    reach = strides * np.array([[-1, -1, 1, 1]], np.float32)
    base, steps = graph.constant(corners), graph.constant(reach)
    if len(points) > MAX_POINTS:
        ranking = graph.add("ReduceMax", scores, axes=[2], keepdims=0)
        _, best = graph.add_many("TopK", [ranking, graph.integers(MAX_POINTS)], 2, axis=1)
        column = graph.add("Unsqueeze", best, graph.integers(2))
        scores = graph.add("GatherND", scores, column, batch_dims=1)
        code = graph.add("GatherND", code, column, batch_dims=1)
        base, steps = graph.add("Gather", base, best), graph.add("Gather", steps, best)
    code = graph.add("Reshape", code, graph.integers(0, 0, 4, bins))
    share = graph.add("Softmax", code, axis=-1)
    # A column and no vector, which OpenCV's dnn cannot multiply by.
    distance = graph.add("MatMul", share, graph.constant(np.arange(bins, dtype=np.float32)[:, None]))
    distance = graph.add("Reshape", distance, graph.integers(0, 0, 4))
    boxes = graph.add("Add", base, graph.add("Mul", distance, steps))
    boxes = graph.add("Max", boxes, graph.floats(0))
    boxes = graph.add("Min", boxes, graph.floats(width, height, width, height))
    graph.rename(boxes, "boxes")
    graph.rename(scores, "scores")


def finish(graph: GraphWriter, manifest: Manifest, *, points: int) -> onnx.ModelProto:
    """The checked model with its manifest; `points` is N, the number of boxes per picture."""
    size = manifest.preprocess
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", size.height, size.width, 3])
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", points, 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", points, len(manifest.classes)])
    body = helper.make_graph(graph.nodes, manifest.model, [pixels], [boxes, scores], graph.constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], producer_name="falconet", ir_version=IR_VERSION)
    model.producer_version = manifest.falconet_version
    helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model
