"""What scores are worth: of detections that score 0.8, are eight in ten right? And maps that make it so.

The measures are D-ECE (Kueppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR Workshops
2020), over all detections, and LaECE (Oksuz et al., "Towards Building Self-Aware Object Detectors via Reliable
Uncertainty Quantification and Calibration", CVPR 2023), class by class and with the IoU of what is right; both with 25
bins, and IoU above 0.5 for what is right. The maps are Platt's and isotonic ones per class, after Kuzucu et al., "On
Calibration of Object Detectors: Pitfalls, Evaluation and Baselines", ECCV 2024, arXiv 2405.20459. Where we differ: a
class with few detections is drawn towards the map of all classes together, and an isotonic map goes in straight lines
from step to step (Oron and Flournoy, "Centered Isotonic Regression", 2017), so that no two scores become one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from falconet.core.manifest import ScoreMap, Target
from falconet.core.types import Detections, Ints, Record
from falconet.eval.matching import ClassMatches, match_all

Floats = NDArray[np.float64]
TARGETS: tuple[Target, ...] = get_args(Target)

BINS = 25

MANY, BOTH = 1000, 50
"""Detections of a class from which on its map is an isotonic one, and how many of them are right, and wrong, at
least."""

SHOWN = 10
"""Bins of a table or a chart."""

PARTS = 5
"""Of the pictures, for cross-fitting."""

STEPS = 200
"""Groups of detections that an isotonic map is made of, at most."""

PRIOR = np.array([1.0, 1.5])
"""How far slope and offset of a class's map lie from those of all classes together, beforehand: standard deviations."""

LEAST_SLOPE = 0.02
"""Of a map, so that the order of scores stays in single precision."""

KNOTS = 1 / (1 + np.exp(-np.linspace(-6, 6, 49)))
"""Scores between which Platt's curve is drawn as straight lines."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Detections, and whether they are right; those in crowds apart.

    Attributes:
        scores, labels, images: [D] by class.
        right: [D] 0 or 1.
        overlaps: [D] IoU with the object that is found, 0 where none is.
        count: pictures; `classes`: of the labels.
    """

    scores: Floats
    labels: Ints
    images: Ints
    right: Floats
    overlaps: Floats
    count: int
    classes: int

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]) -> "Scored":
        """Those of the answers; arguments as of `falconet.eval.coco_ap.evaluate`."""
        return cls.of_matches(match_all(names, records, answers), len(records))

    @classmethod
    def of_matches(cls, matches: Sequence[ClassMatches], count: int) -> "Scored":
        """Those of all classes in so many pictures."""
        parts = [(one, ~one.ignored[0]) for one in matches]
        nothing = np.zeros(0)
        return cls(
            scores=np.concatenate([nothing, *(one.scores[keep] for one, keep in parts)]),
            labels=np.repeat(np.arange(len(matches)), [int(keep.sum()) for _, keep in parts]),
            images=np.concatenate([nothing, *(one.images[keep] for one, keep in parts)]).astype(np.int64),
            right=np.concatenate([nothing, *(one.right[0][keep] for one, keep in parts)]),
            overlaps=np.concatenate([nothing, *(one.overlaps[keep] for one, keep in parts)]),
            count=count,
            classes=len(matches),
        )

    def target(self, target: Target) -> Floats:
        """[D] what scores are to say."""
        return self.right if target == "precision" else self.overlaps

    def where(self, kept: NDArray[np.bool_]) -> "Scored":
        """Some of the detections [D]."""
        return replace(
            self,
            scores=self.scores[kept],
            labels=self.labels[kept],
            images=self.images[kept],
            right=self.right[kept],
            overlaps=self.overlaps[kept],
        )

    def told(self, maps: Sequence[ScoreMap]) -> Floats:
        """[D] the scores after calibration, in double precision."""
        told = self.scores.copy()
        for label, one in enumerate(maps):
            own = self.labels == label
            told[own] = np.interp(told[own], one.scores, one.probabilities)
        return told


class Bin(NamedTuple):
    """Detections whose scores lie together: their mean score, the mean of what scores are to say (the share that is
    right, or the IoU), and how many they are."""

    score: float
    right: float
    number: int


class Errors(NamedTuple):
    """How far scores are from what they say, 0 at best: D-ECE and LaECE."""

    d_ece: float
    la_ece: float


class Reliability(NamedTuple):
    """Whether the scores of one evaluation mean what they say.

    Attributes:
        told: detections by the scores that the model tells.
        own: by the network's own; empty where these are the same.
        errors: of the scores that are told.
        target: what the scores that are told say; `Bin.right` is the mean of it.
    """

    told: Sequence[Bin]
    own: Sequence[Bin]
    errors: Errors
    target: Target = "precision"

    @classmethod
    def of(cls, told: Scored, own: Scored | None = None, *, target: Target = "precision") -> "Reliability":
        """That of detections with the scores that are told, and the same with the network's own, where these are
        others."""
        return cls(
            bins(told.scores, told.target(target), count=SHOWN),
            () if own is None else bins(own.scores, own.target(target), count=SHOWN),
            errors(told, told.scores),
            target,
        )


