"""Average precision by the protocols of Pascal VOC, at one IoU.

Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015, section 2.2, and the VOC
2007 development kit. A detection belongs to the truth of its class and picture that it overlaps most; it is right
when the IoU is large enough and no better detection belongs to that truth. What belongs to a truth marked difficult is
neither right nor wrong. There is no limit on the number of detections.

Since 2010 AP is the area under the precision that no higher recall exceeds; in 2007 it was the mean of that at the
recalls 0, 0.1, ... 1.

Where we differ from the kit: a box is as wide as its corners are apart; the kit adds a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from falconet.core.boxes import pairwise_iou
from falconet.core.types import Detections, Record

UNDEFINED = -1.0
"""AP of a class without ground truth."""


@dataclass(frozen=True, slots=True)
class VocMetrics:
    """AP by both protocols. Fractions 0..1, or -1 without truth to decide.

    Attributes:
        area: mean over the classes with truth of the AP since 2010.
        eleven_points: likewise of that of 2007.
        per_class: AP since 2010 by class name.
        per_class_eleven_points: likewise that of 2007.
    """

    area: float
    eleven_points: float
    per_class: dict[str, float]
    per_class_eleven_points: dict[str, float]


def evaluate_voc(
    names: Sequence[str], records: Sequence[Record], detections: Sequence[Detections], *, iou_threshold: float = 0.5
) -> VocMetrics:
    """AP by the protocols of VOC.

    Args:
        names: class names; labels of records and of detections index them.
        records: pictures with their truth; boxes marked as crowds (VOC: difficult) do not count.
        detections: of each record, in the same order, in pixels of the picture.
        iou_threshold: smallest IoU of a right detection.
    """
    assert len(records) == len(detections), "there are detections of every record"
    area, eleven = {}, {}
    for label, name in enumerate(names):
        right, positives = _ranked(label, records, detections, iou_threshold)
        area[name] = area_under(right, positives)
        eleven[name] = eleven_point(right, positives)
    return VocMetrics(_mean(area), _mean(eleven), area, eleven)


def area_under(right: NDArray[np.bool_], positives: int) -> float:
    """AP since 2010 of detections in order of their scores, of which some are right; -1 without truth."""
    if positives == 0:
        return UNDEFINED
    recall, precision = _curve(right, positives)
    steps = np.diff(recall, prepend=0.0)
    return float((steps * precision).sum())


def eleven_point(right: NDArray[np.bool_], positives: int) -> float:
    """AP of 2007; as `area_under`."""
    if positives == 0:
        return UNDEFINED
    recall, precision = _curve(right, positives)
    places = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-12)
    return float(np.append(precision, 0.0)[places].mean())


def _curve(right: NDArray[np.bool_], positives: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall after each detection, and the best precision from there on."""
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    return found / positives, np.maximum.accumulate(precision[::-1])[::-1]


def _ranked(
    label: int, records: Sequence[Record], detections: Sequence[Detections], iou_threshold: float
) -> tuple[NDArray[np.bool_], int]:
    """Which detections of a class are right, best score first, and how many truths there are to find."""
    scores, owners, ignored = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    first, positives = 0, 0  # truths are numbered through all pictures
    for record, found in zip(records, detections, strict=True):
        own, mine = record.labels == label, found.labels == label
        truths, difficult = record.boxes[own], record.crowd[own]
        overlaps = pairwise_iou(found.boxes[mine], truths)
        best = overlaps.max(1, initial=0.0)
        closest = overlaps.argmax(1) if len(truths) else np.zeros(len(best), np.int64)
        reached = best >= iou_threshold
        scores.append(found.scores[mine])
        owners.append(np.where(reached, first + closest, -1))
        ignored.append(reached & np.append(difficult, False)[closest])
        first += len(truths)
        positives += int((~difficult).sum())
    counted = ~np.concatenate(ignored)
    order = np.argsort(-np.concatenate(scores)[counted], kind="stable")
    owner = np.concatenate(owners)[counted][order]
    right = np.zeros(len(owner), np.bool_)
    right[np.unique(owner, return_index=True)[1]] = True
    return right & (owner >= 0), positives


def _mean(values: dict[str, float]) -> float:
    defined = [value for value in values.values() if value != UNDEFINED]
    return float(np.mean(defined)) if defined else UNDEFINED
