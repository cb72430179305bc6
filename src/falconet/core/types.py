"""The data types that run through Falconet: plain arrays, checked on creation.

Boxes are float32 `xyxy` corners everywhere; each type says in which pixels. A box covers the continuous
area between its corners, so its width is x2 - x1 (no "+ 1").
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import DataError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


def _boxes(value: Any, owner: str) -> Floats:
    boxes = np.asarray(value, dtype=np.float32)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{owner}.boxes must have shape [N, 4] (x1, y1, x2, y2), but got {list(boxes.shape)}")
    return boxes


def _vector(value: Any, dtype: Any, length: int, name: str) -> Any:
    vector = np.asarray(value, dtype=dtype)
    if vector.shape != (length,):
        raise ValueError(f"{name} must have shape [{length}], one per box, but got {list(vector.shape)}")
    return vector


@dataclass(frozen=True, slots=True)
class Record:
    """One picture of a data set with its boxes, without its pixels.

    Attributes:
        image_id: unique within the data set: an int where the source has one (COCO), else a string.
        path: the picture's file.
        width, height: in pixels as displayed (EXIF orientation applied); None where the source does not say.
        boxes: [G, 4] xyxy in pixels of the picture as displayed.
        labels: [G] index into the data set's class names.
        crowd: [G] True where a box marks a crowd or an object that is hard to see: training learns nothing from the
            area, neither that something is there nor that nothing is; evaluation does not count it.
        areas: [G] object area in square pixels, for the small/medium/large split; None: box areas count.
        source: "file" or "file (image id)", for messages.
        box_keys: where each box is written in the source: annotation id (COCO) or line; empty where unknown.
    """

    image_id: int | str
    path: Path
    width: int | None
    height: int | None
    boxes: Floats
    labels: Ints
    crowd: NDArray[np.bool_]
    areas: Floats | None = None
    source: str = ""
    box_keys: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        boxes = _boxes(self.boxes, "Record")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _vector(self.labels, np.int64, len(boxes), "Record.labels"))
        object.__setattr__(self, "crowd", _vector(self.crowd, np.bool_, len(boxes), "Record.crowd"))
        if self.areas is not None:
            object.__setattr__(self, "areas", _vector(self.areas, np.float32, len(boxes), "Record.areas"))
        if self.box_keys and len(self.box_keys) != len(boxes):
            raise ValueError(f"Record.box_keys must be empty or have {len(boxes)} entries, one per box")

    def take(self, keep: NDArray[np.bool_]) -> "Record":
        """The record with only the boxes where `keep` [G] is True."""
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            crowd=self.crowd[keep],
            areas=None if self.areas is None else self.areas[keep],
            box_keys=tuple(key for key, kept in zip(self.box_keys, keep, strict=True) if kept) if self.box_keys else (),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture in memory with its boxes.

    Attributes:
        image: uint8 [H, W, 3], channels blue, green, red (OpenCV's order).
        boxes: [G, 4] xyxy in pixels of `image`.
        labels: [G] class indices.
        ignored: [I, 4] xyxy in pixels of `image`: nothing is learnt about what these areas show.
    """

    image: Pixels
    boxes: Floats
    labels: Ints
    ignored: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(
                f"Sample.image must be uint8 [H, W, 3], but got {self.image.dtype} {list(self.image.shape)}"
            )
        boxes = _boxes(self.boxes, "Sample")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", _vector(self.labels, np.int64, len(boxes), "Sample.labels"))
        object.__setattr__(self, "ignored", _boxes(self.ignored, "Sample"))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the network input: input = original * scale + offset, per axis.

    Attributes:
        scale: (x, y) network pixels per original pixel.
        offset: (x, y) network pixels left of and above the picture (letterbox), 0 when stretched.
        original: (height, width) of the picture.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    original: tuple[int, int]

    def to_input(self, boxes: Floats) -> Floats:
        """Boxes [N, 4] from original pixels to network-input pixels."""
        scale = np.array(self.scale * 2, np.float32)
        offset = np.array(self.offset * 2, np.float32)
        return np.asarray(boxes, np.float32).reshape(-1, 4) * scale + offset

    def to_original(self, boxes: Floats) -> Floats:
        """Boxes [N, 4] from network-input pixels to original pixels, clipped to the picture."""
        scale = np.array(self.scale * 2, np.float32)
        offset = np.array(self.offset * 2, np.float32)
        height, width = self.original
        boxes = (np.asarray(boxes, np.float32).reshape(-1, 4) - offset) / scale
        return np.asarray(np.clip(boxes, 0.0, np.array([width, height, width, height], np.float32)), np.float32)


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one picture, best score first.

    Attributes:
        boxes: [N, 4] xyxy in pixels of the original picture.
        scores: [N] 0..1.
        labels: [N] index into `names`.
        names: class names of the model.
        source: the picture, where it is known: a path, or pixels as they were given.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    names: tuple[str, ...] = field(default=())
    source: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        boxes = _boxes(self.boxes, "Detections")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", _vector(self.scores, np.float32, len(boxes), "Detections.scores"))
        object.__setattr__(self, "labels", _vector(self.labels, np.int64, len(boxes), "Detections.labels"))
        if self.names and len(boxes) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise ValueError(
                f"Detections.labels must lie in 0..{len(self.names) - 1} for {len(self.names)} names, "
                f"but got {self.labels.min()}..{self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[tuple[str, float, tuple[float, float, float, float]]]:
        """(class name, score, (x1, y1, x2, y2)) for each detection."""
        for box, score, label in zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True):
            yield self.name(label), score, (box[0], box[1], box[2], box[3])

    def __str__(self) -> str:
        """ "2 person 0.91 to 0.45, car 0.64": scores of the best and the last of each class, frequent ones first."""
        scores: dict[str, list[float]] = {}
        for name, score, _ in self:
            scores.setdefault(name, []).append(score)
        parts = []
        for name, own in sorted(scores.items(), key=lambda item: -len(item[1])):
            best, last = f"{max(own):.2f}", f"{min(own):.2f}"
            number = f"{len(own)} " if len(own) > 1 else ""
            parts.append(f"{number}{name} {best}" + (f" to {last}" if last != best else ""))
        return ", ".join(parts) or "nothing"

    def __repr__(self) -> str:
        return f"<Detections: {self}>"

    def plot(self) -> Pixels:
        """The picture with boxes, names and scores drawn in: uint8 [H, W, 3], blue, green, red.

        Raises:
            DataError: it is not known which picture this is, or it cannot be read any more.
        """
        from falconet.core.draw import draw_boxes

        return draw_boxes(_picture(self.source), self.boxes, self.labels, self.names, self.scores)

    def save(self, path: str | Path) -> Path:
        """Write what `plot` draws to a file; the ending decides the format. Returns its path. Raises as `plot` does."""
        return _save(self.plot(), path)

    def to_pandas(self) -> Any:
        """A pandas DataFrame: file, class, label, score, x1, y1, x2, y2. Raises ConfigError where pandas is missing."""
        from falconet.core import other_forms

        return other_forms.to_library(self, "pandas")

    def to_polars(self) -> Any:
        """A polars DataFrame with the columns of `to_pandas`. Raises ConfigError where polars is missing."""
        from falconet.core import other_forms

        return other_forms.to_library(self, "polars")

    def to_arrow(self) -> Any:
        """A pyarrow Table with the columns of `to_pandas`. Raises ConfigError where pyarrow is missing."""
        from falconet.core import other_forms

        return other_forms.to_library(self, "pyarrow")

    def to_supervision(self) -> Any:
        """supervision's Detections, class names under data["class_name"]. Raises ConfigError where it is missing."""
        from falconet.core import other_forms

        return other_forms.to_supervision(self)

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """As COCO's evaluation, and FiftyOne, read results: image_id, category_id from 1, bbox [x, y, w, h], score."""
        from falconet.core import other_forms

        return other_forms.to_coco(self, image_id)

    def to_yolo(self, size: tuple[int, int] | None = None) -> str:
        """A line per detection: class x y width height score, as fractions of the picture.

        Args:
            size: (height, width) of the picture in pixels; None takes it from the picture, which is read for it.

        Raises:
            DataError: no size, and it is not known which picture this is, or it cannot be read any more.
        """
        from falconet.core import other_forms

        return other_forms.to_yolo(self, size)

    def name(self, label: int) -> str:
        """The name of a class index; "class N" where the model carries no names."""
        return self.names[label] if self.names else f"class {label}"

    def above(self, score: float) -> "Detections":
        """Those with a score greater than `score`."""
        keep = self.scores > score
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.names, self.source)

    def first(self, count: int) -> "Detections":
        """The best `count` of them."""
        if len(self) <= count:
            return self
        return Detections(self.boxes[:count], self.scores[:count], self.labels[:count], self.names, self.source)


