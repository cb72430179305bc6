"""Converters that say much, or keep much in memory, in a process of their own: a module's `convert` as a program."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from falconet.core.errors import ModelError
from falconet.exporting.torch_engine import Plain, deployable, load_at, manifest_of, points_to_decode

Convert = Callable[[Plain, torch.Tensor, str, Path], None]
"""(network, example of its pixels, manifest as JSON, file to write)."""


def convert_apart(module: str, weights: Path, manifest: str, *, size: tuple[int, int] | None, program: str) -> bytes:
    """What the `convert` of a module writes.

    Args:
        module: its full name; run as a program, it calls `run_converter`.
        weights: weights file, or run folder (its best weights).
        manifest: of the file, as JSON.
        size: (height, width) of the input; None: that of the training.
        program: the converter's name, for people.

    Raises:
        ModelError: it does not convert this network; with the last line that it said.
    """
    with tempfile.TemporaryDirectory(prefix="falconet-export-") as folder:
        file = Path(folder) / "model"
        command = [sys.executable, "-m", module, json.dumps([str(weights), str(file), size, manifest])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not file.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise ModelError(f"{program} does not convert this network: {last[0]}")
        return file.read_bytes()


def run_converter(convert: Convert) -> None:
    """The other side: convert what the command line says."""
    weights, file, size, manifest = json.loads(sys.argv[1])
    network, card = load_at(Path(weights), None if size is None else (size[0], size[1]))
    own = manifest_of(card)
    module = Plain(deployable(network, card, max_points=points_to_decode(own))).eval()
    pixels = torch.zeros(1, own.preprocess.height, own.preprocess.width, 3, dtype=torch.uint8)
    with torch.no_grad():
        convert(module, pixels, manifest, Path(file))
