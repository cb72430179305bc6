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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.cpus import usable_cpus
from falconet.core.figures import percent
from falconet.core.types import Detections, Ints, Record
from falconet.eval.matching import AREAS, IOUS, ClassMatches, match_all
from falconet.eval.weighted import Objects, Weighted

RESAMPLES, LEAST, PICTURES = 1000, 200, 1000
"""Draws; of more pictures than these fewer, in proportion, but so many at least: the interval is narrow by then."""

CHUNK = 256
"""Draws that are computed at once, at most."""

TOGETHER = 2**18
"""Numbers of detections, draws and IoU thresholds that are computed at once."""

STEPS = len(IOUS)
SIZES = ("", "s", "m", "l")

RECALLS = {"AR1": (0, 1), "AR10": (0, 10), "AR100": (0, 100), **{f"AR{SIZES[area]}": (area, 100) for area in (1, 2, 3)}}
"""Of which objects in `AREAS`, and by how many detections of a picture."""

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
        # The k-th of R draws in order has a share of k / (R + 1) below it (Hyndman and Fan, "Sample Quantiles in
        # Statistical Packages", The American Statistician 50, 1996, definition 6).
        places = np.array(ends) * (len(defined) + 1)
        low, high = np.interp(places, np.arange(1, len(defined) + 1), np.sort(defined))
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
    count, chunks = len(drawn), in_chunks(drawn)
    numbers = in_draws([one.objects for one in matches], drawn)
    with ThreadPoolExecutor(usable_cpus()) as pool:  # numpy leaves the interpreter's lock
        figures = list(pool.map(lambda one, own: _figures(one, own, chunks), matches, numbers))
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


def _figures(
    matches: ClassMatches, number: NDArray[np.float32], chunks: Sequence[tuple[slice, NDArray[np.float32]]]
) -> _Figures:
    """Of one class with so many objects [A, R]."""
    count = number.shape[1]
    areas = [_Area.of(matches, area) for area in range(len(AREAS))]
    precision = np.full((len(AREAS), STEPS, count), np.nan)
    recall = {name: np.full((STEPS, count), np.nan) for name in RECALLS}
    for chunk, drawn in chunks:
        own = Weighted(drawn, matches.images)
        for size, area in enumerate(areas):
            there = Objects(number[size, chunk])
            precision[size, :, chunk] = area.average_precision(own, there)
            for name in [name for name, (which, _) in RECALLS.items() if which == size]:
                recall[name][:, chunk] = area.recall(own, there, matches.ranks < RECALLS[name][1])
    return _Figures(precision, recall)


class _Area(NamedTuple):
    """Which detections of one class count for objects of one size.

    Attributes:
        found: [U] those that find an object at any IoU threshold; as all here, places among the class's detections.
        always: [K] those that count at all thresholds.
        hits: [T, U] which of `found` find one at each threshold.
        sometimes: [S] those that count at some thresholds.
        counts: [T, S] which of these do.
    """

    found: Ints
    always: Ints
    hits: NDArray[np.bool_]
    sometimes: Ints
    counts: NDArray[np.bool_]

    @classmethod
    def of(cls, matches: ClassMatches, area: int) -> "_Area":
        rules = slice(area * STEPS, (area + 1) * STEPS)
        ignored = matches.ignored[rules]
        never, always = ignored.all(0), ~ignored.any(0)
        found, sometimes = np.flatnonzero(matches.right[rules].any(0)), np.flatnonzero(~never & ~always)
        return cls(
            found=found,
            always=np.flatnonzero(always),
            hits=matches.right[rules][:, found],
            sometimes=sometimes,
            counts=~ignored[:, sometimes],
        )

    def average_precision(self, own: Weighted, there: Objects) -> NDArray[np.float64]:
        """[T, r] at each IoU threshold, so many of them at once as are small enough to stay near the processor."""
        told = own.told(self.always, self.found)
        together = min(STEPS, max(1, TOGETHER // max(1, told.size)))
        return np.concatenate(
            [self._part(own, there, told, slice(first, first + together)) for first in range(0, STEPS, together)]
        )

    def _part(self, own: Weighted, there: Objects, told: NDArray[np.float32], steps: slice) -> NDArray[np.float64]:
        """Likewise at some thresholds; `told` [U, 1, r] are those that count at all."""
        hits = self.hits[steps]
        some = hits.any(0)
        found, told = self.found[some], told[some]
        if len(self.sometimes):
            told = told + own.told(self.sometimes, found, self.counts[steps].T)
        return own.average_precision(found, told, there, hits[:, some].T)

    def recall(self, own: Weighted, there: Objects, first: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[T, r] the share of objects that some of the detections [D] find."""
        found = np.stack([own.number(self.found[hits & first[self.found]]) for hits in self.hits])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(there.number > 0, found / there.number, np.nan).astype(np.float64)


def in_draws(objects: Sequence[NDArray[np.int64]], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    """[C, ..., R] numbers that each class has in each picture [..., N], in draws [R, N].

    Products stand here, outside of the threads for classes, because each may start threads of its own.
    """
    if not objects:
        return np.zeros((0, len(drawn)), np.float32)
    return np.asarray(np.stack(objects).astype(np.float32) @ drawn.T)


def in_chunks(drawn: NDArray[np.float32]) -> list[tuple[slice, NDArray[np.float32]]]:
    """Draws [R, N] in parts of about `CHUNK`: which they are, and their weights [N, r]."""
    parts = max(1, -(-len(drawn) // CHUNK))
    ends = [len(drawn) * part // parts for part in range(parts + 1)]
    return [(slice(*own), np.ascontiguousarray(drawn[slice(*own)].T)) for own in pairwise(ends)]


def mean_of(values: NDArray[np.float64]) -> Draws:
    """[R] the mean over [K, R] of what is decided."""
    decided = ~np.isnan(values)
    count = decided.sum(0)
    return np.where(count > 0, np.where(decided, values, 0).sum(0) / np.maximum(count, 1), np.nan)
