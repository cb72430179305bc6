"""Weights to one ExecuTorch program (.pte), for phones and boards that run PyTorch's own runtime.

XNNPACK, its library for CPUs, takes what it can of the network; the rest runs in ExecuTorch's portable operators.
Inputs and outputs are those of the .onnx file, one picture per run. The manifest is a method of its own, `falconet`,
that takes nothing and gives the text.
"""

from pathlib import Path

import torch

from falconet.core.files import replace_file
from falconet.core.manifest import MANIFEST_KEY
from falconet.exporting.apart import convert_apart, run_converter
from falconet.exporting.torch_engine import Plain, load_at


def export_executorch(
    weights: Path, out: Path, *, size: tuple[int, int] | None = None, score: float | None = None, layers: bool = False
) -> Path:
    """Write the model of `weights` to `out`, in a minute or two. Whoever ships it compares it first.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .pte.
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.
        layers: see `falconet.exporting.torch_engine.shipped`.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there, or a network that ExecuTorch does not convert.
        DataError: `out` cannot be written.
    """
    load_at(weights, size, score=score)  # what is wrong with these is told before another process starts
    options = {"size": size, "score": score, "layers": layers}
    replace_file(out, convert_apart(__name__, weights, program="ExecuTorch", **options))
    return out


def convert(network: Plain, pixels: torch.Tensor, manifest: str, file: Path) -> None:
    """Lower a network to XNNPACK; see `falconet.exporting.apart.Convert`."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        XnnpackPartitioner,
    )
    from executorch.exir import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        to_edge_transform_and_lower,
    )

    exported = torch.export.export(network, (pixels,))
    lowered = to_edge_transform_and_lower(
        exported, partitioner=[XnnpackPartitioner()], constant_methods={MANIFEST_KEY: manifest}
    )
    file.write_bytes(lowered.to_executorch().buffer)


if __name__ == "__main__":
    run_converter(convert)
