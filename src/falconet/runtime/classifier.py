"""From pictures to classes: what the predictor is for detectors, for classifiers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import onnxruntime

from falconet.core.classes import Classification
from falconet.core.errors import ConfigError, ModelError
from falconet.core.images import read_image
from falconet.core.manifest import MANIFEST_KEY, Manifest, read_manifest
from falconet.core.resize import fit
from falconet.core.types import Floats, Pixels
from falconet.runtime.engines import agrees, check_kind
from falconet.runtime.predictor import Source, check_pixels
from falconet.runtime.session import default_threads, open_session


class ClassifierEngine(Protocol):
    """Runs one classifier.

    Attributes:
        manifest: what the model file says about itself.
    """

    @property
    def manifest(self) -> Manifest: ...

    def __call__(self, pixels: Pixels) -> Floats:
        """Probabilities [B, C] of pixels uint8 [B, H, W, 3], channels blue, green, red, of the manifest's size."""
        ...


class OnnxClassifier:
    """An exported classifier in ONNX Runtime, on the CPU.

    Args:
        path: written by `falconet export`.
        threads: for one picture or batch; None takes `default_threads()`.
        session: the file, where it is open already; `threads` is then the session's.

    Attributes:
        manifest: read from the file.
        batch: pictures per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: no such file, not an ONNX file (or half of one), one without a Falconet manifest, or one
            that is no classifier.
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
        self.manifest = read_manifest(self._session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY), str(path))
        _check_signature(self._session, self.manifest, path)
        entry = self._session.get_inputs()[0]
        self.batch: int | None = entry.shape[0] if isinstance(entry.shape[0], int) else None
        self._input = entry.name

    def __call__(self, pixels: Pixels) -> Floats:
        """See `ClassifierEngine`. A file with a fixed batch size runs as often as needed, the last time filled up."""
        pixels = np.ascontiguousarray(pixels)
        if self.batch is None or len(pixels) == self.batch:
            return self._run(pixels)
        missing = -len(pixels) % self.batch
        filled = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.uint8)])
        parts = [self._run(filled[start : start + self.batch]) for start in range(0, len(filled), self.batch)]
        return np.concatenate(parts)[: len(pixels)]

    def _run(self, pixels: Pixels) -> Floats:
        (probabilities,) = self._session.run(("probabilities",), {self._input: pixels})
        return np.asarray(probabilities, np.float32)


class ClassifierPredictor:
    """Says what pictures show, with one classifier.

    Args:
        engine: runs the model.

    Attributes:
        engine: as given.
        manifest: what the model says about itself.
        names: class names, in the order of `Classification.probabilities`.
    """

    def __init__(self, engine: ClassifierEngine) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.manifest
        self.names = self.manifest.classes

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is also a Sequence[str]; it counts as a path
        self, source: Source, *, batch: int = ...
    ) -> Classification: ...
    @overload
    def predict(self, source: Sequence[Source], *, batch: int = ...) -> list[Classification]: ...
    def predict(self, source: Source | Sequence[Source], *, batch: int = 8) -> Classification | list[Classification]:
        """What one picture shows, or each picture of a list.

        Args:
            source: a path, an array uint8 [H, W, 3] in blue, green, red order, or a list of these.
            batch: pictures of a list that go through the network together.

        Raises:
            DataError: a file that is missing, broken or no picture; an array of another type or shape, with
                the conversion that helps.
        """
        if isinstance(source, str | Path) or not isinstance(source, Sequence):
            return self.classify([self.prepare(source)])[0]
        if batch < 1:
            raise ConfigError(f"batch must be 1 or more, but got {batch}")
        found: list[Classification] = []
        for start in range(0, len(source), batch):
            found += self.classify([self.prepare(one) for one in source[start : start + batch]])
        return found

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.manifest.preprocess.height, self.manifest.preprocess.width

    def prepare(self, source: Source) -> Pixels:
        """One picture, read and resized: uint8 [H, W, 3] of the input's size. Raises DataError as `predict` does."""
        image = read_image(source, at_least=self.input_size)[0] if isinstance(source, str | Path) else None
        return self.fit(check_pixels(source) if image is None else image)

    def fit(self, image: Pixels) -> Pixels:
        """A picture, uint8 [H, W, 3], in memory, resized to the network's input."""
        rule = self.manifest.preprocess
        return fit(image, height=rule.height, width=rule.width, rule=rule.resize, pad_value=rule.pad_value)[0]

    def classify(self, prepared: Sequence[Pixels]) -> list[Classification]:
        """What pictures of the input's size show, in one run of the network."""
        if not prepared:
            return []
        return [Classification(row, self.names) for row in self.engine(np.stack(prepared))]


def _check_signature(session: onnxruntime.InferenceSession, manifest: Manifest, path: Path) -> None:
    """Raise ModelError unless the file is a classifier, with inputs and outputs as its manifest says."""
    if manifest.task != "classify":
        raise ModelError(f"{path}: is a detector, not a classifier; leave --task out, or use falconet.load")
    height, width, count = manifest.preprocess.height, manifest.preprocess.width, len(manifest.classes)
    inputs, outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    fits = (
        len(inputs) == 1
        and inputs[0].type == "tensor(uint8)"
        and agrees(inputs[0].shape, (None, height, width, 3))
        and "probabilities" in outputs
        and outputs["probabilities"].type == "tensor(float)"
        and agrees(outputs["probabilities"].shape, (None, count))
    )
    if not fits:
        found = [f"{entry.name}: {entry.type} {entry.shape}" for entry in (*inputs, *outputs.values())]
        raise ModelError(
            f"{path}: its inputs and outputs do not fit its manifest; expected pixels: tensor(uint8) "
            f"[B, {height}, {width}, 3] -> probabilities: tensor(float) [B, {count}], but found {'; '.join(found)}. "
            "Export the model again"
        )
