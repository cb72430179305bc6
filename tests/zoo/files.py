"""Small valid files of every kind the importers read, made in memory."""

import io
import pickle
import zipfile
from typing import Any

import numpy as np

NCNN_GRAPH = b"""7767517
9 9
Input data 0 1 data
Convolution stem 1 1 data a 0=4 1=3 3=2 4=1 5=1 6=108 9=2 -23310=1,1.000000e-01
ConvolutionDepthWise deep 1 1 a b 0=4 1=3 4=1 5=1 6=36 7=4
Convolution out 1 1 b c 0=10 1=1 5=1 6=40
Slice cut 1 2 c d e -23300=2,2,-233
Sigmoid scores 1 1 d f
Concat join 2 1 f e g
Reshape flat 1 1 g h 0=-1 1=10
Permute turn 1 1 h output 0=1
"""


def flagged(values: np.ndarray, *, half: bool) -> bytes:
    """Weights as ncnn stores them: a flag, then numbers, padded to 4 bytes."""
    if not half:
        return b"\0\0\0\0" + values.astype("<f4").tobytes()
    data = values.astype("<f2").tobytes()
    return (0x01306B47).to_bytes(4, "little") + data + b"\0" * (-len(data) % 4)


def ncnn_weights(*, half: bool = True, sizes: tuple[tuple[int, int], ...] = ((108, 4), (36, 4), (40, 10))) -> bytes:
    """The `.bin` of `NCNN_GRAPH`: kernels and biases drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    parts = [flagged(rng.normal(size=n), half=half) + rng.normal(size=b).astype("<f4").tobytes() for n, b in sizes]
    return b"".join(parts)


def array_pickle(protocol: int = 4) -> bytes:
    """A pickle of {name: array}, as Paddle writes its weights."""
    rng = np.random.default_rng(0)
    tree: dict[str, Any] = {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "norm.mean": np.asfortranarray(rng.normal(size=(3, 2))),
        "steps": np.array([7], np.int64),
        "StructuredToParameterName@@": {"conv.weight": "conv2d_0.w_0"},
    }
    return pickle.dumps(tree, protocol=protocol)


def torch_checkpoint(*, zipped: bool = True) -> bytes:
    """A small Lightning-like checkpoint written by torch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    tree = {
        "epoch": 3,
        "state_dict": {
            "model.conv.weight": weight,
            "model.half": weight[0].half(),
            "model.short": weight[0, 0].bfloat16(),
            "model.turned": torch.arange(6.0).reshape(2, 3).t(),
            "model.steps": torch.tensor(5),
            "model.empty": torch.zeros(0, 3),
        },
        "optimizer_states": [{"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}],
    }
    stream = io.BytesIO()
    torch.save(tree, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def rezip(data: bytes, replaced: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with some members (by the end of their names) replaced, checksums and all."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for info in old.infolist():
            content = next((v for k, v in replaced.items() if info.filename.endswith(k)), old.read(info))
            new.writestr(info.filename, content)
    return stream.getvalue()


def member(data: bytes, name: str) -> bytes:
    """The content of the archive's member whose name ends with `name`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(name)))


def onnx_model() -> bytes:
    """Two convolutions in a row, as torch exports them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w0"),
        numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "b0"),
        numpy_helper.from_array(rng.normal(size=(2, 4, 1, 1)).astype(np.float32), "w1"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1"], ["y"], name="second"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    model: onnx.ModelProto = helper.make_model(graph)
    return model.SerializeToString()


def nanodet_pair(num_classes: int = 3, *, strides: tuple[int, ...] = (8, 16, 32), seed: int = 0) -> tuple[bytes, bytes]:
    """A tiny network with NanoDet's output end, as an ncnn pair: a few strided convolutions, then one per level."""
    rng = np.random.default_rng(seed)
    outputs, lines, parts = num_classes + 32, ["Input data 0 1 data"], []

    def convolution(name: str, source: str, channels: tuple[int, int], kernel: int, *, stride: int) -> None:
        inputs, count = channels
        size = inputs * count * kernel * kernel
        options = f"0={count} 1={kernel} 3={stride} 4={kernel // 2} 5=1 6={size}"
        activation = " 9=2 -23310=1,1.000000e-01" if kernel > 1 else ""
        lines.append(f"Convolution {name} 1 1 {source} {name} {options}{activation}")
        parts.append(flagged(rng.normal(size=size) / np.sqrt(size / count), half=True))
        parts.append(rng.normal(size=count).astype("<f4").tobytes())

    convolution("d2", "data", (3, 8), 3, stride=2)
    convolution("d4", "d2", (8, 8), 3, stride=2)
    source, joined = "d4", []
    for stride in strides:
        name = f"d{stride}"
        convolution(name, source, (8, 8), 3, stride=2)
        # A second copy of the last level would be an output of its own.
        copies = [f"{name}a"] if stride == strides[-1] else [f"{name}a", f"{name}b"]
        lines.append(f"Split split{stride} 1 {len(copies)} {name} {' '.join(copies)}")
        convolution(f"o{stride}", f"{name}a", (8, outputs), 1, stride=1)
        lines.append(f"Slice s{stride} 1 2 o{stride} c{stride} b{stride} -23300=2,{num_classes},-233")
        lines.append(f"Sigmoid g{stride} 1 1 c{stride} p{stride}")
        lines.append(f"Concat j{stride} 2 1 p{stride} b{stride} j{stride}")
        lines.append(f"Reshape f{stride} 1 1 j{stride} f{stride} 0=-1 1={outputs}")
        joined.append(f"f{stride}")
        source = f"{name}b"
    lines.append(f"Concat all {len(joined)} 1 {' '.join(joined)} all 0=1")
    lines.append("Permute turn 1 1 all output 0=1")
    text = "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n"
    return text.encode(), b"".join(parts)
