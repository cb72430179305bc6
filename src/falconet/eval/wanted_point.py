"""Score thresholds for what a user wants, one per class, and what they will do on new pictures.

Wanted is a recall or a precision of each class, a number of false alarms of all together, or the best F1; IoU above
0.5. What thresholds do on the pictures that they were chosen on flatters them. So the pictures are cut into parts, the
thresholds are chosen on all parts but one and tried on that one (cross-fitting), and what they do there is resampled
over pictures (see `falconet.eval.bootstrap`). The thresholds that are handed out are chosen on all pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.calibration import same_point
from falconet.core.errors import ConfigError
from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import weights
from falconet.eval.matching import ClassMatches, match_all
from falconet.eval.promise import Promise
from falconet.eval.score_counts import Counts

Kind = Literal["recall", "precision", "false-alarms", "f1"]
EXPECTED = (
    "expected recall=0.95, precision=0.9, false-alarms=2/1000 (per so many pictures), false-alarms=2/hour@25 (per hour "
    "of a video of so many frames per second) or f1"
)
HOUR = 3600

FEW = 10
"""Objects below which a class has no threshold of its own, but that of all classes together."""

PARTS = 5
"""Of the pictures, for cross-fitting."""

ALL, NONE = 0.0, 1.0
"""Thresholds above which every detection counts, and none."""

Floats = NDArray[np.float64]


class Wanted(NamedTuple):
    """What thresholds are to reach.

    Attributes:
        kind: of figure.
        value: a fraction; of false alarms their number per picture; of f1 nothing.
        text: as it was asked for, in the form of `same_point`.
    """

    kind: Kind
    value: float
    text: str

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """That of "recall=0.95", "precision=0.9", "false-alarms=2/1000", "false-alarms=2/hour@25" or "f1".

        Raises:
            ConfigError: none of these.
        """
        wrong = ConfigError(f"--operating-point {text.strip()}: {EXPECTED}")
        text = same_point(text)
        name, _, value = text.partition("=")
        if text == "f1":
            return cls("f1", 0.0, text)
        above, _, below = value.partition("/")
        period, _, rate = below.partition("@")
        try:
            number = float(above) / (float(rate) * HOUR if period == "hour" else float(below or 1))
        except (ValueError, ZeroDivisionError) as error:
            raise wrong from error
        if name == "recall" and 0 < number <= 1 and not below:
            return cls("recall", number, text)
        if name == "precision" and 0 < number <= 1 and not below:
            return cls("precision", number, text)
        if name == "false-alarms" and number >= 0 and below and np.isfinite(number):
            return cls("false-alarms", number, text)
        raise wrong


@dataclass(frozen=True, slots=True)
class WantedPoint:
    """The thresholds, and what they do.

    Attributes:
        wanted: what was asked for.
        thresholds: by class name; detections above count.
        common: that of all classes together.
        shared: names of the classes that have too few objects for a threshold of their own, or need none.
        promise: of all classes together; `classes`: of each; `others`: of the shared ones.
        fitted: whether it is that of pictures which the thresholds were chosen on, since there are too few others.
        missed: classes that do not reach what is wanted at any threshold, and how far they get.
        best: what the thresholds of the best F1 do, all classes together, likewise; None where they were asked for.
    """

    wanted: Wanted
    thresholds: Mapping[str, float]
    common: float
    shared: tuple[str, ...]
    promise: Promise
    classes: Mapping[str, Promise]
    others: Promise
    fitted: bool
    missed: Mapping[str, float]
    best: Promise | None

    def line(self) -> str:
        """All classes together."""
        return f"{self.wanted.text}: {self.promise}" + (f"; {self.doubt}" if self.doubt else "")

    @property
    def doubt(self) -> str:
        """Why it may not be kept on other pictures; empty where the whole interval keeps it."""
        if self.surely:
            return ""
        kept = {
            "recall": self.promise.recall.value >= self.wanted.value,
            "precision": self.promise.precision.value >= self.wanted.value,
            "false-alarms": self.promise.alarms.value <= self.wanted.value,
        }
        if not kept[self.wanted.kind] and not self.fitted:
            return "expect this and not what was asked for: thresholds flatter themselves where they were chosen"
        return f"{self.promise.images} pictures cannot promise it: a part of the interval does not keep it"

    @property
    def surely(self) -> bool:
        """Whether the whole interval keeps what was asked for."""
        kind, value = self.wanted.kind, self.wanted.value
        if kind == "f1":
            return True
        interval = self.promise.intervals["alarms" if kind == "false-alarms" else kind]
        return interval is not None and (interval.high <= value if kind == "false-alarms" else interval.low >= value)

    @property
    def is_beaten(self) -> bool:
        """Whether the thresholds of the best F1 find as many objects with as few false boxes, and do better in one."""
        best, own = self.best, self.promise
        if best is None or (best.found, best.false) == (own.found, own.false):
            return False
        return best.found >= own.found and best.false <= own.false

    @property
    def compared(self) -> str:
        """What the thresholds of the best F1 do beside these; empty where these are asked for."""
        if self.best is None:
            return ""
        if self.is_beaten:
            return f"f1 is better here, for it finds no less and gives no more false boxes: {self.best}"
        return f"f1 for comparison, all classes: {self.best}"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "wanted": self.wanted.text,
            "thresholds": dict(self.thresholds),
            "shared_threshold": list(self.shared),
            "images": self.promise.images,
            **self.promise.as_dict(),
            "per_class": {name: one.as_dict() for name, one in self.classes.items()},
            "chosen_on_the_same_images": self.fitted,
            "kept_by_the_whole_interval": self.surely,
            "not_reached": dict(self.missed),
            "f1": None if self.best is None else self.best.as_dict(),
            "f1_is_better": self.is_beaten,
        }

    def lines(self) -> list[str]:
        """For people."""
        rows = [["", "score above", "recall, %", "precision, %", "false per 1,000 pictures"]]
        own = {name: one for name, one in self.classes.items() if name not in self.shared}
        rows += [[name, f"{self.thresholds[name]:.3f}", *one.cells()] for name, one in own.items()]
        if own and self.shared:
            rows.append([f"{len(self.shared)} others", f"{self.common:.3f}", *self.others.cells()])
        if len(own) != 1 or self.shared:
            rows.append(["all classes", "" if own else f"{self.common:.3f}", *self.promise.cells()])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        tried = "the pictures that the thresholds were chosen on" if self.fitted else "pictures that none was chosen on"
        lines = [
            f"{self.wanted.text}, as it does on {tried} (95 % intervals):",
            *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        ]
        lines += [
            f"{name}: no threshold reaches {self.wanted.text}; the most is {most:.3f}"
            for name, most in self.missed.items()
        ]
        return [*lines, *filter(None, (self.doubt, self.compared))]


def wanted_point(
    wanted: Wanted,
    names: Sequence[str],
    records: Sequence[Record],
    answers: Sequence[Detections],
    *,
    matches: Sequence[ClassMatches] | None = None,
) -> WantedPoint:
    """The thresholds that reach what is wanted, and what they will do.

    Args:
        wanted: by the user.
        names, records, answers: as of `falconet.eval.coco_ap.evaluate`; scores may be calibrated.
        matches: of all classes, from these; None: they are computed.

    Raises:
        ConfigError: no threshold reaches it for all classes together, or there is nothing to find.
    """
    counts = Counts.of(match_all(names, records, answers) if matches is None else matches)
    _refuse(wanted, counts)
    chosen = _chosen(wanted, counts)
    found, false = _elsewhere(wanted, counts, chosen)
    own = np.array([_has_own(wanted, counts, label) for label in range(len(names))], np.bool_)
    drawn = weights(len(records))

    def promise(classes: NDArray[np.bool_]) -> Promise:
        return Promise.of(*(one[classes].sum(0) for one in (found, counts.objects, false)), drawn=drawn)

    each = {name: promise(np.arange(len(names)) == label) for label, name in enumerate(names)}
    return WantedPoint(
        wanted=wanted,
        thresholds=dict(zip(names, chosen.tolist(), strict=True)),
        common=_threshold(wanted, counts),
        shared=tuple(name for name, alone in zip(names, own, strict=True) if not alone),
        promise=promise(np.ones_like(own)),
        classes={name: one for name, one in each.items() if one.objects or one.false},
        others=promise(~own),
        fitted=_part_count(len(records)) == 1,
        missed=_missed(wanted, counts, names),
        best=None if wanted.kind == "f1" else _best(counts, drawn),
    )


def _elsewhere(wanted: Wanted, counts: Counts, chosen: Floats) -> tuple[Floats, Floats]:
    """What is found, and what beside it, in each picture by thresholds that were chosen on others: [C, N] each; by
    those that are `chosen` [C] where there are no others."""
    images = counts.objects.shape[1]
    found, false = np.zeros_like(counts.objects), np.zeros_like(counts.objects)
    for part in _parts(images):
        inside = np.isin(np.arange(images), part)
        thresholds = chosen if inside.all() else _chosen(wanted, counts.of_images(~inside))
        above = (counts.scores > thresholds[counts.labels]) & inside[counts.images]
        found += counts.in_pictures(above & counts.right)
        false += counts.in_pictures(above & ~counts.right)
    return found, false


def _best(counts: Counts, drawn: NDArray[np.float32]) -> Promise:
    """What the thresholds of the best F1 do, tried in the same way."""
    wanted = Wanted("f1", 0.0, "f1")
    found, false = _elsewhere(wanted, counts, _chosen(wanted, counts))
    return Promise.of(*(one.sum(0) for one in (found, counts.objects, false)), drawn=drawn)


def _parts(images: int) -> Iterator[NDArray[np.int64]]:
    """Places of the pictures of each part; all at once where there are too few to cut."""
    order = np.random.default_rng(0).permutation(images)
    yield from np.array_split(order, _part_count(images))


def _part_count(images: int) -> int:
    return PARTS if images >= 2 * PARTS else 1


def _has_own(wanted: Wanted, counts: Counts, label: int) -> bool:
    """Whether a class has a threshold of its own. False alarms are counted over all classes, so there one score is one
    score."""
    return wanted.kind != "false-alarms" and counts.objects[label].sum() >= FEW


def _chosen(wanted: Wanted, counts: Counts) -> Floats:
    """[C] the threshold of each class; where nothing reaches what is wanted, that which comes nearest."""
    shared = _threshold(wanted, counts)
    thresholds = np.full(len(counts.objects), shared)
    for label in range(len(thresholds)):
        if _has_own(wanted, counts, label):
            thresholds[label] = _threshold(wanted, counts.of_class(label))
    return thresholds


def _threshold(wanted: Wanted, counts: Counts) -> float:
    place = _place(wanted, counts)
    if place is None:
        return ALL if wanted.kind == "recall" else NONE
    if place < 0:
        return NONE
    # Halfway to the next lower score, so that rounding loses nothing.
    lower = counts.scores[place + 1] if place + 1 < len(counts.scores) else 0.0
    return float((counts.scores[place] + lower) / 2)


def _place(wanted: Wanted, counts: Counts) -> int | None:
    """Place of the last detection that counts; -1: none does; None: no threshold reaches what is wanted."""
    objects = float(counts.objects.sum())
    if not len(counts.scores):
        return -1 if wanted.kind == "false-alarms" else None
    found, false = np.cumsum(counts.right), np.cumsum(~counts.right)
    last = np.append(counts.scores[1:] != counts.scores[:-1], True)  # equal scores go together
    if wanted.kind == "f1":
        return int(np.where(last, 2 * found / (found + false + objects), -1).argmax())
    if wanted.kind == "recall":
        places = np.flatnonzero(last & (found >= wanted.value * objects))
        return int(places[0]) if len(places) else None
    if wanted.kind == "precision":
        places = np.flatnonzero(last & (found >= wanted.value * (found + false)))
        return int(places[-1]) if len(places) else None
    places = np.flatnonzero(last & (false <= wanted.value * counts.objects.shape[1]))
    return int(places[-1]) if len(places) else -1


def _most(wanted: Wanted, counts: Counts) -> float:
    """The largest recall or precision of any threshold."""
    found, said = np.cumsum(counts.right), np.arange(1, len(counts.right) + 1)
    if not len(found):
        return 0.0
    return float(found[-1] / counts.objects.sum()) if wanted.kind == "recall" else float((found / said).max())


def _missed(wanted: Wanted, counts: Counts, names: Sequence[str]) -> dict[str, float]:
    missed = {}
    for label, name in enumerate(names):
        own = counts.of_class(label)
        if _has_own(wanted, counts, label) and wanted.kind != "f1" and _place(wanted, own) is None:
            missed[name] = _most(wanted, own)
    return missed


def _refuse(wanted: Wanted, counts: Counts) -> None:
    """Raise ConfigError where all classes together do not reach what is wanted."""
    if not counts.objects.sum():
        raise ConfigError(f"--operating-point {wanted.text}: the pictures hold nothing to find")
    if not len(counts.scores):
        raise ConfigError(f"--operating-point {wanted.text}: nothing is found at any threshold")
    if _place(wanted, counts) is None:
        more = ", with all detections that entered (--score 0.001 lets more enter)" if wanted.kind == "recall" else ""
        raise ConfigError(
            f"--operating-point {wanted.text}: no threshold reaches it; the most is {_most(wanted, counts):.3f}{more}"
        )
