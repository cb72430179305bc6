"""Average precision and recall by the COCO protocol, through hotcoco (equal to pycocotools).

Protocol: https://cocodataset.org/#detection-eval. IoU thresholds 0.50, 0.55, ... 0.95, 101 recall points, at
most 100 detections per picture, small / medium / large split at 32^2 and 96^2 square pixels. A crowd box is
neither counted nor missed; detections lying in one are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from falconet.core.types import Detections, Record
from falconet.eval.matching import AREAS

UNDEFINED = -1.0
"""COCO's value for a figure that no ground truth decides, for example APl without a large object."""

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The result of an evaluation. Figures are fractions 0..1, or -1 where there is no truth to decide them.

    Attributes:
        values: the twelve COCO figures by name, AP first.
        per_class: AP by class name.
        per_class_ap50: AP at IoU 0.5 by class name.
        truths: ground-truth boxes by class name, crowds apart.
        sizes: likewise the "small", "medium" and "large" ones; one on a limit is in both, as in COCO's figures.
        images: number of pictures.
    """

    values: dict[str, float]
    per_class: dict[str, float]
    per_class_ap50: dict[str, float]
    truths: dict[str, int]
    sizes: dict[str, int]
    images: int

    def __getitem__(self, key: str) -> float:
        """One of the twelve figures: `metrics["AP50"]`."""
        return self.values[key]

    def as_dict(self) -> dict[str, float]:
        """The twelve figures in COCO's order. All finite, so the dictionary is valid JSON as it stands."""
        return dict(self.values)


def evaluate(names: Sequence[str], records: Sequence[Record], detections: Sequence[Detections]) -> Metrics:
    """COCO's twelve figures and AP per class.

    Args:
        names: class names; labels of records and of detections index them.
        records: pictures with their truth; one without boxes counts (every detection in it is false).
        detections: of each record, in the same order, in pixels of the picture.

    Raises:
        ValueError: lists of different lengths, or a label outside `names`.
    """
    return summarize(run(names, records, detections), names, records)


def run(names: Sequence[str], records: Sequence[Record], detections: Sequence[Detections]) -> COCOeval:
    """hotcoco's evaluator with all pictures matched and accumulated; arguments and errors as in `evaluate`.

    Image ids are 1, 2, ... in the order of `records`, category ids 1, 2, ... in the order of `names`;
    annotation and detection ids likewise run through all pictures in order.
    """
    if len(records) != len(detections):
        raise ValueError(f"expected detections of each of the {len(records)} records, but got {len(detections)}")
    truth = _truth(names, records)
    evaluator = COCOeval(truth, truth.load_res(_results(len(names), detections)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def summarize(evaluator: COCOeval, names: Sequence[str], records: Sequence[Record]) -> Metrics:
    """The figures of an evaluator made by `run` from the same names and records."""
    assert evaluator.eval is not None
    # [IoU, recall points, C, areas, limits] and [IoU, C, areas, limits]; -1 where a class has no truth.
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    values = {
        "AP": _mean(precision[:, :, :, _ALL, 2]),
        "AP50": _mean(precision[0, :, :, _ALL, 2]),
        "AP75": _mean(precision[5, :, :, _ALL, 2]),
        "APs": _mean(precision[:, :, :, _SMALL, 2]),
        "APm": _mean(precision[:, :, :, _MEDIUM, 2]),
        "APl": _mean(precision[:, :, :, _LARGE, 2]),
        "AR1": _mean(recall[:, :, _ALL, 0]),
        "AR10": _mean(recall[:, :, _ALL, 1]),
        "AR100": _mean(recall[:, :, _ALL, 2]),
        "ARs": _mean(recall[:, :, _SMALL, 2]),
        "ARm": _mean(recall[:, :, _MEDIUM, 2]),
        "ARl": _mean(recall[:, :, _LARGE, 2]),
    }
    labels = _join([record.labels[~record.crowd] for record in records], np.int64)
    counts = np.bincount(labels, minlength=len(names))
    return Metrics(
        values=values,
        per_class={name: _mean(precision[:, :, c, _ALL, 2]) for c, name in enumerate(names)},
        per_class_ap50={name: _mean(precision[0, :, c, _ALL, 2]) for c, name in enumerate(names)},
        truths={name: int(counts[c]) for c, name in enumerate(names)},
        sizes=_sizes(records),
        images=len(records),
    )


def _sizes(records: Sequence[Record]) -> dict[str, int]:
    """Objects by the ranges of area that COCO's figures split at."""
    areas = _join([_object_areas(record)[~record.crowd] for record in records], np.float64)
    return {
        name: int(((low <= areas) & (areas <= high)).sum())
        for name, (low, high) in zip(("small", "medium", "large"), AREAS[1:], strict=True)
    }


def _object_areas(record: Record) -> NDArray[np.float64]:
    """[G] areas of objects, those of the boxes where none are given."""
    corners = record.boxes.astype(np.float64)
    own = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    given = _areas(record)
    return np.where(np.isnan(given), own, given)


def _truth(names: Sequence[str], records: Sequence[Record]) -> COCO:
    images = [
        {"id": index, "width": record.width or 0, "height": record.height or 0, "file_name": record.path.name}
        for index, record in enumerate(records, start=1)
    ]
    labels = _join([record.labels for record in records], np.int64)
    _check_labels(labels, len(names), "records")
    boxes = _join([record.boxes for record in records], np.float64, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return COCO.from_arrays(
        images,
        [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
        np.repeat(np.arange(1, len(records) + 1), [len(record.boxes) for record in records]),
        labels + 1,
        boxes,
        area=_join([_object_areas(record) for record in records], np.float64),
        iscrowd=_join([record.crowd for record in records], np.bool_),
    )


def _areas(record: Record) -> NDArray[Any]:
    """Object areas [G]; NaN where the box's area counts."""
    return np.full(len(record.boxes), np.nan) if record.areas is None else record.areas


def _results(num_classes: int, detections: Sequence[Detections]) -> NDArray[np.float64]:
    """[N, 7]: image id, left, top, width, height, score, category id."""
    labels = _join([found.labels for found in detections], np.int64)
    _check_labels(labels, num_classes, "detections")
    rows = np.empty((len(labels), 7))
    rows[:, 0] = np.repeat(np.arange(1, len(detections) + 1), [len(found) for found in detections])
    rows[:, 1:5] = _join([found.boxes for found in detections], np.float64, 4)
    rows[:, 3:5] -= rows[:, 1:3]
    rows[:, 5] = _join([found.scores for found in detections], np.float64)
    rows[:, 6] = labels + 1
    return rows


def _join(parts: Sequence[NDArray[Any]], dtype: Any, columns: int | None = None) -> NDArray[Any]:
    empty = np.zeros(0 if columns is None else (0, columns), dtype)
    return np.concatenate([empty, *parts]).astype(dtype)


def _check_labels(labels: NDArray[np.int64], num_classes: int, owner: str) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels of {owner} must lie in 0..{num_classes - 1} for {num_classes} classes, "
            f"but got {labels.min()}..{labels.max()}"
        )


def _mean(values: NDArray[Any]) -> float:
    """Mean of the figures that truth decides; `UNDEFINED` when there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else UNDEFINED
