"""Layers of ncnn as nodes of ONNX: whatever backbone ncnn's converter wrote comes through, or is refused by name."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from falconet.core.errors import ModelError
from falconet.zoo.formats.ncnn_files import Layer
from falconet.zoo.nanodet.onnx_graph import GraphWriter

REST = -233
"""ncnn's mark for "whatever is left"."""


class Blob(NamedTuple):
    """A value of the graph: its ONNX name and its shape without the batch, (C, H, W) or (rows, columns)."""

    name: str
    shape: tuple[int, ...]


def translate(layers: Sequence[Layer], graph: GraphWriter, pixels: str, *, height: int, width: int) -> dict[str, Blob]:
    """Adds the nodes of all layers; returns every blob by its ncnn name.

    Args:
        pixels: name of the network input [B, 3, height, width].

    Raises:
        ModelError: a layer or one of its options is not supported, or shapes do not fit.
    """
    blobs: dict[str, Blob] = {}
    for layer in layers:
        if layer.kind == "Input":
            made = [Blob(pixels, (3, height, width))]
        elif layer.kind in ("Split", "Noop", "Dropout"):
            made = [blobs[layer.inputs[0]]] * len(layer.outputs) if layer.inputs else []
        elif layer.kind in _LAYERS:
            made = _LAYERS[layer.kind](layer, [blobs[name] for name in layer.inputs], graph)
        else:
            raise _unsupported(layer, f"layers of type {layer.kind}")
        if len(made) != len(layer.outputs):
            raise _unsupported(layer, f"{len(layer.outputs)} outputs")
        for name, blob in zip(layer.outputs, made, strict=True):
            if any(side < 1 for side in blob.shape):
                raise ModelError(f"layer {layer.name}: nothing is left of its input at {height}x{width}")
            blobs[name] = blob
    return blobs


def _unsupported(layer: Layer, what: str) -> ModelError:
    return ModelError(f"layer {layer.name}: {what} are not supported by the import")


def _one(layer: Layer, inputs: list[Blob], *, rank: int | None = None) -> Blob:
    """The only input of a layer, of `rank` sides."""
    if len(inputs) != 1 or (rank is not None and len(inputs[0].shape) != rank):
        raise _unsupported(layer, f"{len(inputs)} inputs of {[list(blob.shape) for blob in inputs]}")
    return inputs[0]


def _activate(layer: Layer, graph: GraphWriter, value: str) -> str:
    kind, options = layer.integer(9), [float(v) for v in layer.numbers(10)]
    if kind == 0:
        return value
    if kind == 1:
        return graph.add("Relu", value)
    if kind == 2 and len(options) == 1:
        return graph.add("LeakyRelu", value, alpha=options[0])
    if kind == 3 and len(options) == 2:
        low, high = (graph.constant(np.array(v, np.float32)) for v in options)
        return graph.add("Clip", value, low, high)
    if kind == 4:
        return graph.add("Sigmoid", value)
    if kind == 6 and len(options) == 2:
        return graph.add("Mul", value, graph.add("HardSigmoid", value, alpha=options[0], beta=options[1]))
    raise _unsupported(layer, f"activations of type {kind} with {len(options)} options")


def _convolution(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs, rank=3)
    weight = layer.weights["weight"]
    groups = layer.integer(7, 1) if layer.kind == "ConvolutionDepthWise" else 1
    dilation, stride, left = layer.integer(2, 1), layer.integer(3, 1), layer.integer(4)
    dilations = (layer.integer(12, dilation), dilation)
    strides = (layer.integer(13, stride), stride)
    top = layer.integer(14, left)
    pads = (top, left, layer.integer(16, top), layer.integer(15, left))
    if min(pads) < 0 or min(dilations + strides) < 1 or layer.parameters.get(18, 0) != 0:
        raise _unsupported(layer, f"padding {pads}, strides {strides}, dilations {dilations}")
    if weight.shape[1] * groups != source.shape[0]:
        raise ModelError(
            f"layer {layer.name}: its weights are for {weight.shape[1] * groups} channels, "
            f"but its input has {source.shape[0]}"
        )
    sides = [
        (source.shape[1 + axis] + pads[axis] + pads[axis + 2] - dilations[axis] * (weight.shape[2 + axis] - 1) - 1)
        // strides[axis]
        + 1
        for axis in (0, 1)
    ]
    names = [source.name, graph.constant(weight)]
    if "bias" in layer.weights:
        names.append(graph.constant(layer.weights["bias"]))
    value = graph.add(
        "Conv",
        *names,
        kernel_shape=list(weight.shape[2:]),
        strides=list(strides),
        dilations=list(dilations),
        pads=list(pads),
        group=groups,
    )
    return [Blob(_activate(layer, graph, value), (weight.shape[0], *sides))]


