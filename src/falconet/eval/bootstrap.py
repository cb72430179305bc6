"""How far figures may be off because the pictures are few: the bootstrap over pictures.

Pictures are drawn with replacement, as many as there are, and one that is drawn twice counts twice (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16 for two models on the same pictures). The
detections are matched once; a draw is nothing but a weight for each picture.

AP of draws lies above that of the pictures they are drawn from, as the AP of few pictures lies above that of all.
Intervals are therefore corrected for bias (section 14.3 there, without the acceleration): where more than half of the
draws lie above the figure, the percentiles are taken further down. And draws from few pictures differ less than those
pictures do from others, so the percentiles are taken further out, as Student's t has it (T. Hesterberg, "What Teachers
Should Know about the Bootstrap", The American Statistician 69, 2015, section 4.1.3, "expanded percentiles").
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.cpus import usable_cpus
from falconet.core.figures import percent
from falconet.core.types import Detections, Record
from falconet.eval.matching import AREAS, IOUS, ClassMatches, match_all

RESAMPLES, LEAST, PICTURES = 1000, 200, 1000
"""Draws; of more pictures than these fewer, in proportion, but so many at least: the interval is narrow by then."""

CHUNK = 100
"""Draws that are computed at once."""

POINTS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads precision."""

STEPS = len(IOUS)
LIMITS = {"AR1": 1, "AR10": 10, "AR100": 100}
SIZES = ("", "s", "m", "l")

TAIL = 0.025
"""Share of new pictures for which a figure lies below the interval, and as many above."""

_NORMAL = NormalDist()

Draws = NDArray[np.float64]
"""[R] a figure in each draw; NaN where nothing decides it."""


class Interval(NamedTuple):
    """The middle 95 % of what other pictures of the same kind would have given."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.low)} to {percent(self.high)}"

    @property
    def rest(self) -> "Interval":
        """That of what a share leaves to the whole."""
        return Interval(1 - self.high, 1 - self.low)


class Drawn(NamedTuple):
    """A figure, and what it is in each draw of the pictures.

    Attributes:
        value: of all pictures; NaN where nothing decides it.
        draws: [R].
        images: how many pictures there are.
    """

    value: float
    draws: Draws
    images: int

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval; None where nothing decides the figure."""
        defined = self.draws[~np.isnan(self.draws)]
        if not len(defined) or np.isnan(self.value) or self.images < 2:
            return None  # a single picture says nothing about others
        below = ((defined < self.value).mean() + (defined <= self.value).mean()) / 2
        # No more than all draws can tell: a share of 0 or 1 would leave nothing of the interval.
        shift = _NORMAL.inv_cdf(min(max(float(below), 1 / (len(defined) + 1)), len(defined) / (len(defined) + 1)))
        ends = [_NORMAL.cdf(2 * shift + side * _quantile(self.images)) for side in (-1, 1)]
        low, high = np.quantile(defined, ends)
        return Interval(float(low), float(high))

    def less(self, other: "Drawn") -> "Drawn":
        """The difference to another figure of the same draws."""
        return Drawn(self.value - other.value, self.draws - other.draws, self.images)


def _quantile(images: int) -> float:
    """How many standard deviations of a normal distribution reach as far as 95 % of Student's t do, which has a degree
    of freedom less than there are pictures (Cornish and Fisher's series), and as the draws vary by n - 1 of n."""
    normal, freedom = _NORMAL.inv_cdf(1 - TAIL), max(2, images - 1)
    student = normal + (normal**3 + normal) / (4 * freedom)
    student += (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * freedom**2)
    return student * math.sqrt((freedom + 1) / freedom)


