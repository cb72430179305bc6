"""Where the average precision comes from: curves, confusion, kinds of error, single pictures. Through hotcoco."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import Interval
from falconet.eval.coco_ap import UNDEFINED, run
from falconet.eval.tide import FITS, NEAR, ErrorDraws

Found = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision over recall of one class at IoU 0.5.

    Attributes:
        name: of the class.
        recall: [101] 0, 0.01, ... 1.
        precision: [101] the best precision at that recall or a greater one; 0 where it is not reached.
        ap50: mean of `precision`, as COCO defines it.
    """

    name: str
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    ap50: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of truth (rows) by detected class (columns) at one score and IoU 0.5.

    Attributes:
        matrix: [C + 1, C + 1]; the last row holds detections of nothing, the last column truth not found.
        names: of the classes, in the order of the rows.
        score: detections above this entered.
    """

    matrix: NDArray[np.int64]
    names: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error: how often it happens and what it costs.

    Attributes:
        name, meaning: for people.
        count: errors of this kind.
        cost: AP50 gained, as a fraction, if only this kind were repaired.
        count_interval, cost_interval: what other pictures, as many as these, would have given; None where nobody asked,
            or nothing decides it.
    """

    name: str
    meaning: str
    count: int
    cost: float
    count_interval: Interval | None = None
    cost_interval: Interval | None = None

    @property
    def told_count_interval(self) -> str | None:
        """That of the count, for people."""
        one = self.count_interval
        return None if one is None else f"{one.low:.0f} to {one.high:.0f}"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "errors": self.count,
            "errors_interval": self.count_interval,
            "AP50_lost": self.cost,
            "AP50_lost_interval": self.cost_interval,
        }


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What happened in one picture at one score and IoU 0.5.

    Attributes:
        index: of the record.
        true, false, missed: counts of right and wrong detections and of truth not found.
        f1: 2 true / (2 true + false + missed); 1 for a picture rightly left empty.
        detection_right: [N] of each detection.
        truth_found: [G] of each truth box; a crowd counts as found.
    """

    index: int
    true: int
    false: int
    missed: int
    f1: float
    detection_right: Found
    truth_found: Found


_KINDS = {
    "Cls": ("wrong class", "the box fits an object of another class"),
    "Loc": ("badly placed", "right class, but IoU between 0.1 and 0.5"),
    "Both": ("wrong class and place", "wrong class, and IoU between 0.1 and 0.5"),
    "Dupe": ("found twice", "the object had already been found with a higher score"),
    "Bkg": ("nothing there", "the box touches no object (IoU below 0.1)"),
    "Miss": ("missed", "not even a badly placed or wrongly classified box finds the object"),
}


def precision_recall(evaluator: COCOeval, names: Sequence[str]) -> list[Curve]:
    """The curve of each class that has truth; `evaluator` comes from `coco_ap.run`."""
    assert evaluator.eval is not None
    precisions = evaluator.eval["precision"]
    recall = np.linspace(0, 1, precisions.shape[1])
    curves = []
    for index, name in enumerate(names):
        precision = precisions[0, :, index, 0, 2]
        if precision[0] == UNDEFINED:
            continue
        curves.append(Curve(name, recall, precision, float(precision.mean())))
    return curves


def confusion(evaluator: COCOeval, names: Sequence[str], *, score: float) -> Confusion:
    """What is taken for what; classes are matched after the boxes, so that a wrong class shows as such."""
    table = evaluator.confusion_matrix(iou_thr=0.5, min_score=score)
    return Confusion(np.asarray(table["matrix"]).astype(np.int64), tuple(names), score)


def error_kinds(evaluator: COCOeval) -> list[ErrorKind]:
    """The six kinds of error of TIDE, costliest first.

    Paper: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020, section 2.2.

    Args:
        evaluator: made by `coco_ap.run`.
    """
    result = evaluator.tide_errors(pos_thr=FITS, bg_thr=NEAR)
    kinds = [
        ErrorKind(name, meaning, int(result["counts"][key]), float(result["delta_ap"][key]))
        for key, (name, meaning) in _KINDS.items()
    ]
    return sorted(kinds, key=lambda kind: (-kind.cost, -kind.count))


def with_intervals(kinds: Sequence[ErrorKind], drawn: Mapping[str, ErrorDraws]) -> list[ErrorKind]:
    """The same kinds with intervals; `drawn` are the same errors in draws of the pictures, by the paper's names."""
    by_name = {name: drawn[key] for key, (name, _) in _KINDS.items()}
    return [
        replace(kind, count_interval=by_name[kind.name].number.interval, cost_interval=by_name[kind.name].cost.interval)
        for kind in kinds
    ]


def pictures(
    names: Sequence[str], records: Sequence[Record], detections: Sequence[Detections], *, score: float
) -> list[ImageResult]:
    """The result of each picture, in order, with the detections above `score`.

    `detection_right` is as long as `detections[i].above(score)`.
    """
    kept = [found.above(score) for found in detections]
    diagnostics = run(names, records, kept).image_diagnostics(iou_thr=0.5)
    right, missing = diagnostics["dt_status"], diagnostics["gt_status"]
    results: list[ImageResult] = []
    first_detection = first_truth = 1
    for index, (record, found) in enumerate(zip(records, kept, strict=True)):
        status = [right.get(first_detection + n) for n in range(len(found))]
        truth = np.array([missing.get(first_truth + g) != "fn" for g in range(len(record.boxes))], bool)
        true, false, missed = status.count("tp"), status.count("fp"), int((~truth).sum())
        f1 = 2 * true / (2 * true + false + missed) if true + false + missed else 1.0
        shown = np.array([value != "fp" for value in status], bool)
        results.append(ImageResult(index, true, false, missed, f1, shown, truth))
        first_detection += len(found)
        first_truth += len(record.boxes)
    return results


def worst_and_best(results: Sequence[ImageResult], *, count: int) -> tuple[list[ImageResult], list[ImageResult]]:
    """The `count` worst pictures (with an error at least) and, of the rest, the best ones (with a truth found)."""
    by_errors = sorted(results, key=lambda r: (r.f1, -(r.false + r.missed), r.index))
    worst = [r for r in by_errors if r.false + r.missed][:count]
    taken = {r.index for r in worst}
    by_success = sorted(results, key=lambda r: (-r.f1, -r.true, r.index))
    return worst, [r for r in by_success if r.true and r.index not in taken][:count]
