"""The answer for one picture, as JSON or drawn."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

from falconet.core.draw import draw_lines
from falconet.core.images import decode_image, encode_image
from falconet.core.types import Classification, Detections, Pixels
from falconet.runtime.predictor import Predictor
from falconet.runtime.tasks import Task

USUAL_TOP = 5
"""Classes that a classifier tells."""

DRAWN_TOP = 3


@dataclass(frozen=True, slots=True)
class Want:
    """The form of an answer.

    Attributes:
        relative: boxes are fractions of width and height.
        drawn: the picture with the answer in it, besides.
        score, top, classes: of a classifier, the classes that are told.
    """

    relative: bool = False
    drawn: bool = False
    score: float | None = None
    top: int | None = None
    classes: tuple[str, ...] | None = None


class Answered(NamedTuple):
    """What a picture shows."""

    height: int
    width: int
    found: dict[str, Any]
    """`detections` or `classes`."""
    drawn: bytes | None
    """A JPEG."""
    decode: float
    """Milliseconds for decoding and resizing."""
    queue: float
    """Milliseconds that it waited."""
    detect: float
    """Milliseconds of the network and of selecting boxes."""


def answer_picture(
    predictor: Predictor[Any], task: Task[Any], data: bytes, name: str, want: Want, *, queue: float
) -> Answered:
    """Decode, resize, run, select; and draw, where that is wanted.

    Args:
        data: of the picture's file.
        name: of the picture, for messages.
        queue: seconds that it waited.

    Raises:
        DataError: the picture cannot be decoded.
        ModelError: the model does not run, or its answers mean nothing.
    """
    start = perf_counter()
    image, (height, width) = decode_image(data, name, at_least=None if want.drawn else predictor.input_size)
    prepared = predictor.resize(image, (height, width))
    decoded = perf_counter()
    found = task.answer(predictor.run([prepared]), 0, prepared.placement)
    detected = perf_counter()
    if isinstance(found, Detections):
        entry = {"detections": _boxes(found, height, width, relative=want.relative)}
        drawn = task.draw(image, found) if want.drawn else None
    else:
        rows = _classes(found, want)
        entry = {"classes": rows}
        drawn = _named(image, rows) if want.drawn else None
    jpeg = None if drawn is None else encode_image(drawn, ".jpg", jpeg_quality=90)
    return Answered(
        height, width, entry, jpeg, 1e3 * (decoded - start), 1e3 * queue, 1e3 * (detected - decoded)
    )  # fmt: skip


def _boxes(found: Detections, height: int, width: int, *, relative: bool) -> list[dict[str, Any]]:
    sides, digits = ((width, height, width, height), 6) if relative else ((1, 1, 1, 1), 3)
    return [
        {
            "label": name,
            "label_id": label,
            "score": round(score, 6),
            "box": [round(value / side, digits) for value, side in zip(box, sides, strict=True)],
        }
        for label, (name, score, box) in zip(found.labels.tolist(), found, strict=True)
    ]


def _classes(found: Classification, want: Want) -> list[dict[str, Any]]:
    rows = [
        {"label": found.name_of(label), "label_id": label, "score": round(float(found.probabilities[label]), 6)}
        for label in found.ranked(len(found)).tolist()
        if want.classes is None or found.name_of(label) in want.classes
    ]
    return [row for row in rows if want.score is None or row["score"] > want.score][: want.top or USUAL_TOP]


def _named(image: Pixels, rows: list[dict[str, Any]]) -> Pixels:
    return draw_lines(image, [f"{row['label']} {row['score']:.2f}" for row in rows[:DRAWN_TOP]])