@dataclass(frozen=True, slots=True)
class Resampled:
    """The figures of one model in many draws of the pictures.

    Attributes:
        values: COCO's twelve, or top-1 and top-5, by name.
        per_class: AP, or top-1, by class name.
        per_class_ap50: of a detector, AP50 by class name.
    """

    values: Mapping[str, Drawn]
    per_class: Mapping[str, Drawn]
    per_class_ap50: Mapping[str, Drawn] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The 95 % intervals as pairs, null where nothing decides a figure."""
        kinds = {"intervals": self.values, "per_class_intervals": self.per_class}
        if self.per_class_ap50:
            kinds["per_class_AP50_intervals"] = self.per_class_ap50
        return {kind: {name: one.interval for name, one in found.items()} for kind, found in kinds.items()}


def weights(images: int, *, resamples: int | None = None, seed: int = 0) -> NDArray[np.float32]:
    """[R, N] how often each picture is drawn; the same for the same number of pictures and seed.

    Args:
        images: pictures.
        resamples: draws; None: `RESAMPLES`, of many pictures fewer.
        seed: of the draws.
    """
    if resamples is None:
        resamples = min(RESAMPLES, max(LEAST, RESAMPLES * PICTURES // max(1, images)))
    if not images:
        return np.zeros((resamples, 0), np.float32)
    chance = np.random.default_rng(seed)
    share = np.full(images, 1 / images)
    return chance.multinomial(images, share, size=resamples).astype(np.float32)


def resample(
    names: Sequence[str],
    records: Sequence[Record],
    answers: Sequence[Detections],
    *,
    drawn: NDArray[np.float32] | None = None,
) -> Resampled:
    """COCO's figures with each picture weighted.

    Args:
        names, records, answers: as of `coco_ap.evaluate`.
        drawn: [R, N] weights; None: `weights`.
    """
    drawn = weights(len(records)) if drawn is None else drawn
    return resample_matches(names, match_all(names, records, answers), drawn)


def resample_matches(names: Sequence[str], matches: Sequence[ClassMatches], drawn: NDArray[np.float32]) -> Resampled:
    """Likewise, of matches of all classes; `drawn` [R, N]."""
    drawn = with_all(drawn)
    with ThreadPoolExecutor(usable_cpus()) as pool:  # numpy leaves the interpreter's lock
        figures = list(pool.map(lambda one: _figures(one, drawn), matches))
    count = len(drawn)
    precision = np.stack([one.precision for one in figures]) if figures else np.full((0, len(AREAS), STEPS, count), 0.0)
    recall = {key: np.stack([one.recall[key] for one in figures]) for key in (figures[0].recall if figures else ())}
    values = {
        "AP": mean_of(precision[:, 0].reshape(-1, count)),
        "AP50": mean_of(precision[:, 0, 0]),
        "AP75": mean_of(precision[:, 0, 5]),
        **{f"AP{size}": mean_of(precision[:, area].reshape(-1, count)) for area, size in enumerate(SIZES) if size},
        **{key: mean_of(value.reshape(-1, count)) for key, value in recall.items()},
    }
    per_class = {name: mean_of(one.precision[0]) for name, one in zip(names, figures, strict=True)}
    per_class_ap50 = {name: one.precision[0, 0] for name, one in zip(names, figures, strict=True)}
    return _resampled(values, per_class, per_class_ap50, images=drawn.shape[1])


def resample_shares(figures: Mapping[str, NDArray[np.bool_]], classes: Mapping[str, NDArray[np.bool_]]) -> Resampled:
    """The figures of a classifier, which are shares of the pictures.

    Args:
        figures: [N] whether each picture counts for it, by name, the first of them for the classes, too.
        classes: [N] whether each picture shows it, by name.
    """
    first = next(iter(figures.values()))
    drawn = with_all(weights(len(first)))
    values = {name: (drawn @ right) / max(1, len(first)) for name, right in figures.items()}
    per_class = {}
    for name, own in classes.items():
        shown = drawn @ own
        per_class[name] = np.where(shown > 0, (drawn @ (own & first)) / np.maximum(shown, 1), np.nan)
    return _resampled(values, per_class, {}, images=len(first))


def with_all(drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """[1 + R, N]: each picture once before the draws."""
    return np.concatenate([np.ones((1, drawn.shape[1]), np.float32), drawn])


def _resampled(
    values: Mapping[str, Draws], per_class: Mapping[str, Draws], per_class_ap50: Mapping[str, Draws], *, images: int
) -> Resampled:
    """Of figures whose first draw is that of each picture once."""

    def drawn(found: Mapping[str, Draws]) -> dict[str, Drawn]:
        return {name: Drawn(float(one[0]), one[1:], images) for name, one in found.items()}

    return Resampled(drawn(values), drawn(per_class), drawn(per_class_ap50))


class _Figures(NamedTuple):
    """Of one class: [A, T, R] AP; for each recall figure [T, R]."""

    precision: NDArray[np.float64]
    recall: dict[str, NDArray[np.float64]]


def _figures(matches: ClassMatches, drawn: NDArray[np.float32]) -> _Figures:
    count = len(drawn)
    objects = drawn @ matches.objects.T.astype(np.float32)  # [R, A]
    precision = np.full((len(AREAS), STEPS, count), np.nan)
    for chunk in chunks(count):
        own = Weighted(drawn[chunk][:, matches.images])
        for area in range(len(AREAS)):
            there = Objects(objects[chunk, area])
            for step in range(STEPS):
                rule = area * STEPS + step
                precision[area, step, chunk] = own.average_precision(matches.right[rule], matches.ignored[rule], there)
    recall = {key: _recall(matches, drawn, objects, 0, limit) for key, limit in LIMITS.items()}
    for area, size in enumerate(SIZES[1:], start=1):
        recall[f"AR{size}"] = _recall(matches, drawn, objects, area, LIMITS["AR100"])
    return _Figures(precision, recall)


def chunks(count: int) -> Iterator[slice]:
    return (slice(first, first + CHUNK) for first in range(0, count, CHUNK))


class Weighted:
    """The detections of one class in some draws, by descending score.

    How many are told up to a place is summed once; rules that leave out other detections change few of these sums.

    Args:
        drawn: [r, D] how often each detection is there.
    """

    def __init__(self, drawn: NDArray[np.float32]) -> None:
        self._drawn = drawn
        self._kept = np.ones(drawn.shape[1], np.bool_)
        self._told = np.cumsum(drawn, axis=1)

    def average_precision(
        self, right: NDArray[np.bool_], ignored: NDArray[np.bool_], objects: "Objects"
    ) -> NDArray[np.float64]:
        """[r] the mean of the precision at 101 recalls; NaN where there are no objects.

        Args:
            right, ignored: [D] detections that find an object, and that do not count.
            objects: that there are.
        """
        places = np.flatnonzero(right & ~ignored)
        if not len(places):
            return np.where(objects.number > 0, 0.0, np.nan)
        hits = np.cumsum(self._drawn[:, places], axis=1)
        exact = hits / np.maximum(self._told_at(places, ~ignored), 1)
        best = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]  # what is reached at this recall or a higher one
        reached = objects.points(hits)
        found = np.einsum("rp,rp->r", best, np.diff(reached, axis=1, prepend=0), dtype=np.float64)
        return np.where(objects.number > 0, found / len(POINTS), np.nan)

    def _told_at(self, places: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.float32]:
        """[r, P] detections that count up to each place."""
        changed = np.flatnonzero(kept != self._kept)
        if 2 * len(changed) > len(kept):
            self._kept, self._told = kept, np.cumsum(self._drawn * kept, axis=1)
            changed = changed[:0]
        told = self._told[:, places]
        if len(changed):
            more = self._drawn[:, changed] * np.where(kept[changed], 1, -1).astype(np.float32)
            sums = np.cumsum(more, axis=1)
            before = np.searchsorted(changed, places, side="right")
            told = told + np.where(before > 0, sums[:, before - 1], 0)
        return told


class Objects:
    """How many objects there are in some draws, and which recalls are reached with so many of them.

    Args:
        number: [r].
    """

    def __init__(self, number: NDArray[np.float32]) -> None:
        self.number = number
        self._width = int(number.max(initial=0)) + 1
        recall = np.arange(self._width) / np.maximum(number, 1)[:, None].astype(np.float64)
        self._points = np.searchsorted(POINTS, recall.ravel(), side="right").astype(np.float32)
        self._starts = self._width * np.arange(len(number), dtype=np.int32)[:, None]

    def points(self, hits: NDArray[np.float32]) -> NDArray[np.float32]:
        """[r, P] how many of `POINTS` are reached by as many hits [r, P]."""
        return self._points.take(hits.astype(np.int32) + self._starts)


def _recall(
    matches: ClassMatches, drawn: NDArray[np.float32], objects: NDArray[np.float32], area: int, limit: int
) -> NDArray[np.float64]:
    """[T, R] the share of objects that the first detections of each picture find."""
    rules = slice(area * STEPS, (area + 1) * STEPS)
    right = matches.right[rules] & ~matches.ignored[rules] & (matches.ranks < limit)
    places = np.flatnonzero(right.any(0))
    hits = drawn[:, matches.images[places]] @ right[:, places].T.astype(np.float32)
    total = objects[:, area]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, hits.T / total, np.nan).astype(np.float64)


def mean_of(values: NDArray[np.float64]) -> Draws:
    """[R] the mean over [K, R] of what is decided."""
    decided = ~np.isnan(values)
    count = decided.sum(0)
    return np.where(count > 0, np.where(decided, values, 0).sum(0) / np.maximum(count, 1), np.nan)
