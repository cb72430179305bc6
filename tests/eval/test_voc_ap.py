"""VOC's average precision: by hand, against a plain loop, and where there is nothing to count."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.types import Detections, Record
from falconet.eval.coco_ap import evaluate
from falconet.eval.voc_ap import area_under, eleven_point, evaluate_voc

NAMES = ("ant", "bee")
BOX, SHIFTED, FAR = [0, 0, 50, 50], [0, 0, 50, 40], [100, 100, 150, 150]


def record(boxes, labels, difficult=None):
    difficult = np.zeros(len(labels), bool) if difficult is None else np.array(difficult)
    return Record("a", Path("a.jpg"), None, None, boxes, labels, difficult)


def found(boxes, scores, labels):
    return Detections(boxes, scores, labels, NAMES)


def test_curves_by_hand():
    # Right, wrong, right of four truths: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2.
    right = np.array([True, False, True])
    assert area_under(right, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert eleven_point(right, 4) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # recalls to 0.2, to 0.5
    nothing = np.zeros(0, bool)
    assert (area_under(nothing, 3), eleven_point(nothing, 3)) == (0, 0)
    assert (area_under(right, 0), eleven_point(right, 0)) == (-1, -1)
    every = np.ones(3, bool)
    assert (area_under(every, 3), eleven_point(every, 3)) == (1, 1)


def test_the_second_detection_of_a_truth_is_wrong_also_where_another_truth_is_free():
    # Both lie nearest to the first truth; by COCO's rule the second would take the other one.
    truths = [[0, 0, 50, 50], [0, 0, 50, 30]]
    detections = found([[0, 0, 50, 50], [0, 0, 50, 46]], [0.9, 0.8], [0, 0])
    voc = evaluate_voc(NAMES, [record(truths, [0, 0])], [detections])
    assert voc.per_class == {"ant": pytest.approx(0.5), "bee": -1}
    assert voc.area == pytest.approx(0.5)
    assert voc.eleven_points == pytest.approx(6 / 11)
    assert evaluate(NAMES, [record(truths, [0, 0])], [detections]).per_class_ap50["ant"] == pytest.approx(1)


def test_difficult_truths_are_neither_missed_nor_found():
    records = [record([BOX, FAR], [0, 0], difficult=[False, True])]
    detections = [found([FAR, SHIFTED], [0.9, 0.5], [0, 0])]
    assert evaluate_voc(NAMES, records, detections).area == 1
    assert evaluate_voc(NAMES, [record([FAR], [0], difficult=[True])], detections).area == -1


def test_the_threshold_counts_itself():
    records = [record([[0, 0, 50, 50]], [1])]
    assert evaluate_voc(NAMES, records, [found([[0, 0, 50, 25]], [0.5], [1])]).area == 1
    assert evaluate_voc(NAMES, records, [found([[0, 0, 50, 24.9]], [0.5], [1])]).area == 0
    assert evaluate_voc(NAMES, records, [found([SHIFTED], [0.5], [1])], iou_threshold=0.85).area == 0


def test_other_classes_and_other_pictures_do_not_count():
    records = [record([BOX], [0]), record([], [])]
    right = found([BOX], [0.5], [0])
    assert evaluate_voc(NAMES, records, [found([BOX], [0.9], [1]), found([], [], [])]).area == 0
    assert evaluate_voc(NAMES, records, [right, found([BOX], [0.9], [0])]).area == 0.5
    assert evaluate_voc(NAMES, [], []).area == -1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_a_plain_loop(seed):
    random = np.random.default_rng(seed)

    def boxes(count):
        corner = random.integers(0, 4, (count, 2)) * 10
        return np.concatenate([corner, corner + random.integers(1, 4, (count, 2)) * 10], 1).astype(np.float32)

    records, detections = [], []
    for _ in range(random.integers(1, 4)):
        count, guesses = random.integers(0, 4), random.integers(0, 6)
        records.append(record(boxes(count), np.zeros(count, int), random.uniform(size=count) < 0.3))
        scores = random.choice(np.linspace(0.1, 0.9, 5), guesses)
        order = np.argsort(-scores, kind="stable")
        detections.append(found(boxes(guesses), scores[order], np.zeros(guesses, int)))
    pairs = [(float(s), p, b) for p, d in enumerate(detections) for s, b in zip(d.scores, d.boxes, strict=True)]
    taken, right = set(), []
    for _, picture, box in sorted(pairs, key=lambda pair: -pair[0]):
        best, where = -1.0, None
        for index, truth in enumerate(records[picture].boxes):
            low, high = np.maximum(box[:2], truth[:2]), np.minimum(box[2:], truth[2:])
            shared = float(np.prod(np.maximum(high - low, 0)))
            union = float(np.prod(box[2:] - box[:2]) + np.prod(truth[2:] - truth[:2])) - shared
            if shared / union > best:
                best, where = shared / union, index
        if best >= 0.5 and records[picture].crowd[where]:
            continue
        right.append(best >= 0.5 and (picture, where) not in taken)
        if right[-1]:
            taken.add((picture, where))
    positives = sum(int((~one.crowd).sum()) for one in records)
    voc = evaluate_voc(NAMES, records, detections)
    assert voc.per_class["ant"] == pytest.approx(area_under(np.array(right, bool), positives))
    assert voc.per_class_eleven_points["ant"] == pytest.approx(eleven_point(np.array(right, bool), positives))
