"""Two models over a sample of an archive, without truth: where they differ most. What to look at before a roll-out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from heapq import nsmallest
from typing import Any

import numpy as np

from falconet.bulk.listing import Sources
from falconet.core.boxes import pairwise_iou
from falconet.core.errors import ConfigError
from falconet.core.images import decode_image
from falconet.core.page import render_page
from falconet.core.page_picture import LONGEST_SIDE, PagePicture, PictureBox
from falconet.core.types import Classification, Detections
from falconet.runtime.pipeline import Result, predict_frames
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import ImageBytes

SAME_PLACE = 0.5
"""IoU from which on boxes of a class in both answers are of one object."""

SHOWN = 24
"""Pictures on the page."""

LISTED = 200
"""Pictures that the figures name."""


@dataclass(frozen=True, slots=True)
class Differing:
    """A picture that two models answered.

    Attributes:
        picture: what was answered.
        answers: of both models.
        alone: of each, whether a box has no counterpart in the other answer [N]; of classifiers whether the class has.
        apart: the sum of the scores of boxes without counterpart; of classifiers half the sum of differences of
            probabilities, where the most probable classes differ.
    """

    picture: ImageBytes
    answers: tuple[Any, Any]
    alone: tuple[Any, Any]
    apart: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models over the same pictures.

    Attributes:
        models: what is said about both.
        pictures: that both answered; broken: that could not be read.
        differing: those that are not answered alike, most different first.
        classes: by class name how many boxes (of classifiers pictures) both have, the first alone, the second alone.
    """

    models: tuple[dict[str, Any], dict[str, Any]]
    pictures: int
    broken: int
    differing: list[Differing]
    classes: dict[str, tuple[int, int, int]]

    @property
    def sentence(self) -> str:
        """What it comes to."""
        both, first, second = (sum(counts[which] for counts in self.classes.values()) for which in range(3))
        alike = self.pictures - len(self.differing)
        what = "boxes" if self.models[0]["task"] == "detect" else "classes"
        return (
            f"{alike:,} of {self.pictures:,} pictures are answered alike. Both give {both:,} {what}; A alone gives "
            f"{first:,}, B alone {second:,}."
        )

    def as_dict(self) -> dict[str, Any]:
        """All figures, and the first pictures, as plain values."""
        return {
            "models": list(self.models),
            "pictures": self.pictures,
            "broken": self.broken,
            "alike": self.pictures - len(self.differing),
            "classes": {
                name: dict(zip(("both", "first_alone", "second_alone"), counts, strict=True))
                for name, counts in self.classes.items()
            },
            "most_different": [{"source": str(one.picture), "apart": one.apart} for one in self.differing[:LISTED]],
        }


def sample(sources: Sources, most: int) -> list[ImageBytes]:
    """At most so many of the pictures, the same ones each time, spread over all of them."""

    def order(name: str) -> bytes:
        return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()

    chosen = set(nsmallest(most, (name for block in sources.blocks() for name in block.names()), key=order))
    found = {}
    for block in sources.blocks():
        if not chosen.isdisjoint(block.names()):
            found.update({one.name: one for one in block.pictures() if one.name in chosen})
    return list(found.values())