def _pooling(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs, rank=3)
    average, kernel, stride, pad = (layer.integer(number) for number in (0, 1, 2, 3))
    same = all(layer.integer(number, value) == value for number, value in ((11, kernel), (12, stride), (13, pad)))
    if layer.integer(4) and average:
        return [Blob(graph.add("GlobalAveragePool", source.name), (source.shape[0], 1, 1))]
    if average or layer.integer(4) or kernel < 1 or stride < 1 or pad < 0 or not same or layer.integer(5) not in (0, 1):
        raise _unsupported(layer, "pooling other than square maxima and global means")
    ceil = layer.integer(5) == 0
    rounding = math.ceil if ceil else math.floor
    sides = [rounding((side + 2 * pad - kernel) / stride) + 1 for side in source.shape[1:]]
    value = graph.add(
        "MaxPool", source.name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, ceil_mode=int(ceil)
    )
    return [Blob(value, (source.shape[0], *sides))]


def _axis(layer: Layer, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise _unsupported(layer, f"axis {axis} of {rank} sides")
    return axis % rank


def _concat(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    if not inputs:
        raise _unsupported(layer, "0 inputs")
    axis = _axis(layer, layer.integer(0), len(inputs[0].shape))
    others = {blob.shape[:axis] + blob.shape[axis + 1 :] for blob in inputs}
    if len(others) != 1:
        raise ModelError(f"layer {layer.name}: cannot join {[list(blob.shape) for blob in inputs]} along side {axis}")
    value = graph.add("Concat", *(blob.name for blob in inputs), axis=axis + 1)
    shape = list(inputs[0].shape)
    shape[axis] = sum(blob.shape[axis] for blob in inputs)
    return [Blob(value, tuple(shape))]


def _shuffle(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs, rank=3)
    groups, (channels, height, width) = layer.integer(0, 1), source.shape
    if groups < 1 or channels % groups or layer.integer(1):
        raise _unsupported(layer, f"{groups} groups of {channels} channels, or the reverse shuffle")
    value = graph.add("Reshape", source.name, graph.integers(0, groups, channels // groups, height, width))
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3, 4])
    return [Blob(graph.add("Reshape", value, graph.integers(0, channels, height, width)), source.shape)]


def _part(graph: GraphWriter, source: Blob, axis: int, start: int, end: int) -> Blob:
    limits = (graph.integers(start), graph.integers(end), graph.integers(axis + 1))
    shape = list(source.shape)
    shape[axis] = end - start
    return Blob(graph.add("Slice", source.name, *limits), tuple(shape))


def _crop(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs)
    starts, ends, axes = layer.numbers(9), layer.numbers(10), layer.numbers(11)
    if len(starts) != 1 or len(ends) != 1 or len(axes) != 1:
        raise _unsupported(layer, "crops of more than one side")
    axis = _axis(layer, int(axes[0]), len(source.shape))
    start, end = int(starts[0]), min(int(ends[0]), source.shape[axis])
    if not 0 <= start < end:
        raise _unsupported(layer, f"crops from {start} to {end}")
    return [_part(graph, source, axis, start, end)]


def _slice(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs)
    axis = _axis(layer, layer.integer(1), len(source.shape))
    sizes, made, start = layer.numbers(0), [], 0
    for index, size in enumerate(sizes):
        left = source.shape[axis] - start
        count = left // (len(sizes) - index) if size == REST else int(size)
        if not 0 < count <= left:
            raise ModelError(f"layer {layer.name}: cannot cut {sizes} out of {source.shape[axis]}")
        made.append(_part(graph, source, axis, start, start + count))
        start += count
    return made


def fixed_size(layer: Layer) -> tuple[int, int] | None:
    """(height, width) in cells that an Interp makes whatever its input; None where it has factors."""
    size = (layer.integer(3), layer.integer(4))
    return size if min(size) > 0 else None


def _interpolate(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs, rank=3)
    mode = {1: "nearest", 2: "linear"}.get(layer.integer(0))
    if mode is None or layer.integer(6):
        raise _unsupported(layer, "resizing other than nearest or bilinear by a fixed factor")
    channels, height, width = source.shape
    if fixed := fixed_size(layer):  # counts before the factors
        rows, columns = fixed[0] / height, fixed[1] / width
        if rows != columns or not (rows.is_integer() or (1 / rows).is_integer()):
            raise ModelError(
                f"layer {layer.name}: makes {fixed[0]} x {fixed[1]} cells of {height} x {width}, so the file is made "
                "for another input; give the size it was exported with (--size)"
            )
    else:
        rows, columns = (float(v) for v in (*layer.numbers(1), *layer.numbers(2))) if 1 in layer.parameters else (0, 0)
    if rows <= 0 or columns <= 0:
        raise _unsupported(layer, "resizing other than nearest or bilinear by a fixed factor")
    rounding = {"nearest": {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}}.get(
        mode, {"coordinate_transformation_mode": "half_pixel"}
    )
    value = graph.add("Resize", source.name, "", graph.floats(1, 1, rows, columns), mode=mode, **rounding)
    return [Blob(value, (channels, math.floor(height * rows), math.floor(width * columns)))]


def _binary(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    kind = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div"}.get(layer.integer(0))
    if kind is None or len(inputs) != 2 or layer.integer(1):
        raise _unsupported(layer, f"arithmetic of type {layer.integer(0)} on {len(inputs)} inputs")
    first, second = inputs
    if len(first.shape) != len(second.shape):
        raise _unsupported(layer, f"shapes {list(first.shape)} and {list(second.shape)}")
    pairs = list(zip(first.shape, second.shape, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ModelError(f"layer {layer.name}: shapes {list(first.shape)} and {list(second.shape)} do not fit")
    return [Blob(graph.add(kind, first.name, second.name), tuple(max(pair) for pair in pairs))]


def _reshape(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs)
    columns, rows = layer.integer(0, REST), layer.integer(1, REST)
    total = math.prod(source.shape)
    if rows < 1 or columns != -1 or layer.integer(2, REST) != REST or total % rows:
        raise _unsupported(layer, f"reshaping {list(source.shape)} to {rows} rows of {columns} columns")
    return [Blob(graph.add("Reshape", source.name, graph.integers(0, rows, -1)), (rows, total // rows))]


def _permute(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs, rank=2)
    if layer.integer(0) != 1:
        raise _unsupported(layer, f"permutations of type {layer.integer(0)}")
    return [Blob(graph.add("Transpose", source.name, perm=[0, 2, 1]), source.shape[::-1])]


def _pointwise(kind: str) -> Callable[[Layer, list[Blob], GraphWriter], list[Blob]]:
    def add(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
        source = _one(layer, inputs)
        return [Blob(graph.add(kind, source.name), source.shape)]

    return add


def _relu(layer: Layer, inputs: list[Blob], graph: GraphWriter) -> list[Blob]:
    source = _one(layer, inputs)
    slope = layer.parameters.get(0, 0)
    if isinstance(slope, list):
        raise _unsupported(layer, "several slopes")
    value = graph.add("LeakyRelu", source.name, alpha=float(slope)) if slope else graph.add("Relu", source.name)
    return [Blob(value, source.shape)]


_LAYERS: dict[str, Callable[[Layer, list[Blob], GraphWriter], list[Blob]]] = {
    "BinaryOp": _binary,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "Crop": _crop,
    "Interp": _interpolate,
    "Permute": _permute,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Reshape": _reshape,
    "ShuffleChannel": _shuffle,
    "Sigmoid": _pointwise("Sigmoid"),
    "Slice": _slice,
}
