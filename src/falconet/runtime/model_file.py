"""An exported file, open in ONNX Runtime: what detectors and classifiers have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from falconet.core.errors import ModelError
from falconet.core.manifest import MANIFEST_KEY, read_manifest
from falconet.core.types import Floats, Pixels
from falconet.runtime.session import default_threads, open_session

Shape = tuple[int | str, ...]
"""Sizes of an output; a letter stands for any size."""


class ModelFile:
    """An exported `.onnx` file.

    Args:
        path: written by `falconet export --to onnx`.
        threads: for one picture or batch; None takes `default_threads()`.

    Attributes:
        path: as given.
        manifest: read from the file.
        batch: pictures per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: no such file, not an ONNX file (or half of one), or one without a Falconet manifest.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ModelError(f"threads must be 1 or more, but got {threads}")
        self.path = Path(path)
        _check_kind(self.path)
        self._session = open_session(self.path, threads or default_threads())
        text = self._session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
        self.manifest = read_manifest(text, str(path))
        first = self._session.get_inputs()[0]
        self.batch: int | None = first.shape[0] if first.shape and isinstance(first.shape[0], int) else None
        self._input = first.name

    def check(self, task: Literal["detect", "classify"], outputs: Mapping[str, Shape]) -> None:
        """Raise ModelError unless task, inputs and outputs are those of the manifest and of `outputs`."""
        if self.manifest.task != task:
            raise ModelError(f"{self.path}: {_OTHER_TASK[self.manifest.task]}")
        height, width = self.manifest.preprocess.height, self.manifest.preprocess.width
        pixels = ("B", height, width, 3)
        inputs, found = self._session.get_inputs(), {entry.name: entry for entry in self._session.get_outputs()}
        if (
            len(inputs) == 1
            and inputs[0].type == "tensor(uint8)"
            and _agrees(inputs[0].shape, pixels)
            and all(
                name in found and found[name].type == "tensor(float)" and _agrees(found[name].shape, shape)
                for name, shape in outputs.items()
            )
        ):
            return
        expected = ", ".join(f"{name}: tensor(float) {_written(shape)}" for name, shape in outputs.items())
        there = "; ".join(f"{entry.name}: {entry.type} {entry.shape}" for entry in (*inputs, *found.values()))
        raise ModelError(
            f"{self.path}: its inputs and outputs do not fit its manifest; expected pixels: tensor(uint8) "
            f"{_written(pixels)} -> {expected}, but found {there}. Export the model again"
        )

    def run(self, outputs: Sequence[str], pixels: Pixels) -> list[Floats]:
        """The named outputs of pixels [B, H, W, 3]; with a fixed batch as many runs as needed, the last filled up."""
        pixels = np.ascontiguousarray(pixels)
        if self.batch is None or len(pixels) == self.batch:
            return list(self._session.run(outputs, {self._input: pixels}))
        empty = np.zeros((-len(pixels) % self.batch, *pixels.shape[1:]), np.uint8)
        filled = np.concatenate([pixels, empty])
        parts = [
            self._session.run(outputs, {self._input: filled[start : start + self.batch]})
            for start in range(0, len(filled), self.batch)
        ]
        return [np.concatenate(one)[: len(pixels)] for one in zip(*parts, strict=True)]


_OTHER_TASK = {
    "detect": "is a detector, not a classifier; leave --task out, or use falconet.load",
    "classify": "is a classifier, not a detector; run it with 'falconet predict --task classify', or "
    "falconet.load, which tells them apart",
}


def _check_kind(path: Path) -> None:
    """Raise ModelError for what cannot be an exported model, before anything is opened."""
    if path.is_dir() or path.suffix == ".safetensors":
        kind = "a folder" if path.is_dir() else "a weights file"
        raise ModelError(
            f"{path}: is {kind}, not an exported model; expected a .onnx file: write one with "
            f"'falconet export {path} --to onnx --out FOLDER'"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a model written by 'falconet export --to onnx'")


def _agrees(shape: Sequence[int | str | None], expected: Shape) -> bool:
    """Whether fixed sizes are the expected ones; free ones (names, None) agree with anything."""
    return len(shape) == len(expected) and all(
        not isinstance(size, int) or not isinstance(wanted, int) or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )


def _written(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
