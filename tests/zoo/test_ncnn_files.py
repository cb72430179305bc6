"""ncnn pairs: layers and weights come out; damaged and hostile files are refused."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import ModelError
from falconet.zoo.formats.ncnn_files import parse_graph, parse_weights, read_ncnn
from tests.zoo import files
from tests.zoo.shared import GRAPH, WEIGHTS, need


@pytest.mark.parametrize("half", [True, False])
def test_layers_with_weights(tmp_path: Path, half: bool) -> None:
    graph, weights = tmp_path / "m.param", tmp_path / "m.bin"
    graph.write_bytes(files.NCNN_GRAPH)
    weights.write_bytes(files.ncnn_weights(half=half))
    layers = read_ncnn(graph, weights)
    assert [layer.kind for layer in layers[:4]] == ["Input", "Convolution", "ConvolutionDepthWise", "Convolution"]
    stem, deep, out = layers[1:4]
    assert stem.inputs == ("data",)
    assert stem.outputs == ("a",)
    assert stem.integer(9) == 2
    assert stem.numbers(10) == [0.1]
    assert layers[4].numbers(0) == [2, -233]
    assert (stem.weights["weight"].shape, deep.weights["weight"].shape) == ((4, 3, 3, 3), (4, 1, 3, 3))
    assert out.weights["weight"].shape == (10, 4, 1, 1)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=108), rng.normal(size=4)
    np.testing.assert_allclose(stem.weights["weight"].ravel(), kernel, rtol=1e-3 if half else 1e-6)
    np.testing.assert_allclose(stem.weights["bias"], bias, rtol=1e-6)


def test_the_published_pair() -> None:
    need(GRAPH, WEIGHTS)
    layers = read_ncnn(GRAPH, WEIGHTS)
    assert len(layers) == 240
    assert sum(array.size for layer in layers for array in layer.weights.values()) == 1_186_346


def _graph(*lines: str) -> bytes:
    return "\n".join(["7767517", f"{len(lines)} 9", *lines]).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"m\.param: does not start with 7767517"),
        (b"\xff\xfe\x00", r"m\.param: is not the text form of an ncnn graph"),
        (b"7767517\n", "expected the numbers of layers and blobs in the second line"),
        (b"7767517\n4294967296 1\n", "expected the numbers of layers"),
        (b"7767517\n-1 1\n", "expected the numbers of layers"),
        (b"7767517\n3 1\nInput data 0 1 data\n", "announces 3 layers, but has 1; it may be truncated"),
        (_graph("Input data 0 999999999 data"), r"m\.param:3: announces 0 inputs and 999999999 outputs"),
        (_graph("Input data"), r"m\.param:3: expected type, name"),
        (_graph("Sigmoid s 1 1 ghost out"), r"m\.param:3: layer s reads 'ghost', which nothing before it makes"),
        (_graph("Input data 0 1 data 0=x"), r"m\.param:3: '0=x' is not a parameter"),
        (_graph("Input data 0 1 data 0=nan"), "is not a parameter"),
        (_graph("Input data 0 1 data 0=1e99"), "is not a parameter"),
        (_graph("Input data 0 1 data 0"), "is not a parameter"),
        (_graph("Input data 0 1 data -23300=4294967295,1"), "announces 4294967295 values, but has 1"),
    ],
)
def test_broken_graphs(text: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_graph(text, "m.param")


@pytest.mark.parametrize(
    ("line", "data", "message"),
    [
        ("Convolution c 1 1 d o 0=4 1=1 6=12", bytes(4 + 48), None),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", b"", "layer c needs 4 bytes, but 0 are left"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", bytes(50), "layer c needs 48 bytes, but 46 are left; it is truncated"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", bytes(53), "1 bytes are left over after the last layer"),
        ("Convolution c 1 1 d o 0=1 1=1 6=1073741824", bytes(8), "layer c needs 4294967296 bytes, but 4 are left"),
        ("Convolution c 1 1 d o 0=4 1=1 6=-12", bytes(8), "parameter 6 should be at least 1, but is -12"),
        ("Convolution c 1 1 d o 0=4 1=3 6=12", bytes(8), "12 weights do not make 4 kernels of 3x3"),
        ("Convolution c 1 1 d o 0=4 1=1.5 6=12", bytes(8), "parameter 1 should be a whole number"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12 8=2", bytes(8), "layer c is quantised to int8, which cannot be read"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12 19=1", bytes(8), "computes its weights at run time"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", b"\x38\x4b\x0d\x00" + bytes(48), "stores its weights as int8"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", b"\x01\x00\x00\x00" + bytes(48), r"not known \(flag 0x00000001"),
        ("Convolution c 1 1 d o 0=4 1=1 6=12", b"\0\0\0\0" + b"\xff" * 48, "weights that are not finite"),
        ("LSTM c 1 1 d o 0=4", bytes(8), "layer c is of type LSTM, which is not known here"),
        ("BatchNorm c 1 1 d o 0=2", bytes(32), None),
        ("BatchNorm c 1 1 d o 0=2", bytes(31), "layer c needs 8 bytes, but 7 are left"),
        ("ConvolutionDepthWise c 1 1 d o 0=4 1=1 6=4 7=3", bytes(20), "do not make 4 kernels"),
    ],
)
def test_weights_against_the_graph(line: str, data: bytes, message: str | None) -> None:
    layers = parse_graph(_graph("Input data 0 1 d", line), "m.param")
    if message is None:
        assert len(parse_weights(layers, data, "m.bin")) == 2
        return
    with pytest.raises(ModelError, match=message):
        parse_weights(layers, data, "m.bin")


def test_truncated_anywhere() -> None:
    layers = parse_graph(files.NCNN_GRAPH, "m.param")
    data = files.ncnn_weights()
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(ModelError, match=r"m\.bin: layer \w+ needs \d+ bytes"):
            parse_weights(layers, data[:length], "m.bin")


def test_missing_and_oversized_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.param: cannot be read: No such file"):
        read_ncnn(tmp_path / "none.param", tmp_path / "none.bin")
    big = tmp_path / "big.param"
    with big.open("wb") as stream:
        stream.truncate(17 * 2**20)
    with pytest.raises(ModelError, match="is larger than 16 MB; that is no ncnn graph"):
        read_ncnn(big, big)
