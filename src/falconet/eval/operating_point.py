"""How many objects are found, and how much beside them, above a score threshold; and which threshold is the best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import COCOeval

from falconet.core.manifest import EVALUATION
from falconet.core.types import Detections, Floats, Record
from falconet.eval.matching import ClassMatches

STEP = 0.01
"""Between the thresholds that are tried."""

AS_GOOD = 0.005
"""Thresholds whose F1 lies less than this below the best one's are as good, as far as so many pictures can tell."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a detector does above one score, all classes and pictures together, IoU above 0.5.

    Attributes:
        score: detections above it count.
        found: objects that were found.
        missed: objects that were not.
        false: detections of nothing, of another class, or of an object that had been found already.
    """

    score: float
    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 0 where nothing was found."""
        return 2 * self.found / max(1, 2 * self.found + self.false + self.missed)

    def __str__(self) -> str:
        objects = self.found + self.missed
        return f"score above {self.score:.2f}: {self.found} of {objects} objects found, {self.false} false"


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """All operating points of an evaluation.

    Attributes:
        right, wrong: scores of the detections that found an object, and of those that did not, ascending. Detections in
            crowds are neither.
        objects: in all, crowds apart.
    """

    right: Floats
    wrong: Floats
    objects: int

    @classmethod
    def of(cls, evaluator: COCOeval, records: Sequence[Record], detections: Sequence[Detections]) -> "OperatingPoints":
        """Those of an evaluation made by `coco_ap.run` from the same records and detections.

        A detection is matched after those with higher scores, so that whether it is right does not depend on the
        threshold below it.
        """
        (whole,) = cls._of(evaluator, records, detections, [None])
        return whole

    @classmethod
    def by_class(
        cls, evaluator: COCOeval, records: Sequence[Record], detections: Sequence[Detections], *, count: int
    ) -> "list[OperatingPoints]":
        """Likewise of each of `count` classes."""
        return cls._of(evaluator, records, detections, list(range(count)))

    @classmethod
    def of_matches(cls, matches: Sequence[ClassMatches]) -> "OperatingPoints":
        """The same as `of`, of matches of all classes."""
        kept = [~one.ignored[0] for one in matches]
        scores = np.concatenate(
            [np.zeros(0, np.float32), *(one.scores[own] for one, own in zip(matches, kept, strict=True))]
        )
        right = np.concatenate(
            [np.zeros(0, np.bool_), *(one.right[0][own] for one, own in zip(matches, kept, strict=True))]
        )
        return cls(np.sort(scores[right]), np.sort(scores[~right]), sum(int(one.objects[0].sum()) for one in matches))

    @classmethod
    def _of(
        cls,
        evaluator: COCOeval,
        records: Sequence[Record],
        detections: Sequence[Detections],
        classes: Sequence[int | None],
    ) -> "list[OperatingPoints]":
        """Those of classes; None stands for all of them together."""
        status = evaluator.image_diagnostics(iou_thr=0.5)["dt_status"]
        scores = np.concatenate([np.zeros(0, np.float32), *(found.scores for found in detections)])
        labels = np.concatenate([np.zeros(0, np.int64), *(found.labels for found in detections)])
        kinds = np.array([status.get(index, "") for index in range(1, len(scores) + 1)], str)
        truths = np.concatenate([np.zeros(0, np.int64), *(record.labels[~record.crowd] for record in records)])

        def of(label: int | None) -> OperatingPoints:
            own = np.ones(len(labels), np.bool_) if label is None else labels == label
            right, wrong = (np.sort(scores[own & (kinds == kind)]) for kind in ("tp", "fp"))
            return cls(right, wrong, len(truths) if label is None else int((truths == label).sum()))

        return [of(label) for label in classes]

    def at(self, score: float) -> OperatingPoint:
        """What happens above `score`."""
        found, false = (len(one) - int(np.searchsorted(one, score, side="right")) for one in (self.right, self.wrong))
        return OperatingPoint(score, found, self.objects - found, false)

    def best(self, *, least: float = EVALUATION.score_threshold) -> OperatingPoint | None:
        """The one of the best F1; where neighbouring thresholds are as good, the middle of these.

        Args:
            least: detections above this entered the evaluation, so nothing is known of lower thresholds.

        Returns:
            None where nothing is ever found.
        """
        points = [self.at(round(score, 2)) for score in np.arange(least, 1, STEP).tolist()]
        f1 = np.array([point.f1 for point in points])
        best = int(f1.argmax())
        if not points[best].found:
            return None
        worse = np.flatnonzero(f1 < f1[best] - AS_GOOD)
        first = max((index + 1 for index in worse.tolist() if index < best), default=0)
        last = min((index - 1 for index in worse.tolist() if index > best), default=len(points) - 1)
        return points[(first + last) // 2]
