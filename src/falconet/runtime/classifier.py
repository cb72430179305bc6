"""From pictures to classes: what the predictor is for detectors, for classifiers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from falconet.core.classes import Classification
from falconet.core.errors import ConfigError
from falconet.core.images import read_image
from falconet.core.manifest import Manifest
from falconet.core.resize import fit
from falconet.core.types import Floats, Pixels
from falconet.runtime.model_file import ModelFile
from falconet.runtime.predictor import Source, check_pixels


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
        model: written by `falconet export`; or such a file that is open.
        threads: for one picture or batch, of a file that is not open; None takes `default_threads()`.

    Attributes:
        manifest: read from the file.
        batch: pictures per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: as `ModelFile` does, and for a file that is no classifier.
    """

    def __init__(self, model: str | Path | ModelFile, *, threads: int | None = None) -> None:
        self._file = model if isinstance(model, ModelFile) else ModelFile(model, threads=threads)
        self.manifest, self.batch = self._file.manifest, self._file.batch
        self._file.check("classify", {"probabilities": ("B", len(self.manifest.classes))})

    def __call__(self, pixels: Pixels) -> Floats:
        """See `ClassifierEngine`."""
        (probabilities,) = self._file.run(("probabilities",), pixels)
        return probabilities


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
