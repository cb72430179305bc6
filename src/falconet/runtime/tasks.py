"""What a model answers, on the device side: one row per task.

A task says which outputs a model file has, what they mean for an image, and how an answer is printed, drawn and saved.
Engines, the predictor, the pipeline, writers and the command line know nothing else about it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from falconet.core.calibration import ScoreScale, same_point
from falconet.core.errors import ConfigError
from falconet.core.manifest import Manifest, ScoreMap, Selection, StoredPoint
from falconet.core.select import select
from falconet.core.types import Classification, Detections, Floats, Ints, Pixels, Placement

Shape = tuple[int | str, ...]
"""Sizes of an output; a letter stands for any size."""

Outputs = dict[str, Floats]
"""What a network gives for a batch: arrays [B, ...] by name."""

Answer = TypeVar("Answer")


class Task(Protocol[Answer]):
    """One task of one model.

    Attributes:
        counted: what an answer has several of, for a summary; empty where it is one.
        file_stem: of files that list all answers.
        kinds: what can be saved; default_kinds: what is, where nothing is named.
        csv_columns: of a CSV file, behind source and frame.
        hint: how to keep answers.
    """

    counted: str
    file_stem: str
    kinds: tuple[str, ...]
    default_kinds: tuple[str, ...]
    csv_columns: tuple[str, ...]
    hint: str

    def answer(self, outputs: Outputs, index: int, placement: Placement) -> Answer:
        """The answer for image `index` of a batch."""
        ...

    def names(self, answer: Answer) -> "Counter[str]":
        """How often each class is in an image, for a video's summary."""
        ...

    def line(self, answer: Answer) -> str:
        """The answer in a few words."""
        ...

    def draw(self, image: Pixels, answer: Answer) -> Pixels:
        """A copy of the image, at full size, with the answer drawn in."""
        ...

    def entry(self, answer: Answer) -> dict[str, Any]:
        """The answer for a JSON document."""
        ...

    def rows(self, answer: Answer) -> Iterator[tuple[str | int | float, ...]]:
        """Lines of a CSV file, aligned with `csv_columns`."""
        ...

    def tree(self, answer: Answer) -> dict[str, Any]:
        """All of the answer as plain values, to the last digit."""
        ...

    def from_tree(self, tree: Mapping[str, Any], names: tuple[str, ...]) -> Answer:
        """The answer that `tree` was made of."""
        ...


class Detect:
    """Boxes with classes and scores.

    Args:
        manifest: of the model.
        selection: thresholds and limits, of calibrated scores where the model has them; None takes those the model was
            exported with.
        classes: names of the only classes to report; None reports all.
        operating_point: name of thresholds that the model was stored with, instead of that of `selection`.
        calibration: what scores are told as, one map per class or none; None takes that of the model.

    Raises:
        ConfigError: a class or an operating point that the model does not know.
    """

    counted = "detection"
    file_stem = "detections"
    kinds: tuple[str, ...] = ("images", "json", "csv", "coco", "yolo")
    default_kinds: tuple[str, ...] = ("images",)
    csv_columns: tuple[str, ...] = ("class", "score", "x1", "y1", "x2", "y2")
    hint = "--out FOLDER draws the boxes, --save names other files"

    def __init__(
        self,
        manifest: Manifest,
        *,
        selection: Selection | None = None,
        classes: Sequence[str] | None = None,
        operating_point: str | None = None,
        calibration: Sequence[ScoreMap] | None = None,
    ) -> None:
        self._names = manifest.classes
        own = manifest.told_selection if calibration is None else manifest.selection
        self._selection = own if selection is None else selection
        self._classes = None if classes is None else _class_indices(classes, self._names)
        maps = manifest.calibration if calibration is None else tuple(calibration)
        self._scale: ScoreScale | None = None
        if maps or operating_point is not None:
            threshold = self._selection.score_threshold
            thresholds = (
                np.full(len(self._names), threshold, np.float32)
                if operating_point is None
                else np.array(_stored_point(manifest, operating_point).thresholds, np.float32)
            )
            self._scale = ScoreScale(maps, thresholds, self._selection.max_detections)
            self._selection = self._scale.wide(self._selection)

    def answer(self, outputs: Outputs, index: int, placement: Placement) -> Detections:
        """The detections of image `index`, in pixels of the original image."""
        boxes, scores = outputs["boxes"][index], outputs["scores"][index]
        found = select(boxes, scores, placement, self._selection, names=self._names, classes=self._classes)
        return found if self._scale is None else self._scale.apply(found)

    def names(self, answer: Detections) -> "Counter[str]":
        """How many boxes there are of each class."""
        return Counter(name for name, _, _ in answer)

    def line(self, answer: Detections) -> str:
        """ "2 person 0.91 to 0.45, car 0.64"."""
        return str(answer)

    def draw(self, image: Pixels, answer: Detections) -> Pixels:
        """Boxes, names and scores."""
        from falconet.core.draw import draw_boxes

        return draw_boxes(image, answer.boxes, answer.labels, answer.names, answer.scores)

    def entry(self, answer: Detections) -> dict[str, Any]:
        """`{"detections": [{"class", "label", "score", "box": [x1, y1, x2, y2]}]}`, in pixels of the full image."""
        return {
            "detections": [
                {"class": name, "label": label, "score": round(score, 6), "box": [round(value, 3) for value in box]}
                for label, (name, score, box) in zip(answer.labels.tolist(), answer, strict=True)
            ]
        }

    def rows(self, answer: Detections) -> Iterator[tuple[str | int | float, ...]]:
        """One line per box."""
        for name, score, box in answer:
            yield (name, round(score, 6), *(round(value, 3) for value in box))

    def tree(self, answer: Detections) -> dict[str, Any]:
        """Boxes, scores and labels."""
        return {key: getattr(answer, key).tolist() for key in ("boxes", "scores", "labels")}

    def from_tree(self, tree: Mapping[str, Any], names: tuple[str, ...]) -> Detections:
        """The detections that `tree` was made of."""
        return Detections(np.asarray(tree["boxes"], np.float32).reshape(-1, 4), tree["scores"], tree["labels"], names)