@dataclass(frozen=True, slots=True)
class Classification:
    """How probable each class is for one picture.

    Attributes:
        probabilities: [C] 0..1, sum 1.
        names: class names of the model.
        source: the picture, where it is known: a path, or pixels as they were given.
    """

    probabilities: Floats
    names: tuple[str, ...] = field(default=())
    source: Any = field(default=None, compare=False)

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, np.float32)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"Classification.probabilities must have shape [C], but got {list(values.shape)}")
        if self.names and len(self.names) != len(values):
            raise ValueError(f"Classification.names must have {len(values)} entries, but got {len(self.names)}")
        object.__setattr__(self, "probabilities", values)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """(class name, probability), the most probable first."""
        return iter(self.top(len(self)))

    def __str__(self) -> str:
        """ "cat 0.912, dog 0.041", of the five most probable classes."""
        return ", ".join(f"{name} {score:.3f}" for name, score in self.top())

    def __repr__(self) -> str:
        return f"<Classification: {self}>"

    def plot(self) -> Pixels:
        """The picture with its most probable classes, three at most: uint8 [H, W, 3], blue, green, red.

        Raises:
            DataError: it is not known which picture this is, or it cannot be read any more.
        """
        from falconet.core.draw import draw_lines

        return draw_lines(_picture(self.source), [f"{name} {score:.2f}" for name, score in self.top(3)])

    def save(self, path: str | Path) -> Path:
        """Write what `plot` draws to a file; the ending decides the format. Returns its path. Raises as `plot` does."""
        return _save(self.plot(), path)

    @property
    def label(self) -> int:
        """Index of the most probable class."""
        return int(self.ranked(1)[0])

    @property
    def name(self) -> str:
        """Name of the most probable class."""
        return self.name_of(self.label)

    @property
    def score(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities[self.label])

    def name_of(self, label: int) -> str:
        """The name of a class index; "class N" where the model carries no names."""
        return self.names[label] if self.names else f"class {label}"

    def ranked(self, count: int) -> Ints:
        """Indices of the `count` most probable classes, best first; of equal ones the lower first."""
        return np.argsort(-self.probabilities, kind="stable")[:count].astype(np.int64)

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(class name, probability) of the `count` most probable classes, best first."""
        return [(self.name_of(int(label)), float(self.probabilities[label])) for label in self.ranked(count)]


def _picture(source: Any) -> Pixels:
    """The pixels of an answer's picture."""
    from falconet.core.images import read_image

    if source is None:
        raise DataError(
            "this answer does not know its picture; take one of Predictor.predict, or draw with "
            "falconet.core.draw.draw_boxes"
        )
    if isinstance(source, str | Path):
        return read_image(source)[0]
    return np.asarray(source, np.uint8)


def _save(image: Pixels, path: str | Path) -> Path:
    from falconet.core.images import write_image

    write_image(Path(path), image)
    return Path(path)
