"""The score threshold for what a user wants, and what it will do on new pictures.

Wanted is a recall, a precision, a number of false alarms, or the best F1; all classes together, IoU above 0.5. The
threshold is chosen on the evaluated pictures; what it does there is resampled over pictures (see
`falconet.eval.bootstrap`). The choice itself is a little better on these pictures than on new ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ConfigError
from falconet.core.figures import percent
from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import Interval, weights
from falconet.eval.matching import match_all

Kind = Literal["recall", "precision", "false-alarms", "f1"]
EXPECTED = "expected recall=0.95, precision=0.9, false-alarms=2/1000 (per so many pictures) or f1"
THOUSAND = 1000


class Wanted(NamedTuple):
    """What a threshold is to reach.

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
        """That of "recall=0.95", "precision=0.9", "false-alarms=2/1000" or "f1".

        Raises:
            ConfigError: none of these.
        """
        name, _, value = text.strip().partition("=")
        wrong = ConfigError(f"--operating-point {text}: {EXPECTED}")
        if text.strip() == "f1":
            return cls("f1", 0.0, text)
        try:
            above, _, below = value.partition("/")
            number = float(above) / float(below or 1)
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
    """The threshold, and what it does.

    Attributes:
        wanted: what was asked for.
        score: detections above it count.
        found, objects, false, images: counted on the evaluated pictures.
        recall, precision: intervals, fractions; None where nothing decides it.
        alarms: interval of the false alarms per picture.
        surely: whether all of the interval keeps what was asked for.
    """

    wanted: Wanted
    score: float
    found: int
    objects: int
    false: int
    images: int
    recall: Interval | None
    precision: Interval | None
    alarms: Interval
    surely: bool

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "wanted": self.wanted.text, "score": self.score, "found": self.found, "objects": self.objects,
            "false": self.false, "images": self.images, "recall": self.recall, "precision": self.precision,
            "false_alarms_per_image": self.alarms, "kept_by_the_whole_interval": self.surely,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        said = self.found + self.false
        precision = "" if not said else f", precision {percent(self.found / said)} % ({self.precision})"
        alarms = f"{THOUSAND * self.alarms.low:.0f} to {THOUSAND * self.alarms.high:.0f}"
        lines = [
            f"{self.wanted.text}: --score {self.score:.3f} of predict and export",
            f"  recall {percent(self.found / max(1, self.objects))} % ({self.recall}){precision}, "
            f"{THOUSAND * self.false / self.images:.0f} false alarms per 1,000 pictures ({alarms}); 95 % intervals",
        ]
        if not self.surely:
            lines.append(
                f"  {self.images} pictures cannot promise it: a part of the interval does not keep {self.wanted.text}"
            )
        return lines


def wanted_point(
    wanted: Wanted, names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]
) -> WantedPoint:
    """The threshold that reaches what is wanted, and what it will do.

    Args:
        wanted: by the user.
        names, records, answers: as of `falconet.eval.coco_ap.evaluate`.

    Raises:
        ConfigError: no threshold reaches it, or there is nothing to find.
    """
    counts = _Counts.of(names, records, answers)
    place = _chosen(wanted, counts)
    # Halfway to the next lower score, so that rounding loses nothing.
    lower = counts.scores[place + 1] if place + 1 < len(counts.scores) else 0.0
    score = float((counts.scores[place] + lower) / 2) if place >= 0 else 1.0
    above = counts.scores > score
    drawn = weights(len(records))
    objects = drawn @ counts.objects
    found, false = (drawn[:, counts.images[above & kind]].sum(1) for kind in (counts.right, ~counts.right))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = found / objects, found / (found + false)
    alarms = Interval.of(false / len(records))
    assert alarms is not None
    number = int((above & ~counts.right).sum())
    if not number:  # no draw has one either: what is compatible with none in so many pictures
        alarms = Interval(0.0, 1 - 0.05 ** (1 / len(records)))
    of_recall, of_precision = Interval.of(recall.astype(np.float64)), Interval.of(precision.astype(np.float64))
    kept = {
        "recall": of_recall is not None and of_recall.low >= wanted.value,
        "precision": of_precision is not None and of_precision.low >= wanted.value,
        "false-alarms": alarms.high <= wanted.value,
        "f1": True,
    }
    return WantedPoint(
        wanted=wanted,
        score=score,
        found=int((above & counts.right).sum()),
        objects=int(counts.objects.sum()),
        false=number,
        images=len(records),
        recall=of_recall,
        precision=of_precision,
        alarms=alarms,
        surely=kept[wanted.kind],
    )


class _Counts(NamedTuple):
    """Detections of all classes by descending score, those in crowds apart: [D] scores, right or not, their picture;
    and the objects of each picture [N]."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    objects: NDArray[np.float32]

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Record], answers: Sequence[Detections]) -> "_Counts":
        matches = match_all(names, records, answers)
        kept = [~one.ignored[0] for one in matches]
        scores = np.concatenate([np.zeros(0), *(one.scores[keep] for one, keep in zip(matches, kept, strict=True))])
        right = np.concatenate(
            [np.zeros(0, np.bool_), *(one.right[0][keep] for one, keep in zip(matches, kept, strict=True))]
        )
        images = np.concatenate(
            [np.zeros(0, np.int64), *(one.images[keep] for one, keep in zip(matches, kept, strict=True))]
        )
        order = np.argsort(-scores, kind="stable")
        objects = np.zeros(len(records), np.float32)
        for one in matches:
            objects += one.objects[0]
        return cls(scores[order].astype(np.float64), right[order], images[order], objects)


def _chosen(wanted: Wanted, counts: _Counts) -> int:
    """Place of the last detection that counts; -1: none does."""
    objects = float(counts.objects.sum())
    if not objects:
        raise ConfigError(f"--operating-point {wanted.text}: the pictures hold nothing to find")
    if not len(counts.scores):
        raise ConfigError(f"--operating-point {wanted.text}: nothing is found at any threshold")
    found, false = np.cumsum(counts.right), np.cumsum(~counts.right)
    last = np.append(counts.scores[1:] != counts.scores[:-1], True)  # equal scores go together
    recall, precision = found / objects, found / (found + false)
    if wanted.kind == "f1":
        return int(np.where(last, 2 * found / (found + false + objects), -1).argmax())
    if wanted.kind == "recall":
        places = np.flatnonzero(last & (recall >= wanted.value))
        if not len(places):
            raise ConfigError(
                f"--operating-point {wanted.text}: no threshold reaches it; the most is {recall[-1]:.3f}, with all "
                "detections that entered (--score 0.001 lets more enter)"
            )
        return int(places[0])
    if wanted.kind == "precision":
        places = np.flatnonzero(last & (precision >= wanted.value))
        if not len(places):
            best = float(precision[last].max())
            raise ConfigError(f"--operating-point {wanted.text}: no threshold reaches it; the most is {best:.3f}")
        return int(places[-1])
    places = np.flatnonzero(last & (false <= wanted.value * len(counts.objects)))
    return int(places[-1]) if len(places) else -1
