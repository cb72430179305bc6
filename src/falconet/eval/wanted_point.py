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

from falconet.core.errors import ConfigError
from falconet.core.types import Detections, Record
from falconet.eval.matching import match_all
from falconet.eval.promise import Promise

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
        text: as it was asked for.
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
        text = text.strip()
        name, _, value = text.partition("=")
        wrong = ConfigError(f"--operating-point {text}: {EXPECTED}")
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
        return [*lines, *([self.doubt] if self.doubt else [])]


def wanted_point(
    wanted: Wanted, names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]
) -> WantedPoint:
    """The thresholds that reach what is wanted, and what they will do.

    Args:
        wanted: by the user.
        names, records, answers: as of `falconet.eval.coco_ap.evaluate`; scores may be calibrated.

    Raises:
        ConfigError: no threshold reaches it for all classes together, or there is nothing to find.
    """
    counts = _Counts.of(names, records, answers)
    _refuse(wanted, counts)
    chosen = _chosen(wanted, counts)
    parts = list(_parts(len(records)))
    found, false = np.zeros_like(counts.objects), np.zeros_like(counts.objects)
    for part in parts:
        inside = np.isin(np.arange(len(records)), part)
        thresholds = chosen if len(parts) == 1 else _chosen(wanted, counts.of_images(~inside))
        above = (counts.scores > thresholds[counts.labels]) & inside[counts.images]
        for kind, into in ((counts.right, found), (~counts.right, false)):
            np.add.at(into, (counts.labels[above & kind], counts.images[above & kind]), 1)
    own = np.array([_has_own(wanted, counts, label) for label in range(len(names))], np.bool_)

    def promise(classes: NDArray[np.bool_]) -> Promise:
        return Promise.of(*(one[classes].sum(0) for one in (found, counts.objects, false)))

    each = {name: promise(np.arange(len(names)) == label) for label, name in enumerate(names)}
    return WantedPoint(
        wanted=wanted,
        thresholds=dict(zip(names, chosen.tolist(), strict=True)),
        common=_threshold(wanted, counts),
        shared=tuple(name for name, alone in zip(names, own, strict=True) if not alone),
        promise=promise(np.ones_like(own)),
        classes={name: one for name, one in each.items() if one.objects or one.false},
        others=promise(~own),
        fitted=len(parts) == 1,
        missed=_missed(wanted, counts, names),
    )


def promise_of(
    thresholds: Sequence[float], names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]
) -> Promise:
    """What thresholds [C] do that were chosen on other pictures; other arguments as of `wanted_point`."""
    counts = _Counts.of(names, records, answers)
    above = counts.scores > np.array(thresholds)[counts.labels]
    found, false = (
        np.bincount(counts.images[above & kind], minlength=len(records)).astype(np.float64)
        for kind in (counts.right, ~counts.right)
    )
    return Promise.of(found, counts.objects.sum(0), false)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Detections by descending score, those in crowds apart.

    Attributes:
        scores, right, images, labels: [D]; whether they find an object, their picture and class.
        objects: [C, N] of each class in each picture.
    """

    scores: Floats
    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    objects: Floats

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]) -> "_Counts":
        matches = match_all(names, records, answers)
        kept = [~one.ignored[0] for one in matches]
        pairs = list(zip(matches, kept, strict=True))
        scores = np.concatenate([np.zeros(0), *(one.scores[keep] for one, keep in pairs)])
        order = np.argsort(-scores, kind="stable")
        right = np.concatenate([np.zeros(0, np.bool_), *(one.right[0][keep] for one, keep in pairs)])
        images = np.concatenate([np.zeros(0, np.int64), *(one.images[keep] for one, keep in pairs)])
        labels = np.repeat(np.arange(len(names)), [int(keep.sum()) for keep in kept])
        objects = np.stack([one.objects[0] for one in matches]) if matches else np.zeros((0, len(records)))
        return cls(scores[order], right[order], images[order], labels[order], objects.astype(np.float64))

    def of_images(self, chosen: NDArray[np.bool_]) -> "_Counts":
        """Those in some of the pictures [N]."""
        kept = chosen[self.images]
        return _Counts(self.scores[kept], self.right[kept], self.images[kept], self.labels[kept], self.objects * chosen)

    def of_class(self, label: int) -> "_Counts":
        """Those of one class."""
        kept, own = self.labels == label, np.zeros_like(self.objects)
        own[label] = self.objects[label]
        return _Counts(self.scores[kept], self.right[kept], self.images[kept], self.labels[kept], own)


def _parts(images: int) -> Iterator[NDArray[np.int64]]:
    """Places of the pictures of each part; all at once where there are too few to cut."""
    order = np.random.default_rng(0).permutation(images)
    yield from np.array_split(order, PARTS if images >= 2 * PARTS else 1)


def _has_own(wanted: Wanted, counts: _Counts, label: int) -> bool:
    """Whether a class has a threshold of its own. False alarms are counted over all classes, so there one score is one
    score."""
    return wanted.kind != "false-alarms" and counts.objects[label].sum() >= FEW


def _chosen(wanted: Wanted, counts: _Counts) -> Floats:
    """[C] the threshold of each class; where nothing reaches what is wanted, that which comes nearest."""
    shared = _threshold(wanted, counts)
    thresholds = np.full(len(counts.objects), shared)
    for label in range(len(thresholds)):
        if _has_own(wanted, counts, label):
            thresholds[label] = _threshold(wanted, counts.of_class(label))
    return thresholds


def _threshold(wanted: Wanted, counts: _Counts) -> float:
    place = _place(wanted, counts)
    if place is None:
        return ALL if wanted.kind == "recall" else NONE
    if place < 0:
        return NONE
    # Halfway to the next lower score, so that rounding loses nothing.
    lower = counts.scores[place + 1] if place + 1 < len(counts.scores) else 0.0
    return float((counts.scores[place] + lower) / 2)


def _place(wanted: Wanted, counts: _Counts) -> int | None:
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


def _most(wanted: Wanted, counts: _Counts) -> float:
    """The largest recall or precision of any threshold."""
    found, said = np.cumsum(counts.right), np.arange(1, len(counts.right) + 1)
    if not len(found):
        return 0.0
    return float(found[-1] / counts.objects.sum()) if wanted.kind == "recall" else float((found / said).max())


def _missed(wanted: Wanted, counts: _Counts, names: Sequence[str]) -> dict[str, float]:
    missed = {}
    for label, name in enumerate(names):
        own = counts.of_class(label)
        if _has_own(wanted, counts, label) and wanted.kind != "f1" and _place(wanted, own) is None:
            missed[name] = _most(wanted, own)
    return missed


def _refuse(wanted: Wanted, counts: _Counts) -> None:
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
