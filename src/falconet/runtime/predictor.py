"""From images to answers: read, resize, run, post-process. The Python face of the device side."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ConfigError, DataError, ModelError, PicturesError
from falconet.core.images import read_image
from falconet.core.manifest import Manifest, ScoreMap, Selection
from falconet.core.resize import resize
from falconet.core.types import Pixels, Placement
from falconet.runtime.engines import Engine
from falconet.runtime.tasks import TASKS, Answer, Outputs, Task, open_task

Source = str | Path | NDArray[np.uint8]
"""An image: its path, or its pixels as uint8 [H, W, 3] in OpenCV's order blue, green, red."""


class Prepared(NamedTuple):
    """An image at the network's input size."""

    pixels: Pixels
    """uint8 [H, W, 3], blue, green, red."""
    placement: Placement


class Predictor(Generic[Answer]):
    """Answers what is in images with one model: `Detections` of a detector, a `Classification` of a classifier.

    Args:
        engine: runs the model.
        selection: of a detector, thresholds and limits; None takes those the model was exported with.
        classes: of a detector, names of the only classes to report; None reports all.
        top: of a classifier, the most probable classes that are printed and saved; None takes five.
        operating_point: of a detector, name of the thresholds to report above, which `falconet calibrate` stored.
        calibration: of a detector, what scores are told as; None takes what the model was stored with.

    Attributes:
        engine: as given.
        task: says what the outputs mean.
        manifest: what the model says about itself.
        names: class names, in the order of the answers' labels.
        streams: runs of the network that may go on at once, each called from a thread of its own.

    Raises:
        ConfigError: a class or an operating point that the model does not know, or an option that means nothing for
            its task.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        selection: Selection | None = None,
        classes: Sequence[str] | None = None,
        top: int | None = None,
        operating_point: str | None = None,
        calibration: Sequence[ScoreMap] | None = None,
    ) -> None:
        self.engine = engine
        self.manifest: Manifest = engine.manifest
        self.names = self.manifest.classes
        self.streams: int = getattr(engine, "streams", 1)
        self.task: Task[Answer] = open_task(
            self.manifest,
            selection=selection,
            classes=classes,
            top=top,
            operating_point=operating_point,
            calibration=calibration,
        )

    def __repr__(self) -> str:
        rule, count = self.manifest.preprocess, len(self.names)
        classes = "1 class" if count == 1 else f"{count} classes"
        return f"<{self.manifest.model}, {rule.width} x {rule.height}, {classes}, in {self.engine.name}>"

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is also a Sequence[str]; it counts as a path
        self, source: Source, *, batch: int = ...
    ) -> Answer: ...
    @overload
    def predict(self, source: Sequence[Source], *, batch: int = ...) -> list[Answer]: ...
    def predict(self, source: Source | Sequence[Source], *, batch: int = 8) -> Answer | list[Answer]:
        """The answer for one image, or for each image of a list: `print` shows it, `save` and `plot` draw it.

        A path is decoded no larger than the network needs (a large JPEG at a reduced scale), so that its boxes
        may differ a little from those of the same image given as an array; both are in pixels of the full
        image. Grey, float or BGRA arrays are not guessed at: see Raises.

        Args:
            source: a path, an array uint8 [H, W, 3] in blue, green, red order, or a list of these.
            batch: images of a list that go through the network together. Memory grows with it, not with
                the length of the list. Where the predictor has several streams, images go alone, so many at once.

        Raises:
            DataError: a file that is missing, broken or no image; an array of another type or shape, with
                the conversion that helps. Of a list a `PicturesError`, after all others were answered: it holds
                their answers.
        """
        if isinstance(source, str | Path) or not isinstance(source, Sequence):
            return _of(self.answer([self.prepare(source)])[0], source)
        if batch < 1:
            raise ConfigError(f"batch must be 1 or more, but got {batch}")
        results: list[Answer | DataError] = []
        if self.streams > 1 and len(source) > 1:
            with ThreadPoolExecutor(self.streams, thread_name_prefix="falconet-stream") as pool:
                for answered in pool.map(lambda one: self._answer_part([one]), source):
                    results += answered
        else:
            for start in range(0, len(source), batch):
                results += self._answer_part(source[start : start + batch])
        found = [one for one in results if not isinstance(one, DataError)]
        if len(found) < len(results):
            raise PicturesError(results)
        return found

    def _answer_part(self, part: Sequence[Source]) -> list[Answer | DataError]:
        """The answers for some pictures, in one run of the network; an error in the place of a wrong one."""
        ready: list[Prepared | DataError] = []
        for one in part:
            try:
                ready.append(self.prepare(one))
            except DataError as error:
                ready.append(error)
        answers = iter(self.answer([one for one in ready if not isinstance(one, DataError)]))
        return [
            one if isinstance(one, DataError) else _of(next(answers), source)
            for one, source in zip(ready, part, strict=True)
        ]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.manifest.preprocess.height, self.manifest.preprocess.width

    def prepare(self, source: Source) -> Prepared:
        """One image, read and resized to the network's input. Raises DataError as `predict` does."""
        if isinstance(source, str | Path):
            return self.resize(*read_image(source, at_least=self.input_size))
        image = check_pixels(source)
        return self.resize(image, (image.shape[0], image.shape[1]))

    def resize(self, image: Pixels, original: tuple[int, int]) -> Prepared:
        """An image, uint8 [H, W, 3], in memory, resized to the network's input.

        Args:
            image: blue, green, red; may have been decoded at a reduced scale.
            original: (height, width) at full size, to which boxes will refer.
        """
        return Prepared(*resize(image, self.manifest.preprocess, original=original))

    def answer(self, prepared: Sequence[Prepared]) -> list[Answer]:
        """The answers for images that were prepared, in one run of the network."""
        if not prepared:
            return []
        outputs = self.run(prepared)
        return [self.task.answer(outputs, index, one.placement) for index, one in enumerate(prepared)]

    def run(self, prepared: Sequence[Prepared]) -> Outputs:
        """The network alone: its outputs, arrays [B, ...] by name, for B >= 1 images.

        Raises:
            ModelError: the graph does not run, its outputs are not those of its task, or scores are no numbers.
        """
        first = prepared[0].pixels
        outputs = self.engine(first[None] if len(prepared) == 1 else np.stack([one.pixels for one in prepared]))
        self._check_shapes(outputs, len(prepared))
        for name, values in outputs.items():
            # The largest value is NaN where any is, and is found in a few microseconds. What is not finite in a box
            # of no score does no harm; `select` looks at the others.
            if name != "boxes" and not np.isfinite(values.max(initial=0)):
                where = getattr(self.engine, "path", self.manifest.model)
                raise ModelError(
                    f"{where}: its output '{name}' is not finite (NaN or infinity), so its answers mean nothing; its "
                    "weights are damaged, or their training diverged"
                )
        return outputs

    def _check_shapes(self, outputs: Outputs, count: int) -> None:
        sizes: dict[str, int] = {"B": count}
        for name, wanted in TASKS[self.manifest.task].outputs(self.manifest).items():
            shape = outputs[name].shape
            expected = [
                sizes.setdefault(one, size) if isinstance(one, str) else one
                for one, size in zip(wanted, shape, strict=False)
            ]
            if len(shape) != len(wanted) or list(shape) != expected:
                where = getattr(self.engine, "path", self.manifest.model)
                raise ModelError(
                    f"{where}: its output '{name}' has shape {list(shape)} for {count} images; expected "
                    f"[{', '.join(map(str, wanted))}]: the file is not what its manifest says"
                )


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


def _of(answer: Answer, source: Source) -> Answer:
    """The answer, which knows its picture now."""
    known: Any = answer
    found: Answer = replace(known, source=source)
    return found
