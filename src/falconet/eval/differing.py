"""Pictures on which two models differ most: what one of them finds and the other one does not."""

from collections.abc import Sequence
from typing import NamedTuple

from falconet.eval.classification import ClassificationResults
from falconet.eval.curves import ImageResult, pictures
from falconet.eval.detection import DetectionResults
from falconet.eval.picture import ImageView

SHOWN = 6
"""Pictures for each of the two models."""

LETTERS = ("A", "B")
"""What the two models are called."""


class Differing(NamedTuple):
    """Pictures that one model answers better.

    Attributes:
        first, second: where the first, or the second one does; most different first. Each picture is seen twice, as the
            first and as the second model answers it, or once where the answer is about the whole picture.
    """

    first: Sequence[Sequence[ImageView]]
    second: Sequence[Sequence[ImageView]]


class _Pair(NamedTuple):
    """One picture, and by how many objects and boxes the second model answers it better, or worse."""

    picture: int
    gain: int


def differing_detections(first: DetectionResults, second: DetectionResults) -> Differing:
    """Of two detectors at their own score thresholds; the same pictures in the same order.

    A model is better by the objects that it alone finds and by the false boxes that it draws less.
    """
    results = [pictures(one.names, one.records, one.answers, score=one.own_score) for one in (first, second)]
    pairs = [_Pair(one.index, _gain(one, other)) for one, other in zip(*results, strict=True)]

    def views(chosen: Sequence[_Pair]) -> list[list[ImageView]]:
        return [_detections((first, second), (results[0][pair.picture], results[1][pair.picture])) for pair in chosen]

    return Differing(views(_most(pairs, -1)), views(_most(pairs, 1)))


def differing_classifications(first: ClassificationResults, second: ClassificationResults) -> Differing:
    """Of two classifiers: pictures that one of them names rightly; the same pictures in the same order."""
    pairs = []
    for index, record in enumerate(first.records):
        true = int(record.labels[0])
        right = [int(one.answers[index].labels[0]) == true for one in (first, second)]
        pairs.append(_Pair(index, right[1] - right[0]))

    def views(chosen: Sequence[_Pair]) -> list[list[ImageView]]:
        return [[_classified(first, second, pair.picture)] for pair in chosen]

    return Differing(views(_most(pairs, -1)), views(_most(pairs, 1)))


def _gain(first: ImageResult, second: ImageResult) -> int:
    """By how much the second result is better; negative: the first one. The larger of both counts, where each has."""
    more = int((second.truth_found & ~first.truth_found).sum()) + max(0, first.false - second.false)
    less = int((first.truth_found & ~second.truth_found).sum()) + max(0, second.false - first.false)
    return more if more > less else -less if less > more else 0


def _most(pairs: Sequence[_Pair], sign: int) -> list[_Pair]:
    found = sorted((pair for pair in pairs if pair.gain * sign > 0), key=lambda pair: (-abs(pair.gain), pair.picture))
    return found[:SHOWN]


def _detections(
    models: tuple[DetectionResults, DetectionResults], results: tuple[ImageResult, ImageResult]
) -> list[ImageView]:
    apart = results[0].truth_found != results[1].truth_found
    views = []
    for letter, model, result in zip(LETTERS, models, results, strict=True):
        record, found = model.records[result.index], model.answers[result.index].above(model.own_score)
        caption = f"{letter}: {result.true} right, {result.false} false, {result.missed} missed"
        views.append(ImageView(record, found, result, caption, apart))
    return views


def _classified(first: ClassificationResults, second: ClassificationResults, index: int) -> ImageView:
    record = first.records[index]
    said = []
    for letter, model in zip(LETTERS, (first, second), strict=True):
        answer = model.answers[index]
        said.append(f"{letter} says {model.names[int(answer.labels[0])]} ({float(answer.scores[0]):.2f})")
    return ImageView(record, caption=f"{first.names[int(record.labels[0])]}: {', '.join(said)}")
