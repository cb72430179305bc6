"""Which labels are doubtful, by answers of a detector that has not learnt from them.

Every kind of mistake is held against what the detector usually does. How much a score is worth is measured: of the
detections with that score and class, so many agree with a label. How unusual it is that a label finds no support, or
another outline, is counted among labels of the same class and of nearly its size: one of a class that is seldom found
is not suspicious for not being found. Bayes' rule turns both into the chance that the label is wrong, so that kinds can
be compared; labels that are doubted then count less in what is usual, and all is done once more.

The kinds of mistakes, and the idea to score each by predictions that were made without the label, are those of
ObjectLab (U. Tkachenko, A. Thyagarajan, J. Mueller, arXiv:2309.00832), whose scores are similarities of boxes instead.
The curve over scores is J. Platt's ("Probabilistic outputs for support vector machines", 1999).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.boxes import area
from falconet.core.figures import percent
from falconet.core.types import Detections, Floats, Ints, Record
from falconet.eval.evidence import AGREE, TOUCH, PictureEvidence, gather, reliability

Kind = Literal["missing", "nothing there", "wrong class", "bad outline"]
Box = tuple[float, float, float, float]
Numbers = NDArray[np.float64]

KINDS: Mapping[Kind, str] = {
    "missing": "something is found where nothing is labelled",
    "nothing there": "something is labelled where nothing is found",
    "wrong class": "what is found there is of another class",
    "bad outline": "what is found there has another outline",
}
"""In words."""

PRIOR: Mapping[Kind, float] = {"missing": 0.05, "nothing there": 0.0125, "wrong class": 0.0125, "bad outline": 0.006}
"""How often a mistake of each kind is expected, per label."""

ROUNDS = 3
"""What is usual is measured, labels are doubted, and what is usual is measured again without these."""

SIMILAR = 100
"""Labels of the same class and of the nearest sizes, among which it is counted how unusual one is."""

SAME = 0.75
"""IoU from which on two outlines are taken for the same; below it they are off, from `AGREE` downwards wholly so."""

LEAST = 0.01
"""A place that is less doubtful is no suspect."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that may be wrong, or a place where one may be missing.

    Attributes:
        kind: what is wrong, most probably.
        doubt: 0..1, how probably something is.
        image: which record.
        index: the label's place in the record; None where one is missing.
        label, box: of the label, xyxy in pixels of the picture; None likewise.
        suggested_label, suggested_box: what the detector would say; None where that is nothing. Of a wrong class the
            box is the label's own.
        confidence: score of the detection that says so; None where there is none.
        overlap: IoU of both boxes; None unless the outline is bad.
    """

    kind: Kind
    doubt: float
    image: int
    index: int | None = None
    label: int | None = None
    box: Box | None = None
    suggested_label: int | None = None
    suggested_box: Box | None = None
    confidence: float | None = None
    overlap: float | None = None

    def sentence(self, names: Sequence[str]) -> str:
        """What speaks against the label."""
        label = "" if self.label is None else names[self.label]
        found = "" if self.suggested_label is None else f"{names[self.suggested_label]} (score {self.confidence:.2f})"
        if self.kind == "missing":
            return f"The model finds {found} where nothing is labelled."
        if self.kind == "wrong class":
            return f"It is labelled {label}; the model finds {found}."
        if self.kind == "bad outline":
            return (
                f"The model finds {found} with another outline: both overlap by {percent(self.overlap or 0)} % (IoU)."
            )
        return (
            f"It is labelled {label}, and the model finds {'nothing like it' if not found else f'only {found}'} here."
        )


def find_suspects(
    names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]
) -> tuple[Suspect, ...]:
    """Doubtful labels, and places where one may be missing, the most doubtful first.

    Args:
        names: class names; labels of records and answers index them.
        records, answers: aligned; answers of a detector that has not seen the picture, down to low scores.
    """
    if not records:
        return ()
    pictures = [gather(record, answer) for record, answer in zip(records, answers, strict=True)]
    court = _Court(pictures, num_classes=len(names))
    for _ in range(ROUNDS):
        court.weigh()
    return tuple(sorted(court.suspects(), key=lambda one: (-one.doubt, one.image)))


class _LabelEvidence(NamedTuple):
    """What speaks for and against labels.

    Attributes:
        support: [L] how surely the detection that agrees with a label is right, 0 where there is none.
        other: [L] how surely one of another class is, in the same place.
        displaced: [L] how surely one of the label's class is, times how far its outline is off: 1 - IoU, and less near
            `SAME`.
        best_other, outline: [L] these detections, places in their picture; -1: none.
    """

    support: Numbers
    other: Numbers
    displaced: Numbers
    best_other: Ints
    outline: Ints


class _Court:
    """Labels and detections of all pictures in flat tables, and how doubtful each one is so far."""

    def __init__(self, pictures: Sequence[PictureEvidence], *, num_classes: int) -> None:
        self.pictures, self.num_classes = pictures, num_classes
        self.first_label = [0, *accumulate(len(one.labels) for one in pictures)]
        self.first_found = [0, *accumulate(len(one.scores) for one in pictures)]
        self.labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in pictures)])
        sizes = np.log(np.concatenate([np.ones(0), *(area(one.boxes) for one in pictures)]).clip(1))
        self.found_labels = np.concatenate([np.zeros(0, np.int64), *(one.found_labels for one in pictures)])
        self.scores = np.concatenate([np.zeros(0), *(one.scores for one in pictures)]).astype(np.float64)
        self.matched = np.concatenate([np.zeros(0, np.bool_), *(one.partner_of >= 0 for one in pictures)])
        self.free = np.concatenate([np.zeros(0, np.bool_), *(one.free for one in pictures)])
        self.similar = _similar(self.labels, sizes)
        self.doubts: dict[Kind, Numbers] = {kind: np.zeros(len(self.labels)) for kind in KINDS}
        self.real: Numbers = np.zeros(len(self.scores))
        self.best_other = self.outline = np.full(len(self.labels), -1)

    def weigh(self) -> None:
        """Measure what is usual, and doubt what is not."""
        counts = self.matched | self.free
        right = np.where(self.matched, 1.0, self.real)
        chances = reliability(self.scores, self.found_labels, right, counts, num_classes=self.num_classes)
        found = [self._of_labels(image, chances) for image in range(len(self.pictures))]
        joined = _LabelEvidence(*(np.concatenate(column) for column in zip(*found, strict=True)))
        self.best_other, self.outline = joined.best_other, joined.outline
        support, other, displaced = joined.support, joined.other, joined.displaced
        weights = 1 - sum(self.doubts.values(), np.zeros(len(self.labels)))
        unsupported = 1 - np.maximum(support, other)
        odds: dict[Kind, Numbers] = {
            "nothing there": PRIOR["nothing there"] * unsupported / self._rarity(unsupported, weights),
            "bad outline": PRIOR["bad outline"] * (displaced > 0) / self._rarity(displaced, weights),
            "wrong class": PRIOR["wrong class"] * _odds(other) / _odds(support) * (other > 0),
        }
        whole = 1 + sum(odds.values(), np.zeros(len(self.labels)))
        self.doubts = {kind: value / whole for kind, value in odds.items()}
        self.real = self._missing(chances)

    def _of_labels(self, image: int, chances: Numbers) -> "_LabelEvidence":
        """What speaks for and against each label of a picture."""
        one = self.pictures[image]
        own = chances[self.first_found[image] : self.first_found[image + 1]]
        support = np.where(one.partner >= 0, own[one.partner], 0.0) if len(own) else np.zeros(len(one.labels))
        other, displaced = np.zeros(len(one.labels)), np.zeros(len(one.labels))
        best_other, outline = np.full(len(one.labels), -1), np.full(len(one.labels), -1)
        unmatched = one.partner_of < 0
        for place, label in enumerate(one.labels.tolist()):
            overlaps, same = one.overlaps[:, place], one.found_labels == label
            others = np.flatnonzero(~same & unmatched & (overlaps >= AGREE))
            if len(others):
                best = others[own[others].argmax()]
                other[place], best_other[place] = own[best], best
            near = np.flatnonzero(same & (unmatched | (one.partner_of == place)) & (overlaps >= TOUCH))
            if len(near):
                best = near[(own[near] * np.sqrt(overlaps[near])).argmax()]
                off = np.clip((SAME - overlaps[best]) / (SAME - AGREE), 0, 1)
                displaced[place], outline[place] = own[best] * (1 - overlaps[best]) * off, best
        return _LabelEvidence(support, other, displaced, best_other, outline)

    def _rarity(self, strengths: Numbers, weights: Numbers) -> Numbers:
        """The share of similar labels that are as extreme."""
        others, there = np.maximum(self.similar, 0), self.similar >= 0
        weight = weights[others] * there
        extreme = strengths[others] >= strengths[:, None] - 1e-9
        rarity: Numbers = (0.5 + (weight * extreme).sum(1)) / (1 + weight.sum(1))
        return rarity

    def _missing(self, chances: Numbers) -> Numbers:
        """How probably each free detection is of an object without a label."""
        odds = PRIOR["missing"] * _odds(chances)
        real = np.where(self.free, odds / (1 + odds), 0.0)
        for image, one in enumerate(self.pictures):
            start, first = self.first_found[image], self.first_label[image]
            for place, found in enumerate(self.outline[first : first + len(one.labels)].tolist()):
                if found >= 0:  # explained by a label whose outline is off, if it is
                    doubted = self.doubts["bad outline"] + self.doubts["nothing there"]
                    real[start + found] *= 1 - doubted[first + place]
        return real

    def suspects(self) -> Iterator[Suspect]:
        """All that is doubtful enough, as it was weighed last."""
        kinds = list(self.doubts)
        table = np.stack([self.doubts[kind] for kind in kinds])
        for image, one in enumerate(self.pictures):
            first, start = self.first_label[image], self.first_found[image]
            for place in range(len(one.labels)):
                own = table[:, first + place]
                if own.sum() >= LEAST:
                    yield self._label(image, place, kinds[int(own.argmax())], float(own.sum()))
            for found in np.flatnonzero(self.real[start : start + len(one.scores)] >= LEAST).tolist():
                yield Suspect(
                    "missing",
                    float(self.real[start + found]),
                    image,
                    suggested_label=int(one.found_labels[found]),
                    suggested_box=_box(one.found[found]),
                    confidence=float(one.scores[found]),
                )

    def _label(self, image: int, place: int, kind: Kind, doubt: float) -> Suspect:
        one, at = self.pictures[image], self.first_label[image] + place
        label, box = int(one.labels[place]), _box(one.boxes[place])
        near = {"wrong class": self.best_other, "bad outline": self.outline}.get(kind)
        found = int(one.partner[place]) if near is None else int(near[at])
        suggested = None if found < 0 else int(one.found_labels[found])
        return Suspect(
            kind,
            doubt,
            image,
            index=int(one.indices[place]),
            label=label,
            box=box,
            suggested_label=suggested,
            suggested_box=_box(one.found[found]) if kind == "bad outline" else None,
            confidence=None if found < 0 else float(one.scores[found]),
            overlap=float(one.overlaps[found, place]) if kind == "bad outline" else None,
        )


def _similar(labels: Ints, sizes: Numbers) -> Ints:
    """[L, K] other labels of the same class with the nearest sizes; -1 where there are fewer."""
    similar = np.full((len(labels), min(SIMILAR, max(1, len(labels)))), -1, np.int64)
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label)
        for place in own.tolist():
            nearest = own[np.argsort(np.abs(sizes[own] - sizes[place]), kind="stable")]
            nearest = nearest[nearest != place][: similar.shape[1]]
            similar[place, : len(nearest)] = nearest
    return similar


def _odds(chances: Numbers) -> Numbers:
    clipped = np.clip(chances, 1e-3, 1 - 1e-3)
    odds: Numbers = clipped / (1 - clipped)
    return odds


def _box(corners: Floats) -> Box:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2
