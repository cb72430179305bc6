"""Engines: what runs an exported model. Pixels in, boxes and scores out, the same for every architecture."""

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from falconet.core.errors import ModelError
from falconet.core.manifest import MANIFEST_KEY, Manifest, read_manifest
from falconet.core.types import Floats, Pixels
from falconet.runtime.session import default_threads, open_session


class Engine(Protocol):
    """Runs one model.

    Attributes:
        manifest: what the model file says about itself.
    """

    @property
    def manifest(self) -> Manifest: ...

    def __call__(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """Boxes and scores of a batch.

        Args:
            pixels: uint8 [B, H, W, 3], channels blue, green, red, of the manifest's input size; any B from 1.

        Returns:
            Boxes [B, N, 4] xyxy in input pixels, clipped to the input, and scores [B, N, C], 0..1.
        """
        ...


class OnnxEngine:
    """An exported `.onnx` file in ONNX Runtime, on the CPU.

    Args:
        path: written by `falconet export --to onnx`.
        threads: for one picture or batch; None takes `default_threads()`.
        session: the file, where it is open already (see `open_session`); `threads` is then the session's.

    Attributes:
        manifest: read from the file.
        batch: pictures per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: no such file, not an ONNX file (or half of one), one without a Falconet manifest, or one
            whose inputs and outputs are not those of an exported detector.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        session: onnxruntime.InferenceSession | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ModelError(f"threads must be 1 or more, but got {threads}")
        path = Path(path)
        check_kind(path)
        self._session = open_session(path, threads or default_threads()) if session is None else session
        text = self._session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
        self.manifest = read_manifest(text, str(path))
        _check_signature(self._session, self.manifest, path)
        entry = self._session.get_inputs()[0]
        self.batch: int | None = entry.shape[0] if isinstance(entry.shape[0], int) else None
        self._input = entry.name

    def __call__(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """See `Engine`. A file with a fixed batch size runs as often as needed, the last time filled up."""
        pixels = np.ascontiguousarray(pixels)
        if self.batch is None or len(pixels) == self.batch:
            return self._run(pixels)
        parts = [self._run_filled(pixels[i : i + self.batch]) for i in range(0, len(pixels), self.batch)]
        return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([scores for _, scores in parts])

    def _run(self, pixels: Pixels) -> tuple[Floats, Floats]:
        boxes, scores = self._session.run(("boxes", "scores"), {self._input: pixels})
        return boxes, scores

    def _run_filled(self, pixels: Pixels) -> tuple[Floats, Floats]:
        count, batch = len(pixels), self.batch or len(pixels)
        if count < batch:
            pixels = np.concatenate([pixels, np.zeros((batch - count, *pixels.shape[1:]), np.uint8)])
        boxes, scores = self._run(pixels)
        return boxes[:count], scores[:count]


def check_kind(path: Path) -> None:
    """Raise ModelError for what cannot be an exported model, before anything is opened."""
    if path.is_dir() or path.suffix == ".safetensors":
        kind = "a folder" if path.is_dir() else "a weights file"
        raise ModelError(
            f"{path}: is {kind}, not an exported model; expected a .onnx file: write one with "
            f"'falconet export {path} --to onnx --out FOLDER'"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a model written by 'falconet export --to onnx'")


def _check_signature(session: onnxruntime.InferenceSession, manifest: Manifest, path: Path) -> None:
    """Raise ModelError unless inputs and outputs are those of an exported detector, as the manifest says."""
    if manifest.task != "detect":
        raise ModelError(
            f"{path}: is a classifier, not a detector; run it with 'falconet predict --task classify', or "
            "falconet.load, which tells them apart"
        )
    height, width = manifest.preprocess.height, manifest.preprocess.width
    inputs, outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    found = [f"{entry.name}: {entry.type} {entry.shape}" for entry in (*inputs, *outputs.values())]
    fits = (
        len(inputs) == 1
        and inputs[0].type == "tensor(uint8)"
        and agrees(inputs[0].shape, (None, height, width, 3))
        and outputs.keys() >= {"boxes", "scores"}
        and all(outputs[name].type == "tensor(float)" for name in ("boxes", "scores"))
        and agrees(outputs["boxes"].shape, (None, None, 4))
        and agrees(outputs["scores"].shape, (None, None, len(manifest.classes)))
    )
    if not fits:
        raise ModelError(
            f"{path}: its inputs and outputs do not fit its manifest; expected pixels: tensor(uint8) "
            f"[B, {height}, {width}, 3] -> boxes: tensor(float) [B, N, 4], scores: tensor(float) "
            f"[B, N, {len(manifest.classes)}], but found {'; '.join(found)}. Export the model again"
        )


def agrees(shape: list[int | str | None], expected: tuple[int | None, ...]) -> bool:
    """Whether fixed sizes are the expected ones; free ones (names, None) agree with anything."""
    return len(shape) == len(expected) and all(
        not isinstance(size, int) or wanted is None or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )
