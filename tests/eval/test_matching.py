"""Which detections find which objects: the same as COCO's loop over pictures, classes, rules and detections."""

import numpy as np
import pytest

from falconet.core.types import Detections, Record
from falconet.eval import matching
from falconet.eval.matching import AREAS, IOUS, LIMIT, match_all
from tests.eval.test_bootstrap import made


def overlap(box: np.ndarray, other: np.ndarray, *, crowd: bool) -> float:
    sides = np.maximum(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0)
    shared, own, others = sides.prod(), (box[2:] - box[:2]).prod(), (other[2:] - other[:2]).prod()
    return float(shared / (own if crowd else own + others - shared))


def plain(record: Record, answer: Detections, label: int, area: int, iou: float) -> list[tuple[int, str, int]]:
    """The place, verdict and object of each detection of one class, by descending score."""
    low, high = AREAS[area]
    objects = np.flatnonzero(record.labels == label)
    boxes = record.boxes.astype(np.float64)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    sizes = sizes if record.areas is None else np.where(np.isnan(record.areas), sizes, record.areas)
    aside = record.crowd | (sizes < low) | (sizes > high)
    objects = objects[np.argsort(aside[objects], kind="stable")]
    taken: set[int] = set()
    told = []
    order = [place for place in np.argsort(-answer.scores, kind="stable").tolist() if answer.labels[place] == label]
    for place in order[:LIMIT]:
        box = answer.boxes[place].astype(np.float64)
        best, most = -1, min(iou, 1 - 1e-10)
        for one in objects.tolist():
            if one in taken and not record.crowd[one]:
                continue
            if best >= 0 and not aside[best] and aside[one]:
                break
            own = overlap(box, boxes[one], crowd=bool(record.crowd[one]))
            if own >= most:
                best, most = one, own
        outside = not low <= (box[2:] - box[:2]).prod() <= high
        if best >= 0:
            taken.add(best)
        verdict = ("ignored" if aside[best] else "right") if best >= 0 else ("ignored" if outside else "wrong")
        told.append((place, verdict, best if verdict == "right" else -1))
    return told


@pytest.mark.parametrize("pairs", [500_000, 7])
def test_the_same_as_detection_by_detection(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(matching, "PAIRS", pairs)
    names, records, answers = made(12, 2, 7)
    answers[3] = Detections(*(np.repeat(one, 6, 0) for one in (answers[3].boxes, answers[3].scores, answers[3].labels)))
    answers[4] = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    for label, found in enumerate(match_all(names, records, answers)):
        assert (np.diff(found.scores) <= 0).all()
        for image, (record, answer) in enumerate(zip(records, answers, strict=True)):
            own = found.images == image
            for rule in range(len(AREAS) * len(IOUS)):
                area, step = divmod(rule, len(IOUS))
                expected = plain(record, answer, label, area, IOUS[step])
                assert found.places[own].tolist() == [place for place, _, _ in expected]
                assert found.ranks[own].tolist() == list(range(len(expected)))
                assert found.right[rule, own].tolist() == [verdict == "right" for _, verdict, _ in expected]
                assert found.ignored[rule, own].tolist() == [verdict == "ignored" for _, verdict, _ in expected]
            first = plain(record, answer, label, 0, IOUS[0])
            assert found.finds[own].tolist() == [one for _, _, one in first]
            overlaps = [
                overlap(answer.boxes[place].astype(np.float64), record.boxes[one].astype(np.float64), crowd=False)
                if one >= 0
                else 0.0
                for place, _, one in first
            ]
            assert found.overlaps[own] == pytest.approx(overlaps)


def test_no_pictures_and_no_classes() -> None:
    (nothing,) = match_all(["a"], [], [])
    assert nothing.right.shape == (len(AREAS) * len(IOUS), 0)
    assert nothing.objects.shape == (len(AREAS), 0)
    assert match_all([], [], []) == []