def compare(
    predictors: tuple[Predictor[Any], Predictor[Any]],
    models: tuple[dict[str, Any], dict[str, Any]],
    pictures: Sequence[ImageBytes],
    *,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Compared:
    """Both models over the same pictures; memory holds the answers, not the pictures.

    Args:
        models: what is said about each; `task` and `classes` at least.
        tell: is told after each answer (how many are done, how many there are).

    Raises:
        ConfigError: the models do different things, or have no class in common.
    """
    _check(models)
    answers: list[dict[str, Any]] = [{}, {}]
    for number, predictor in enumerate(predictors):
        with closing(predict_frames(predictor, pictures)) as items:
            for count, item in enumerate(items, start=1):
                if isinstance(item, Result):
                    answers[number][str(item.frame.source)] = item.answer
                tell(number * len(pictures) + count, 2 * len(pictures))
    counts: Counter[tuple[str, int]] = Counter()
    differing = []
    answered = [one for one in pictures if one.name in answers[0] and one.name in answers[1]]
    for picture in answered:
        one = _differing(picture, answers[0][picture.name], answers[1][picture.name], counts)
        if one.apart > 0:
            differing.append(one)
    differing.sort(key=lambda one: (-one.apart, one.picture.name))
    names = dict.fromkeys(name for model in models for name in model["classes"])
    classes = {
        name: (counts[name, 0], counts[name, 1], counts[name, 2])
        for name in names
        if any(counts[name, which] for which in range(3))
    }
    return Compared(models, len(answered), len(pictures) - len(answered), differing, classes)


def _check(models: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = models
    if first["task"] != second["task"]:
        raise ConfigError(
            f"--compare: one model does {first['task']}, the other {second['task']}; expected two of a kind"
        )
    if set(first["classes"]).isdisjoint(second["classes"]):
        raise ConfigError(
            f"--compare: the models have no class in common: {', '.join(first['classes'][:5])}, ... and "
            f"{', '.join(second['classes'][:5])}, ..."
        )


def _differing(picture: ImageBytes, first: Any, second: Any, counts: "Counter[tuple[str, int]]") -> Differing:
    if isinstance(first, Classification):
        return _classes_differing(picture, first, second, counts)
    alone = (np.ones(len(first), bool), np.ones(len(second), bool))
    names = ([name for name, _, _ in first], [name for name, _, _ in second])
    for place, other in _counterparts(first, second, names):
        alone[0][place] = alone[1][other] = False
    for which, own in enumerate(names):
        for name, is_alone in zip(own, alone[which], strict=True):
            if is_alone or which == 0:
                counts[name, which + 1 if is_alone else 0] += 1
    apart = sum(float(answer.scores[mask].sum()) for answer, mask in zip((first, second), alone, strict=True))
    return Differing(picture, (first, second), alone, apart)


def _counterparts(
    first: Detections, second: Detections, names: tuple[list[str], list[str]]
) -> Iterator[tuple[int, int]]:
    """Pairs of boxes of a class that overlap enough, those that overlap most first, each box once."""
    if not len(first) or not len(second):
        return
    overlap = pairwise_iou(first.boxes, second.boxes)
    overlap[np.array(names[0], object)[:, None] != np.array(names[1], object)[None]] = 0
    while (best := int(overlap.argmax())) >= 0 and overlap.flat[best] >= SAME_PLACE:
        place, other = divmod(best, overlap.shape[1])
        yield place, other
        overlap[place], overlap[:, other] = 0, 0


def _classes_differing(
    picture: ImageBytes, first: Classification, second: Classification, counts: "Counter[tuple[str, int]]"
) -> Differing:
    if first.name == second.name:
        counts[first.name, 0] += 1
        return Differing(picture, (first, second), (False, False), 0.0)
    counts[first.name, 1] += 1
    counts[second.name, 2] += 1
    known: Counter[str] = Counter(dict(zip(first.names, first.probabilities.tolist(), strict=True)))
    known.subtract(dict(zip(second.names, second.probabilities.tolist(), strict=True)))
    return Differing(picture, (first, second), (True, True), sum(abs(value) for value in known.values()) / 2)


def render(compared: Compared) -> str:
    """The page with the pictures that differ most, as HTML text. Raises DataError for one that cannot be read now."""
    values = {
        "models": [
            {
                "letter": letter,
                "name": model["model"]["file"],
                "facts": [
                    ("network", model["model"]["network"]),
                    ("sha256", model["model"]["sha256"][:16]),
                    ("runs in", f"{model['engine']} {model['engine_version']}, {model['precision']}"),
                    ("selection", ", ".join(f"{key} {value}" for key, value in model["selection"].items())),
                ],
            }
            for letter, model in zip("AB", compared.models, strict=True)
        ],
        "classes": sorted(compared.classes.items(), key=lambda one: -(one[1][1] + one[1][2])),
        "pairs": [_drawn(one) for one in compared.differing[:SHOWN]],
        "boxes": compared.models[0]["task"] == "detect",
        "same_place": SAME_PLACE,
    }
    lead = [compared.sentence]
    if compared.broken:
        lead.append(f"{compared.broken:,} further pictures could not be read.")
    return render_page("falconet.bulk/pages/compare.html", values, title="Where two models differ", lead=lead)


def _drawn(one: Differing) -> list[PagePicture]:
    image, original = decode_image(one.picture.load(), one.picture.name, at_least=(LONGEST_SIDE, LONGEST_SIDE))
    drawn = []
    for letter, answer, alone in zip("AB", one.answers, one.alone, strict=True):
        boxes: list[PictureBox] = []
        caption = f"{letter}: {answer}"
        if isinstance(answer, Detections):
            caption = f"{letter}: {len(answer)} boxes, {int(alone.sum())} alone"
            for (name, score, corners), mine in zip(answer, alone, strict=True):
                boxes.append(
                    PictureBox(corners, "lost" if mine else "right", f"{name} {score:.2f}", f"{name} {score:.2f}")
                )
        boxes.sort(key=lambda box: box.kind == "lost")
        drawn.append(PagePicture.of(image, original, one.picture.name, boxes, caption=caption))
    return drawn
