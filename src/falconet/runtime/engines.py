"""Engines: what runs an exported model. Pixels in, boxes and scores out, the same for every architecture."""

from pathlib import Path
from typing import Protocol

from falconet.core.manifest import Manifest
from falconet.core.types import Floats, Pixels
from falconet.runtime.model_file import ModelFile


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
    """An exported detector in ONNX Runtime, on the CPU.

    Args:
        model: written by `falconet export --to onnx`; or such a file that is open.
        threads: for one picture or batch, of a file that is not open; None takes `default_threads()`.

    Attributes:
        manifest: read from the file.
        batch: pictures per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: as `ModelFile` does, and for a file whose inputs and outputs are not those of a detector.
    """

    def __init__(self, model: str | Path | ModelFile, *, threads: int | None = None) -> None:
        self._file = model if isinstance(model, ModelFile) else ModelFile(model, threads=threads)
        self.manifest, self.batch = self._file.manifest, self._file.batch
        self._file.check("detect", {"boxes": ("B", "N", 4), "scores": ("B", "N", len(self.manifest.classes))})

    def __call__(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """See `Engine`."""
        boxes, scores = self._file.run(("boxes", "scores"), pixels)
        return boxes, scores
