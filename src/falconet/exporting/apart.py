"""Converters that say much, or keep much in memory, in a process of their own: a module's `convert` as a program."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from falconet.core.errors import ModelError
from falconet.exporting.torch_engine import Plain, shipped

Convert = Callable[[Plain, torch.Tensor, str, Path], None]
"""(network, example of its pixels, manifest as JSON, file to write)."""


def convert_apart(module: str, weights: Path, *, program: str, **options: Any) -> bytes:
    """What the `convert` of a module writes.

    Args:
        module: its full name; run as a program, it calls `run_converter`.
        weights: weights file, or run folder (its best weights).
        program: the converter's name, for people.
        options: of `falconet.exporting.torch_engine.shipped`.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there; it does not convert this network; with the last line that it said.
    """
    with tempfile.TemporaryDirectory(prefix="falconet-export-") as folder:
        file = Path(folder) / "model"
        command = [sys.executable, "-m", module, json.dumps([str(weights), str(file), options])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not file.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise ModelError(f"{program} does not convert this network: {last[0]}")
        return file.read_bytes()


def run_converter(convert: Convert) -> None:
    """The other side: convert what the command line says."""
    weights, file, options = json.loads(sys.argv[1])
    module, manifest = shipped(Path(weights), **options | {"size": options["size"] and tuple(options["size"])})
    pixels = torch.zeros(1, manifest.preprocess.height, manifest.preprocess.width, 3, dtype=torch.uint8)
    with torch.no_grad():
        convert(Plain(module).eval(), pixels, manifest.to_json(), Path(file))
