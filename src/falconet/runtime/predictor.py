"""From pictures to detections: read, resize, run, select. The Python face of the device side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.images import read_image
from falconet.core.manifest import Manifest, Selection
from falconet.core.resize import fit
from falconet.core.select import select
from falconet.core.types import Detections, Floats, Ints, Pixels, Placement
from falconet.runtime.engines import Engine, OnnxEngine
from falconet.runtime.model_file import ModelFile

if TYPE_CHECKING:
    from falconet.runtime.classifier import ClassifierPredictor

Source = str | Path | NDArray[np.uint8]
"""A picture: its path, or its pixels as uint8 [H, W, 3] in OpenCV's order blue, green, red."""


class Prepared(NamedTuple):
    """A picture at the network's input size."""

    pixels: Pixels
    """uint8 [H, W, 3], blue, green, red."""
    placement: Placement


class Predictor:
    """Detects objects in pictures with one model.

    Args:
        engine: runs the model.
        selection: thresholds and limits; None takes those the model was exported with.
        classes: names of the only classes to report; None reports all.

    Attributes:
        engine, selection: as given.
        manifest: what the model says about itself.
        names: class names, in the order of `Detections.labels`.

    Raises:
        ConfigError: a class the model does not know.
    """

    def __init__(
        self, engine: Engine, *, selection: Selection | None = None, classes: Sequence[str] | None = None
    ) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.manifest
        self.names = self.manifest.classes
        self.selection = self.manifest.selection if selection is None else selection
        self._classes = None if classes is None else _class_indices(classes, self.names)

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is also a Sequence[str]; it counts as a path
        self, source: Source, *, batch: int = ...
    ) -> Detections: ...
    @overload
    def predict(self, source: Sequence[Source], *, batch: int = ...) -> list[Detections]: ...
    def predict(self, source: Source | Sequence[Source], *, batch: int = 8) -> Detections | list[Detections]:
        """The detections of one picture, or of each picture of a list.

        A path is decoded no larger than the network needs (a large JPEG at a reduced scale), so that its boxes
        may differ a little from those of the same picture given as an array; both are in pixels of the full
        picture. Grey, float or BGRA arrays are not guessed at: see Raises.

        Args:
            source: a path, an array uint8 [H, W, 3] in blue, green, red order, or a list of these.
            batch: pictures of a list that go through the network together. Memory grows with it, not with
                the length of the list.

        Raises:
            DataError: a file that is missing, broken or no picture; an array of another type or shape, with
                the conversion that helps.
        """
        if isinstance(source, str | Path) or not isinstance(source, Sequence):
            return self.detect([self.prepare(source)])[0]
        if batch < 1:
            raise ConfigError(f"batch must be 1 or more, but got {batch}")
        found: list[Detections] = []
        for start in range(0, len(source), batch):
            found += self.detect([self.prepare(one) for one in source[start : start + batch]])
        return found

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.manifest.preprocess.height, self.manifest.preprocess.width

    def prepare(self, source: Source) -> Prepared:
        """One picture, read and resized to the network's input. Raises DataError as `predict` does."""
        if isinstance(source, str | Path):
            return self.fit(*read_image(source, at_least=self.input_size))
        image = check_pixels(source)
        return self.fit(image, (image.shape[0], image.shape[1]))

    def fit(self, image: Pixels, original: tuple[int, int]) -> Prepared:
        """A picture, uint8 [H, W, 3], in memory, resized to the network's input.

        Args:
            image: blue, green, red; may have been decoded at a reduced scale.
            original: (height, width) at full size, to which boxes will refer.
        """
        rule = self.manifest.preprocess
        return Prepared(
            *fit(
                image,
                height=rule.height,
                width=rule.width,
                rule=rule.resize,
                pad_value=rule.pad_value,
                original=original,
            )
        )

    def detect(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """The detections of pictures that were prepared, in one run of the network."""
        if not prepared:
            return []
        boxes, scores = self.run(prepared)
        return [self.select(boxes[index], scores[index], one.placement) for index, one in enumerate(prepared)]

    def run(self, prepared: Sequence[Prepared]) -> tuple[Floats, Floats]:
        """The network alone: boxes [B, N, 4] in input pixels and scores [B, N, C] of B >= 1 pictures."""
        first = prepared[0].pixels
        return self.engine(first[None] if len(prepared) == 1 else np.stack([one.pixels for one in prepared]))

    def select(self, boxes: Floats, scores: Floats, placement: Placement) -> Detections:
        """The detections among the boxes [N, 4] and scores [N, C] of one picture."""
        return select(boxes, scores, placement, self.selection, names=self.names, classes=self._classes)


def load(
    path: str | Path,
    *,
    engine: Literal["onnxruntime"] = "onnxruntime",
    threads: int | None = None,
    selection: Selection | None = None,
    classes: Sequence[str] | None = None,
) -> "Predictor | ClassifierPredictor":
    """A predictor for an exported model file: of a detector or, where the file says so, of a classifier.

    Args:
        path: written by `falconet export --to onnx`.
        engine: what runs it.
        threads: for the network; None takes the CPUs this process may use, at most four.
        selection: thresholds and limits; None takes those the model was exported with.
        classes: names of the only classes to report.

    Raises:
        ModelError: a missing, broken or foreign file; an unknown engine.
        ConfigError: a class the model does not know; a selection for a classifier.
    """
    if engine != "onnxruntime":
        raise ModelError(f"engine '{engine}' is not known; expected 'onnxruntime'")
    file = ModelFile(path, threads=threads)
    if file.manifest.task == "detect":
        return Predictor(OnnxEngine(file), selection=selection, classes=classes)
    if selection is not None or classes is not None:
        raise ConfigError(f"{path}: is a classifier, which has no boxes to select; leave selection and classes out")
    from falconet.runtime.classifier import ClassifierPredictor, OnnxClassifier

    return ClassifierPredictor(OnnxClassifier(file))


def _class_indices(classes: Sequence[str], names: tuple[str, ...]) -> Ints:
    if isinstance(classes, str):
        classes = [classes]
    unknown = [name for name in classes if name not in names]
    if unknown or not classes:
        problem = f"does not know {', '.join(repr(name) for name in unknown)}" if unknown else "got no class"
        raise ConfigError(f"classes: the model {problem}; its classes are: {', '.join(names)}")
    return np.array(sorted({names.index(name) for name in classes}), np.int64)


_EXPECTED = "a path or an array uint8 [height, width, 3] in blue, green, red order"


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {list(value.shape)}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def check_pixels(image: object) -> Pixels:
    """`image` where it is uint8 [H, W, 3]; DataError with the conversion that helps where it is not."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size == 0:
            raise DataError(f"the picture has no pixels: its shape is {list(image.shape)}")
        return np.ascontiguousarray(image)
    remedy = ""
    if not isinstance(image, np.ndarray):
        if hasattr(image, "convert"):
            remedy = ': convert a PIL image with numpy.asarray(image.convert("RGB"))[..., ::-1]'
    elif image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        remedy = ": convert a grey picture with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    elif image.ndim == 4:
        remedy = ": pass a batch as a list of pictures, list(batch)"
    elif image.ndim == 3 and image.shape[2] == 4:
        remedy = ": drop the alpha channel with image[..., :3]"
    elif image.ndim == 3 and image.shape[2] == 3:
        remedy = ": convert values of 0..1 with (image * 255).astype(numpy.uint8)"
    elif image.ndim == 3 and image.shape[0] == 3:
        remedy = ": move the channels to the end with image.transpose(1, 2, 0)"
    raise DataError(f"a picture must be {_EXPECTED}, but got {_describe(image)}{remedy}")
