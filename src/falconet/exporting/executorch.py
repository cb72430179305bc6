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
from falconet.exporting.torch_engine import Plain, load_at, manifest_of


def export_executorch(
    weights: Path, out: Path, *, size: tuple[int, int] | None = None, score: float | None = None
) -> Path:
    """Write the model of `weights` to `out`, in a minute or two. Whoever ships it compares it first.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .pte.
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there, or a network that ExecuTorch does not convert.
        DataError: `out` cannot be written.
    """
    manifest = manifest_of(load_at(weights, size, score=score)[1]).to_json()
    replace_file(out, convert_apart(__name__, weights, manifest, size=size, program="ExecuTorch"))
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
