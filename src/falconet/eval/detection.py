"""What a detector's answers are worth: COCO's figures, those of VOC if asked for, and the parts of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from falconet.core.calibration import calibrated
from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.figures import percent
from falconet.core.manifest import ScoreMap, StoredPoint, Target
from falconet.core.types import Detections, Record
from falconet.eval import coco_ap, curves
from falconet.eval.bootstrap import Interval, Resampled, resample_matches, weights
from falconet.eval.classes import ClassMatch
from falconet.eval.coco_ap import Metrics
from falconet.eval.curves import ErrorKind, error_kinds, with_intervals
from falconet.eval.matching import ClassMatches, match_all
from falconet.eval.operating_point import AS_GOOD, OperatingPoint, OperatingPoints
from falconet.eval.picture import ImageView
from falconet.eval.promise import Promise, Promises, promises_of
from falconet.eval.reliability import Reliability, Scored
from falconet.eval.tide import find_errors, resample_errors
from falconet.eval.voc_ap import VocMetrics, evaluate_voc
from falconet.eval.wanted_point import Wanted, WantedPoint, wanted_point

SHOWN = 6
"""Worst and best images in a report, each."""


@dataclass(frozen=True, slots=True)
class DetectionResults:
    """A detector's evaluation.

    Attributes:
        names: of the ground truth's classes.
        records, answers: aligned; labels of both index `names`. Scores are calibrated, where the model was;
        `own_answers` are the same with the network's own scores.
        metrics: COCO's figures; `evaluator` knows more.
        points: what happens at which score threshold.
        own_score: the model's own threshold.
        least: score above which detections entered.
        voc: figures by VOC's protocols, where they were asked for.
        resampled: the figures in many draws of the pictures, likewise.
        wanted: the thresholds for what a user wants, likewise.
        stored: by name, what the thresholds do that the model carries.
        reliability: whether scores mean what they say.
        errors: kinds of error, costliest first.
        own_promises: what the model's own threshold does, with intervals, where they were asked for; likewise
            `best_promise`, that of the best F1.
    """

    names: tuple[str, ...]
    records: Sequence[Record]
    answers: Sequence[Detections]
    own_answers: Sequence[Detections]
    metrics: Metrics
    evaluator: COCOeval
    points: OperatingPoints
    own_score: float
    least: float
    voc: VocMetrics | None
    resampled: Resampled | None = None
    wanted: WantedPoint | None = None
    stored: Mapping[str, Promise] = field(default_factory=dict)
    reliability: Reliability | None = None
    errors: Sequence[ErrorKind] = ()
    own_promises: Promises | None = None
    best_promise: Promise | None = None

    @classmethod
    def of(
        cls,
        match: ClassMatch,
        records: Sequence[Record],
        answers: Sequence[Detections],
        *,
        limit: int,
        calibration: Sequence[ScoreMap] = (),
        target: Target = "precision",
        own_score: float,
        least: float,
        voc: bool = False,
        intervals: bool = False,
        operating_point: str | None = None,
        stored: Sequence[StoredPoint] = (),
    ) -> "DetectionResults":
        """Measure detections that have the ground truth's labels.

        Args:
            match: classes of data and model.
            records, answers: aligned; with the network's own scores.
            limit: so many detections of an image count; VOC's protocols count all.
            calibration: what the model tells scores as, one map per class of the model, or none. COCO's and VOC's
                figures do not depend on it.
            target: what calibrated scores say.
            own_score: the model's own threshold, of calibrated scores.
            least: score of the network above which detections entered.
            voc: whether VOC's figures are asked for.
            intervals: whether it is asked how far figures may be off.
            operating_point: what a threshold is to reach, see `falconet.eval.wanted_point`.
            stored: thresholds that the model carries, one per class of the model.

        Raises:
            ConfigError: no threshold reaches it.
        """
        names, stored = match.names, stored if records else ()
        counted = [one.first(limit) for one in answers]
        evaluator = coco_ap.run(names, records, counted)
        metrics = coco_ap.summarize(evaluator, names, records)
        matched = intervals or bool(stored) or operating_point is not None
        own = matches = match_all(names, records, counted) if matched else []
        told = counted
        if calibration:
            told, least = _calibrated(match.of_data(calibration), counted, least)
            evaluator, matches = coco_ap.run(names, records, told), match_all(names, records, told)
        asked = None if operating_point is None else Wanted.parse(operating_point)
        found = cls(
            names=names,
            records=records,
            answers=told,
            own_answers=counted,
            metrics=metrics,
            evaluator=evaluator,
            points=OperatingPoints.of_matches(matches) if matched else OperatingPoints.of(evaluator, records, told),
            own_score=own_score,
            least=least,
            voc=evaluate_voc(names, records, answers) if voc else None,
            wanted=None if asked is None else wanted_point(asked, names, records, told, matches=matches),
            stored={one.name: promises_of(match.of_data(one.thresholds), names, matches).total for one in stored},
            errors=error_kinds(evaluator),
        )
        return found._with_intervals(own, matches, target) if intervals and records else found

    def _with_intervals(
        self, own: Sequence[ClassMatches], told: Sequence[ClassMatches], target: Target
    ) -> "DetectionResults":
        """The same, and how far the figures may be off; `own` are matches by the network's own scores."""
        images = len(self.records)
        drawn = weights(images)
        errors = resample_errors(told, find_errors(self.records, self.answers, told), drawn)
        before = None if own is told else Scored.of_matches(own, images)
        best = self.points.best(least=self.least)
        return replace(
            self,
            resampled=resample_matches(self.names, own, drawn),
            reliability=Reliability.of(Scored.of_matches(told, images), before, target=target),
            errors=with_intervals(self.errors, errors),
            own_promises=self._promises(self.own_score, told, drawn),
            best_promise=None if best is None else self._promises(best.score, told, drawn).total,
        )

    def _promises(self, score: float, matches: Sequence[ClassMatches], drawn: NDArray[np.float32]) -> Promises:
        return promises_of([score] * len(self.names), self.names, matches, drawn=drawn)

    def as_dict(self) -> dict[str, Any]:
        """COCO's twelve figures by name, as fractions (-1: nothing to decide it), then those of each class."""
        voc = {}
        own, best = self.own_promises, self.points.best(least=self.least)
        if self.voc is not None:
            per_class = {"per_class_VOC_AP50": self.voc.per_class}
            voc = {"VOC_AP50": self.voc.area, "VOC07_AP50": self.voc.eleven_points, **per_class}
        return {
            **self.metrics.as_dict(),
            **voc,
            **({} if self.resampled is None else self.resampled.as_dict()),
            **({} if self.wanted is None else {"operating_point": self.wanted.as_dict()}),
            "stored_operating_points": {name: one.as_dict() for name, one in self.stored.items()},
            **({} if self.reliability is None else {"score_errors": self.reliability.errors._asdict()}),
            "per_class": self.metrics.per_class,
            "per_class_AP50": self.metrics.per_class_ap50,
            "boxes": self.metrics.truths,
            "boxes_by_size": self.metrics.sizes,
            "images": self.metrics.images,
            "error_kinds": {one.name: one.as_dict() for one in self.errors},
            "at_own_score": _point(self.points.at(self.own_score), own and own.total),
            "at_best_score": None if best is None else _point(best, self.best_promise),
            **({} if own is None else {"per_class_at_own_score": {n: one.as_dict() for n, one in own.classes.items()}}),
        }

    def lines(self) -> list[str]:
        """The figures as a table, in percent."""
        metrics, voc = self.metrics, self.voc
        drawn = self.resampled
        lines = [] if drawn is None else [f"{'':<6} {'':>6}  95 % interval"]
        for key, value in metrics.as_dict().items():
            interval = None if drawn is None else drawn.values[key].interval
            lines.append(f"{key:<6} {percent(value):>6}  {interval or ''}".rstrip())
        if voc is not None:
            lines.append(f"AP50 by VOC's protocol {percent(voc.area)}, by that of 2007 {percent(voc.eleven_points)}")
        width = max((len(name) for name in metrics.per_class), default=0)
        last = "" if drawn is None else "  AP, 95 % interval"
        lines += ["", f"{'class':<{width}}  {'boxes':>6}  {'AP':>6}  {'AP50':>6}{last}"]
        for name, value in metrics.per_class.items():
            fifty = percent(metrics.per_class_ap50[name])
            interval = None if drawn is None else drawn.per_class[name].interval
            row = f"{name:<{width}}  {metrics.truths[name]:>6}  {percent(value):>6}  {fifty:>6}  {interval or ''}"
            lines.append(row.rstrip())
        return [*lines, "", *self.point_lines()]

    def point_lines(self) -> list[str]:
        """What the model does at its own score threshold, and which one would be the best."""
        own, best = self.points.at(self.own_score), self.points.best(least=self.least)
        lines = [f"{own} (the model's own threshold)"]
        if self.own_promises is not None and own.found + own.missed:
            lines.append(f"  {self.own_promises.total}")
        if self.wanted is not None:
            lines += ["", *self.wanted.lines(), ""]
        lines += [f"--operating-point {name} (stored in the model): {one}" for name, one in self.stored.items()]
        if self.stored:
            lines.append("where stored thresholds were chosen on these pictures, this flatters them")
        if best is None:
            lines.append("nothing is found at any threshold")
        elif best.f1 > own.f1 + AS_GOOD:
            lines.append(f"{best} (the best: --score {best.score:.2f} of predict and export)")
            if self.best_promise is not None:
                lines.append(f"  {self.best_promise}")
        return lines

    def documents(self) -> dict[str, Any]:
        """Files for programs, by name: the detections in COCO's form."""
        return {"detections.json": self._coco()}

    def facts(self) -> list[tuple[str, str]]:
        """What the data hold."""
        sizes = self.metrics.truths
        empty = sum(1 for record in self.records if not len(record.boxes))
        return [
            ("images", f"{len(self.records)}, {empty} of them without boxes"),
            ("boxes", f"{sum(sizes.values())} in {len(sizes)} classes"),
        ]

    def report_parts(self, score: float) -> Mapping[str, Any]:
        """The parts of a report that only detectors have; `score` is that of the confusion and of the images shown."""
        results = curves.pictures(self.names, self.records, self.answers, score=score)
        worst, best = curves.worst_and_best(results, count=SHOWN)
        return {
            "metrics": self.metrics,
            "resampled": self.resampled,
            "points": {name: one.at(score) for name, one in zip(self.names, self._by_class(), strict=True)},
            "curves": curves.precision_recall(self.evaluator, self.names),
            "confusion": curves.confusion(self.evaluator, self.names, score=score),
            "kinds": self.errors,
            "promises": {} if self.own_promises is None else self.own_promises.classes,
            "reliability": self.reliability,
            "wanted": self.wanted,
            "stored": self.stored,
            "worst": self._views(worst, score),
            "best": self._views(best, score),
        }

    def sentences(self) -> list[str]:
        """What it comes to, for somebody who knows nothing of it."""
        own = self.points.at(self.own_score)
        objects, said = own.found + own.missed, own.found + own.false
        if not objects:
            return [f"The {len(self.records)} pictures hold nothing to find, so this says little."]
        intervals = {} if self.own_promises is None else self.own_promises.total.intervals
        share = _with_interval(own.found / objects, intervals.get("recall"))
        where = f"In {len(self.records)} pictures the model finds {own.found:,} of {objects:,} objects ({share})"
        right = intervals.get("precision")
        wrong = "it draws no boxes"
        if said:
            share = _with_interval(own.false / said, None if right is None else right.rest)
            wrong = f"{own.false:,} of the {said:,} boxes that it draws are wrong ({share})"
        return [f"{where}; {wrong}. This counts boxes with scores above {own.score:.2f}."]

    def _by_class(self) -> list[OperatingPoints]:
        return OperatingPoints.by_class(self.evaluator, self.records, self.answers, count=len(self.names))

    def _views(self, results: Sequence[curves.ImageResult], score: float) -> list[ImageView]:
        return [ImageView(self.records[r.index], self.answers[r.index].above(score), r) for r in results]

    def _coco(self) -> dict[str, Any]:
        """Images under their own ids, categories 1, 2, ... in the order of the data."""
        annotations: list[dict[str, Any]] = []
        for record, found in zip(self.records, self.answers, strict=True):
            rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
            for box, score, label in rows:
                result = coco_result(record.image_id, label, box, score=score)
                annotations.append(coco_annotation(len(annotations) + 1, result))
        images = [
            {"id": r.image_id, "file_name": r.path.name, "width": r.width, "height": r.height} for r in self.records
        ]
        return {"images": images, "categories": coco_categories(self.names), "annotations": annotations}


def _calibrated(
    maps: Sequence[ScoreMap], answers: Sequence[Detections], least: float
) -> tuple[list[Detections], float]:
    """The answers with calibrated scores, and what a score of the network above which they entered is at least."""
    told = [replace(one, scores=calibrated(one.scores, one.labels, maps)) for one in answers]
    return told, min(float(np.interp(least, one.scores, one.probabilities)) for one in maps)


def _point(point: OperatingPoint, promise: Promise | None) -> dict[str, Any]:
    """For programs; with intervals where there is a promise."""
    told: dict[str, Any] = {**asdict(point), "F1": point.f1}
    return told if promise is None else {**told, **promise.as_dict(), "F1_interval": promise.f1.interval}


def _with_interval(share: float, interval: Interval | None) -> str:
    """ "84%, 95 % interval 79.2 to 88.0 %"."""
    return f"{share:.0%}" if interval is None else f"{share:.0%}, 95 % interval {interval} %"