def bins(scores: Floats, right: Floats, *, count: int = BINS) -> list[Bin]:
    """Detections by score, in bins of the same width; empty ones are left out."""
    place = np.minimum((scores * count).astype(np.int64), count - 1)
    numbers = np.bincount(place, minlength=count)
    sums = [np.bincount(place, weights=values, minlength=count) for values in (scores, right)]
    return [
        Bin(float(sums[0][one] / numbers[one]), float(sums[1][one] / numbers[one]), int(numbers[one]))
        for one in np.flatnonzero(numbers).tolist()
    ]


def errors(scored: Scored, told: Floats) -> Errors:
    """Of detections that are told with scores [D]; 0 where there are none."""
    classes = [scored.labels == label for label in np.unique(scored.labels).tolist()]
    by_class = [_gap(bins(told[own], scored.overlaps[own])) for own in classes]
    return Errors(_gap(bins(told, scored.right)), float(np.mean(by_class)) if by_class else 0.0)


def _gap(found: Sequence[Bin]) -> float:
    total = sum(one.number for one in found)
    return sum(one.number * abs(one.score - one.right) for one in found) / max(1, total)


def fit_maps(scored: Scored, target: Target = "precision") -> tuple[ScoreMap, ...]:
    """A map for each class, from scores to what they are to say; of a class without detections that of all together."""
    values = scored.target(target)
    everything = _of_all(scored, values)
    maps = []
    for label in range(scored.classes):
        own = scored.labels == label
        scores, wanted = scored.scores[own], values[own]
        curve = _platt(scores, wanted, everything, PRIOR)
        right = float(scored.right[own].sum())
        isotonic = len(scores) >= MANY and min(right, len(scores) - right) >= BOTH
        maps.append(_isotonic(scores, wanted, curve) if isotonic else _drawn(KNOTS, _curve(KNOTS, curve)))
    return tuple(maps)


def common_map(scored: Scored, target: Target = "precision") -> ScoreMap:
    """The map of all classes together, for those that nothing is known of."""
    return _drawn(KNOTS, _curve(KNOTS, _of_all(scored, scored.target(target))))


def cross_fitted(scored: Scored, target: Target = "precision") -> Floats:
    """[D] scores after calibration by maps that were made of other pictures."""
    told = np.zeros_like(scored.scores)
    order = np.random.default_rng(0).permutation(scored.count)
    for part in np.array_split(order, min(PARTS, max(1, scored.count))):
        inside = np.isin(scored.images, part)
        told[inside] = scored.where(inside).told(fit_maps(scored.where(~inside), target))
    return told


def _of_all(scored: Scored, values: Floats) -> Floats:
    """[2] Platt's line through all classes; of few detections it stays near the scores themselves."""
    return _platt(scored.scores, values, np.array([1.0, 0.0]), PRIOR)


def _logit(scores: Floats) -> Floats:
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float64)


def _curve(scores: Floats, line: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(line[0] * _logit(scores) + line[1]))), np.float64)


def _platt(scores: Floats, wanted: Floats, centre: Floats, spread: Floats) -> Floats:
    """[2] slope and offset of the logits that make `wanted` [D], 0..1, most probable, by Newton's steps.

    Args:
        centre, spread: [2] of slope and offset beforehand, normal ones.
    """
    line, inputs = centre.copy(), np.stack([_logit(scores), np.ones_like(scores)])
    trust = np.diag(1 / spread**2)
    for _ in range(50):
        told = 1 / (1 + np.exp(-np.clip(line @ inputs, -30, 30)))
        slope = inputs @ (told - wanted) + trust @ (line - centre)
        bend = (inputs * (told * (1 - told))) @ inputs.T + trust
        step = np.linalg.solve(bend, slope)
        line = line - step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-8:
            break
    return np.array([max(line[0], LEAST_SLOPE), line[1]])


def _isotonic(scores: Floats, wanted: Floats, line: Floats) -> ScoreMap:
    """Straight lines between the centres of the steps of an isotonic regression; each step has one detection more,
    which is as Platt's curve has it, so that none says never or always."""
    order = np.argsort(scores, kind="stable")
    groups = np.array_split(order, min(STEPS, len(order)))
    steps: list[tuple[float, float, float]] = []  # weight, score, value
    for group in groups:
        step = (float(len(group)), float(scores[group].mean()), float(wanted[group].mean()))
        while steps and steps[-1][2] >= step[2]:
            step = _joined(steps.pop(), step)
        steps.append(step)
    weight, centre, value = (np.array(one) for one in zip(*steps, strict=True))
    return _drawn(centre, np.maximum.accumulate((weight * value + _curve(centre, line)) / (weight + 1)))


def _joined(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    weight = one[0] + other[0]
    return (weight, (one[0] * one[1] + other[0] * other[1]) / weight, (one[0] * one[2] + other[0] * other[2]) / weight)


def _drawn(scores: Floats, values: Floats) -> ScoreMap:
    """The map through points between 0 and 1, with some slope everywhere."""
    inside = (scores > 1e-4) & (scores < 1 - 1e-4)
    scores = np.concatenate([[0.0], scores[inside], [1.0]])
    values = np.concatenate([[0.0], values[inside], values[-1:]])
    kept = np.concatenate([[True], np.diff(scores) > 1e-6])
    scores, values = scores[kept], values[kept]
    told = (1 - LEAST_SLOPE) * np.maximum.accumulate(values) + LEAST_SLOPE * scores
    return ScoreMap(
        scores=tuple(np.round(scores, 7).tolist()), probabilities=tuple(np.round(np.clip(told, 0, 1), 9).tolist())
    )
