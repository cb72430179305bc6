"""Recall, precision and false alarms that thresholds will have on new pictures, with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.figures import percent
from falconet.eval.bootstrap import Drawn, Interval, weights
from falconet.eval.matching import ClassMatches
from falconet.eval.score_counts import Counts

THOUSAND = 1000

FEW = 10
"""Pictures below which a share of what is in them has no interval."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Promise:
    """What thresholds do on pictures that they were not chosen on.

    Attributes:
        found, objects, false: boxes in `images` pictures.
        showing, told: pictures with an object, and with a box, found or false.
        recall, precision: fractions in draws of the pictures; NaN where nothing decides them.
        f1: harmonic mean of precision and recall, likewise.
        alarms: false boxes per picture, likewise.
    """

    found: int
    objects: int
    false: int
    images: int
    showing: int
    told: int
    recall: Drawn
    precision: Drawn
    f1: Drawn
    alarms: Drawn

    @classmethod
    def of(
        cls, found: Floats, objects: Floats, false: Floats, *, drawn: NDArray[np.float32] | None = None
    ) -> "Promise":
        """That of counts [N] in each picture; `drawn` [R, N] weights these, None: `weights`."""
        drawn = weights(len(found)) if drawn is None else drawn
        rows = np.stack([found, objects, false]).astype(np.float32)
        hits, all_of_them, wrong = np.concatenate([rows.sum(1, keepdims=True), rows @ drawn.T], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (hits / all_of_them, hits / (hits + wrong), 2 * hits / (hits + wrong + all_of_them))
        figures = (*shares, wrong / max(1, len(found)))
        draws = [Drawn(float(one[0]), one[1:].astype(np.float64), len(found)) for one in figures]
        showing, told = int((objects > 0).sum()), int((found + false > 0).sum())
        sums = [int(one.sum()) for one in (found, objects, false)]
        return cls(sums[0], sums[1], sums[2], len(found), showing, told, *draws)

    @property
    def intervals(self) -> "dict[str, Interval | None]":
        """95 % intervals by name; None where nothing, or too few pictures, decide it.

        Where not one box is missed, or false, no draw has one either; then it is what is compatible with none in so
        many pictures ("rule of three", Hanley and Lippman-Hand, JAMA 249, 1983).
        """
        recall, precision, alarms = self.recall.interval, self.precision.interval, self.alarms.interval
        if recall is not None and self.found in (0, self.objects):
            unseen = _unseen(self.showing)
            recall = Interval(1 - unseen, 1.0) if self.found else Interval(0.0, unseen)
        if precision is not None and not (self.found and self.false):
            unseen = _unseen(self.told)
            precision = Interval(1 - unseen, 1.0) if self.found else Interval(0.0, unseen)
        return {
            "recall": recall if self.showing >= FEW else None,
            "precision": precision if self.told >= FEW else None,
            "alarms": alarms if self.false else Interval(0.0, _unseen(self.images)),
        }

    def as_dict(self) -> dict[str, Any]:
        """For programs; null where nothing decides a figure."""
        intervals = self.intervals
        return {
            "found": self.found, "objects": self.objects, "false": self.false,
            "recall": _number(self.recall.value), "recall_interval": intervals["recall"],
            "precision": _number(self.precision.value), "precision_interval": intervals["precision"],
            "false_alarms_per_image": _number(self.alarms.value), "false_alarms_interval": intervals["alarms"],
        }  # fmt: skip

    def __str__(self) -> str:
        recall, precision, alarms = self.cells()
        return f"recall {recall} %, precision {precision} %, {alarms} false per 1,000 pictures"

    def cells(self) -> list[str]:
        """Recall, precision, and false alarms per 1,000 pictures, each with its interval."""
        intervals = self.intervals
        shares = [
            "-" if np.isnan(figure.value) else f"{percent(figure.value)} ({intervals[name] or 'too few to say'})"
            for name, figure in (("recall", self.recall), ("precision", self.precision))
        ]
        alarms = intervals["alarms"]
        assert alarms is not None
        within = f"{THOUSAND * alarms.low:.0f} to {THOUSAND * alarms.high:.0f}"
        return [*shares, f"{THOUSAND * self.alarms.value:.0f} ({within})"]


class Promises(NamedTuple):
    """What thresholds do: all classes together, and each that has objects or boxes, by name."""

    total: Promise
    classes: Mapping[str, Promise]


def promises_of(
    thresholds: Sequence[float],
    names: Sequence[str],
    matches: Sequence[ClassMatches],
    *,
    drawn: NDArray[np.float32] | None = None,
) -> Promises:
    """What thresholds [C] do that were chosen on other pictures.

    Args:
        thresholds, names, matches: of all classes.
        drawn: [R, N] weights of the pictures; None: `weights`.
    """
    counts = Counts.of(matches)
    above = counts.scores > np.array(thresholds)[counts.labels]
    found, false = (counts.in_pictures(above & kind) for kind in (counts.right, ~counts.right))
    drawn = weights(counts.objects.shape[1]) if drawn is None else drawn
    each = (
        Promise.of(*own, drawn=drawn) if any(one.any() for one in own) else None
        for own in zip(found, counts.objects, false, strict=True)
    )
    total = Promise.of(*(one.sum(0) for one in (found, counts.objects, false)), drawn=drawn)
    return Promises(total, {name: one for name, one in zip(names, each, strict=True) if one is not None})


def _unseen(images: int) -> float:
    """The largest share that is compatible, at 95 %, with none in so many pictures."""
    return float(1 - 0.05 ** (1 / max(1, images)))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