class Classify:
    """What an image shows.

    Args:
        manifest: of the model.
        top: the most probable classes that are printed and saved.
    """

    counted = ""
    file_stem = "classes"
    kinds: tuple[str, ...] = ("images", "json", "csv")
    default_kinds: tuple[str, ...] = ("images", "csv")
    csv_columns: tuple[str, ...] = ("rank", "class", "score")
    hint = "--out FOLDER keeps the pictures with their classes and a table"

    def __init__(self, manifest: Manifest, *, top: int = 5) -> None:
        self._names = manifest.classes
        self._top = top

    def answer(self, outputs: Outputs, index: int, placement: Placement) -> Classification:  # noqa: ARG002
        """The classes of image `index`."""
        return Classification(outputs["probabilities"][index], self._names)

    def names(self, answer: Classification) -> "Counter[str]":
        """The most probable class."""
        return Counter([answer.name])

    def line(self, answer: Classification) -> str:
        """ "cat 0.912, dog 0.041"."""
        return ", ".join(f"{name} {score:.3f}" for name, score in answer.top(self._top))

    def draw(self, image: Pixels, answer: Classification) -> Pixels:
        """The most probable classes, three at most, in the upper left corner."""
        from falconet.core.draw import draw_lines

        return draw_lines(image, [f"{name} {score:.2f}" for name, score in answer.top(min(self._top, 3))])

    def entry(self, answer: Classification) -> dict[str, Any]:
        """`{"classes": [{"name", "score"}]}`, the most probable first."""
        return {"classes": [{"name": name, "score": round(score, 6)} for name, score in answer.top(self._top)]}

    def rows(self, answer: Classification) -> Iterator[tuple[str | int | float, ...]]:
        """One line per class, the most probable first."""
        for rank, (name, score) in enumerate(answer.top(self._top), start=1):
            yield (rank, name, round(score, 6))

    def tree(self, answer: Classification) -> dict[str, Any]:
        """The probabilities."""
        return {"probabilities": answer.probabilities.tolist()}

    def from_tree(self, tree: Mapping[str, Any], names: tuple[str, ...]) -> Classification:
        """The classification that `tree` was made of."""
        return Classification(np.asarray(tree["probabilities"], np.float32), names)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task.

    Attributes:
        noun: what its models are called.
        outputs: names and shapes of a model file's outputs, in their order.
        options: keyword arguments of `open`; others mean nothing for the task.
        open: (manifest, **options) -> Task.
    """

    noun: str
    outputs: Callable[[Manifest], Mapping[str, Shape]]
    options: frozenset[str]
    open: Callable[..., Task[Any]]


TASKS: Mapping[str, TaskRow] = {
    "detect": TaskRow(
        noun="detector",
        outputs=lambda manifest: {"boxes": ("B", "N", 4), "scores": ("B", "N", len(manifest.classes))},
        options=frozenset({"selection", "classes", "operating_point", "calibration"}),
        open=Detect,
    ),
    "classify": TaskRow(
        noun="classifier",
        outputs=lambda manifest: {"probabilities": ("B", len(manifest.classes))},
        options=frozenset({"top"}),
        open=Classify,
    ),
}
"""The tasks, by the name in a model's manifest."""


def open_task(manifest: Manifest, **options: object) -> Task[Any]:
    """The task of a model; options that are None take their defaults.

    Raises:
        ConfigError: an option that means nothing for this task, or a class the model does not know.
    """
    row = TASKS[manifest.task]
    given = {name: value for name, value in options.items() if value is not None}
    if foreign := sorted(given.keys() - row.options):
        raise ConfigError(f"{', '.join(foreign)}: means nothing for a {row.noun}; leave it out")
    return row.open(manifest, **given)


def tally(found: "Counter[str]") -> str:
    """ "2 person, 1 car", the most frequent first; "nothing" where nothing was found."""
    return ", ".join(f"{count} {name}" for name, count in found.most_common()) or "nothing"


def _stored_point(manifest: Manifest, name: str) -> StoredPoint:
    for point in manifest.operating_points:
        if same_point(point.name) == same_point(name):
            return point
    stored = ", ".join(point.name for point in manifest.operating_points) or "none"
    raise ConfigError(
        f"operating point {name}: the model was not stored with it, but with: {stored}; 'falconet calibrate MODEL "
        f"--operating-point {name}' stores it"
    )


def _class_indices(classes: Sequence[str], names: tuple[str, ...]) -> Ints:
    if isinstance(classes, str):
        classes = [classes]
    unknown = [name for name in classes if name not in names]
    if unknown or not classes:
        problem = f"does not know {', '.join(repr(name) for name in unknown)}" if unknown else "got no class"
        raise ConfigError(f"classes: the model {problem}; its classes are: {', '.join(names)}")
    return np.array(sorted({names.index(name) for name in classes}), np.int64)
