"""The smallest runs that still are runs: a drawn data set of few pictures, a network of few channels."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from falconet.data.drawn import write_drawn_dataset
from falconet.training import RunConfig, read_run

MODEL = [
    "model.input={height: 64, width: 64}",
    "model.neck.channels=16",
    "model.head={channels: 16, kernel_size: 3, stacked_convs: 1}",
]


def draw(folder: Path, *, train: int = 12, val: int = 5) -> Path:
    """Write the data set; returns its folder."""
    write_drawn_dataset(folder, train=train, val=val, size=(80, 96))
    return folder


def options(data: Path, output: Path, *overrides: str) -> list[str]:
    """Command line arguments of a tiny run."""
    return [
        "nanodet-plus-demo",
        *MODEL,
        f"data.train={data}/train.json",
        f"data.val={data}/val.json",
        f"output={output}",
        "train.batch_size=4",
        "train.epochs=2",
        "data.workers=0",
        *overrides,
    ]


def tiny_run(data: Path, output: Path, *overrides: str) -> RunConfig:
    """A tiny run; overrides come last."""
    preset, *rest = options(data, output, *overrides)
    return read_run(preset, rest)


def assert_same_weights(first: Path, second: Path) -> None:
    """Fail unless two weights files hold the same tensors bit for bit."""
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    assert one
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
