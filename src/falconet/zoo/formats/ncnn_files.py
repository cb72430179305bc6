"""ncnn's model pair: the text graph `.param` and the weights `.bin`, as a list of layers. NumPy only.

Format: github.com/Tencent/ncnn, docs/developer-guide/param-and-model-file-structure.md. Numbers stored in
half or single precision are read; int8 and table-quantised weights are refused by name. Every length in the
files is checked against what is there before anything is made from it.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.core.types import Floats

MAGIC = 7767517
_MAX_GRAPH = 16 * 2**20
_FLAGS = {0x01306B47: "half", 0: "single", 0x0002C056: "single", 0x000D4B38: "int8"}

Number = int | float
Parameter = Number | list[Number]


@dataclass(frozen=True)
class Layer:
    """One line of the graph with its weights.

    Attributes:
        kind: ncnn's layer type, such as "Convolution".
        name: unique in practice, not checked.
        inputs, outputs: names of blobs.
        parameters: ncnn's numbered parameters; lists under their positive number.
        weights: float32 arrays in the order of the file.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, Parameter]
    weights: dict[str, Floats] = field(default_factory=dict)

    def integer(self, number: int, default: int = 0) -> int:
        """Parameter `number` as a whole number.

        Raises:
            ModelError: it is something else.
        """
        value = self.parameters.get(number, default)
        if not isinstance(value, int):
            raise ModelError(f"layer {self.name}: parameter {number} should be a whole number, but is {value}")
        return value

    def numbers(self, number: int) -> list[Number]:
        """List parameter `number`; empty where absent."""
        value = self.parameters.get(number, [])
        return value if isinstance(value, list) else [value]


def read_ncnn(graph: Path, weights: Path) -> list[Layer]:
    """The layers of an ncnn pair, with weights.

    Raises:
        ModelError: a file is unreadable, damaged, truncated, of a kind that is not supported, or the two do
            not belong together.
    """
    try:
        if graph.stat().st_size > _MAX_GRAPH:
            raise ModelError(f"{graph}: is larger than {_MAX_GRAPH // 2**20} MB; that is no ncnn graph")
        text = graph.read_bytes()
        data = weights.read_bytes()
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return parse_weights(parse_graph(text, str(graph)), data, str(weights))


def parse_graph(text: bytes, name: str) -> list[Layer]:
    """The layers in the text of a `.param` file, without weights. Raises ModelError with the line."""
    try:
        lines = [line.split() for line in text.decode("ascii").splitlines()]
    except UnicodeDecodeError as error:
        raise ModelError(f"{name}: is not the text form of an ncnn graph (a binary .param is not supported)") from error
    rows = [(number, words) for number, words in enumerate(lines, 1) if words]
    if not rows or rows[0][1] != [str(MAGIC)]:
        raise ModelError(f"{name}: does not start with {MAGIC}, so it is no ncnn graph")
    counts = rows[1][1] if len(rows) > 1 else []
    if len(counts) != 2 or not all(_is_count(word) for word in counts):
        raise ModelError(f"{name}: expected the numbers of layers and blobs in the second line")
    if int(counts[0]) != len(rows) - 2:
        raise ModelError(f"{name}: announces {counts[0]} layers, but has {len(rows) - 2}; it may be truncated")
    known: set[str] = set()
    layers = []
    for number, words in rows[2:]:
        layer = _parse_layer(words, f"{name}:{number}")
        unknown = [blob for blob in layer.inputs if blob not in known]
        if unknown:
            raise ModelError(f"{name}:{number}: layer {layer.name} reads '{unknown[0]}', which nothing before it makes")
        known.update(layer.outputs)
        layers.append(layer)
    return layers


def _is_count(word: str) -> bool:
    return word.isdigit() and len(word) <= 9


def _parse_layer(words: list[str], where: str) -> Layer:
    if len(words) < 4 or not _is_count(words[2]) or not _is_count(words[3]):
        raise ModelError(f"{where}: expected type, name, number of inputs and number of outputs")
    inputs, outputs = int(words[2]), int(words[3])
    if len(words) < 4 + inputs + outputs:
        raise ModelError(f"{where}: announces {inputs} inputs and {outputs} outputs, but the line is shorter")
    blobs = words[4 : 4 + inputs + outputs]
    parameters: dict[int, Parameter] = {}
    for word in words[4 + inputs + outputs :]:
        key, separator, value = word.partition("=")
        try:
            number = int(key)
            values = [_number(item) for item in value.split(",")]
        except ValueError as error:
            raise ModelError(f"{where}: '{word[:60]}' is not a parameter; expected NUMBER=VALUE") from error
        if not separator:
            raise ModelError(f"{where}: '{word[:60]}' is not a parameter; expected NUMBER=VALUE")
        if number <= -23300:
            if values[0] != len(values) - 1:
                raise ModelError(f"{where}: '{word[:60]}' announces {values[0]} values, but has {len(values) - 1}")
            parameters[-number - 23300] = values[1:]
        else:
            parameters[number] = values[0] if len(values) == 1 else values
    return Layer(words[0], words[1], tuple(blobs[:inputs]), tuple(blobs[inputs:]), parameters)


def _number(text: str) -> Number:
    if len(text) > 40:
        raise ValueError(text)
    value: Number = float(text) if any(c in text for c in ".eEnN") else int(text)
    if not math.isfinite(value) or abs(value) >= 2**40:
        raise ValueError(text)
    return value


class _Reader:
    """Walks through the bytes of a `.bin`."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.position = data, name, 0

    def take(self, count: int, layer: Layer) -> bytes:
        """The next `count` bytes, which belong to `layer`."""
        left = len(self.data) - self.position
        if count < 0 or count > left:
            raise ModelError(
                f"{self.name}: layer {layer.name} needs {count} bytes, but {left} are left; it is truncated or "
                "belongs to another graph"
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def raw(self, count: int, layer: Layer) -> Floats:
        """[count] single-precision numbers without a flag."""
        return self.checked(np.frombuffer(self.take(4 * count, layer), "<f4"), layer)

    def flagged(self, count: int, layer: Layer) -> Floats:
        """[count] numbers behind a flag that says how they are stored; half precision is padded to 4 bytes."""
        flag = struct.unpack("<I", self.take(4, layer))[0]
        kind = _FLAGS.get(flag)
        if kind == "half":
            values = np.frombuffer(self.take((2 * count + 3) // 4 * 4, layer), "<f2")[:count]
            return self.checked(values.astype(np.float32), layer)
        if kind == "single":
            return self.raw(count, layer)
        form = "int8" if kind == "int8" else f"a form that is not known (flag 0x{flag:08x}, a quantisation table?)"
        raise ModelError(
            f"{self.name}: layer {layer.name} stores its weights as {form}; only half and single precision can be "
            "read: convert the model again without quantisation"
        )

    def checked(self, values: NDArray[Any], layer: Layer) -> Floats:
        if not np.isfinite(values).all():
            raise ModelError(f"{self.name}: layer {layer.name} has weights that are not finite; the file is damaged")
        return np.asarray(values, np.float32)


def parse_weights(layers: list[Layer], data: bytes, name: str) -> list[Layer]:
    """`layers` with the weights in the bytes of a `.bin` file. Raises ModelError with the layer."""
    reader = _Reader(data, name)
    result = [_with_weights(layer, reader) for layer in layers]
    if reader.position != len(data):
        raise ModelError(
            f"{name}: {len(data) - reader.position} bytes are left over after the last layer; "
            "it belongs to another graph"
        )
    return result


def _with_weights(layer: Layer, reader: _Reader) -> Layer:
    if layer.kind in ("Convolution", "ConvolutionDepthWise"):
        if layer.integer(8):
            raise ModelError(f"{reader.name}: layer {layer.name} is quantised to int8, which cannot be read")
        if layer.integer(19):
            raise ModelError(f"{reader.name}: layer {layer.name} computes its weights at run time; not supported")
        weights = {"weight": _kernel(layer, reader)}
        if layer.integer(5):
            weights["bias"] = reader.raw(layer.integer(0), layer)
    elif layer.kind == "BatchNorm":
        names = ("slope", "mean", "variance", "bias")
        weights = {key: reader.raw(_positive(layer, 0), layer) for key in names}
    elif layer.kind in _WITHOUT_WEIGHTS:
        weights = {}
    else:
        raise ModelError(
            f"{reader.name}: layer {layer.name} is of type {layer.kind[:40]}, which is not known here; "
            f"known are Convolution, ConvolutionDepthWise, BatchNorm, {', '.join(sorted(_WITHOUT_WEIGHTS))}"
        )
    return Layer(layer.kind, layer.name, layer.inputs, layer.outputs, layer.parameters, weights)


def _kernel(layer: Layer, reader: _Reader) -> Floats:
    """Convolution weights [outputs, inputs / groups, rows, columns]."""
    outputs, columns = _positive(layer, 0), _positive(layer, 1)
    rows, size = layer.integer(11, columns), _positive(layer, 6)
    groups = layer.integer(7, 1) if layer.kind == "ConvolutionDepthWise" else 1
    inputs, rest = divmod(size, max(outputs * columns * rows, 1))
    if rows < 1 or rest or inputs < 1 or groups < 1 or outputs % groups:
        raise ModelError(
            f"{reader.name}: layer {layer.name}: {size} weights do not make {outputs} kernels of {rows}x{columns}"
        )
    return reader.flagged(size, layer).reshape(outputs, inputs, rows, columns)


def _positive(layer: Layer, number: int) -> int:
    value = layer.integer(number)
    if value < 1:
        raise ModelError(f"layer {layer.name}: parameter {number} should be at least 1, but is {value}")
    return value


_WITHOUT_WEIGHTS = {
    *("BinaryOp", "Clip", "Concat", "Crop", "Dropout", "Flatten", "HardSigmoid", "HardSwish", "Input", "Interp"),
    *("Noop", "Permute", "Pooling", "ReLU", "Reshape", "ShuffleChannel", "Sigmoid", "Slice", "Softmax", "Split"),
    "Swish",
}
