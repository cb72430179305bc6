"""Average precision: by hand, against pycocotools, and where there is nothing to count."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.types import Detections, Record
from falconet.eval.coco_ap import evaluate

NAMES = ("ant", "bee", "cat")

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def record(image_id, boxes, labels, crowd=None, areas=None):
    crowd = np.zeros(len(labels), bool) if crowd is None else crowd
    return Record(image_id, Path(f"{image_id}.jpg"), None, None, boxes, labels, crowd, areas)


def found(boxes, scores, labels):
    return Detections(boxes, scores, labels, NAMES)


NOTHING = found([], [], [])


def test_one_perfect_box_is_ap_one():
    box = [[0, 0, 50, 50]]
    metrics = evaluate(NAMES, [record("a", box, [0])], [found(box, [0.9], [0])])
    assert metrics["AP"] == pytest.approx(1)
    assert metrics.per_class == {"ant": pytest.approx(1), "bee": -1, "cat": -1}
    assert metrics.truths == {"ant": 1, "bee": 0, "cat": 0}
    assert metrics["APm"] == pytest.approx(1)  # 2,500 square pixels
    assert (metrics["APs"], metrics["APl"]) == (-1, -1)
    assert metrics.images == 1


def test_iou_of_point_six_counts_at_three_of_ten_thresholds():
    # IoU 0.62: above 0.50, 0.55 and 0.60.
    truth, box = [[0, 0, 100, 100]], [[0, 0, 100, 62]]
    metrics = evaluate(NAMES, [record(1, truth, [1])], [found(box, [0.5], [1])])
    assert metrics["AP"] == pytest.approx(0.3)
    assert (metrics["AP50"], metrics["AP75"]) == (pytest.approx(1), 0)
    assert metrics["AR1"] == pytest.approx(0.3)
    assert metrics.per_class_ap50["bee"] == pytest.approx(1)


def test_false_alarm_in_a_picture_without_truth_costs_precision():
    box = [[0, 0, 50, 50]]
    records = [record("a", box, [0]), record("b", [], [])]
    metrics = evaluate(NAMES, records, [found(box, [0.5], [0]), found(box, [0.9], [0])])
    assert metrics["AP"] == pytest.approx(0.5)  # the false one ranks first


def test_detection_in_a_crowd_is_ignored():
    boxes, crowd = [[0, 0, 50, 50], [100, 100, 300, 300]], [False, True]
    detections = found([[0, 0, 50, 50], [150, 150, 200, 200]], [0.5, 0.9], [0, 0])
    metrics = evaluate(NAMES, [record(7, boxes, [0, 0], np.array(crowd))], [detections])
    assert metrics["AP"] == pytest.approx(1)
    assert metrics.truths["ant"] == 1


def test_given_areas_decide_the_size_split():
    box = [[0, 0, 50, 50]]
    metrics = evaluate(NAMES, [record(1, box, [0], areas=[100.0])], [found(box, [0.9], [0])])
    assert (metrics["APs"], metrics["APm"]) == (pytest.approx(1), -1)


def test_at_most_a_hundred_detections_count():
    misses = np.tile([[200.0, 200, 210, 210]], (100, 1))
    boxes = np.concatenate([misses, [[0, 0, 50, 50]]])
    detections = found(boxes, np.linspace(0.9, 0.1, 101), np.zeros(101, int))
    assert evaluate(NAMES, [record(1, [[0, 0, 50, 50]], [0])], [detections])["AR100"] == 0


def test_no_detections_at_all_is_zero():
    metrics = evaluate(NAMES, [record(1, [[0, 0, 50, 50]], [0])], [NOTHING])
    assert (metrics["AP"], metrics["AR100"], metrics.per_class["ant"]) == (0, 0, 0)


def test_no_truth_at_all_is_undefined_and_valid_json():
    metrics = evaluate(NAMES, [record(1, [], [])], [found([[0, 0, 9, 9]], [0.9], [2])])
    assert set(metrics.as_dict().values()) == {-1.0}
    assert json.loads(json.dumps(metrics.as_dict(), allow_nan=False)) == metrics.as_dict()


def test_no_pictures_at_all():
    metrics = evaluate(NAMES, [], [])
    assert metrics["AP"] == -1
    assert metrics.images == 0


def test_nothing_is_printed(capfd):
    evaluate(NAMES, [record(1, [[0, 0, 50, 50]], [0])], [NOTHING])
    assert capfd.readouterr() == ("", "")


def test_keys_are_in_coco_order():
    assert tuple(evaluate(NAMES, [], []).as_dict()) == KEYS


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="expected detections of each of the 1 records, but got 0"):
        evaluate(NAMES, [record(1, [], [])], [])


def test_a_label_outside_the_names_is_refused():
    with pytest.raises(ValueError, match=r"labels of detections must lie in 0\.\.2 for 3 classes, but got 5\.\.5"):
        evaluate(NAMES, [record(1, [], [])], [Detections([[0, 0, 1, 1]], [1], [5])])
    with pytest.raises(ValueError, match=r"labels of records must lie in 0\.\.2 for 3 classes, but got 3\.\.3"):
        evaluate(NAMES, [record(1, [[0, 0, 1, 1]], [3])], [NOTHING])


def random_set(seed, *, images, most):
    """Pictures with truth, crowds and pictures without either; detections near the truth and elsewhere."""
    rng = np.random.default_rng(seed)
    records, detections = [], []
    for index in range(images):
        count = int(rng.integers(0, most + 1)) * int(rng.random() > 0.2)
        corner = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(4, 200, (count, 2))], 1).astype(np.float32)
        labels = rng.integers(0, 2 + index % 2, count)
        areas = None if index % 3 else rng.uniform(10, 20000, count).astype(np.float32)
        records.append(record(f"image {index}", boxes, labels, rng.random(count) < 0.15, areas))
        near = boxes[rng.random(count) < 0.8]
        near_labels = labels[rng.integers(0, count, len(near))] if count else labels[:0]
        extra = int(rng.integers(0, 130 if index == 0 else 8)) * int(rng.random() > 0.2)
        corner = rng.uniform(0, 300, (extra, 2))
        away = np.concatenate([corner, corner + rng.uniform(4, 200, (extra, 2))], 1).astype(np.float32)
        jitter = near + rng.normal(0, 6, near.shape).astype(np.float32)
        jitter[:, 2:] = np.maximum(jitter[:, 2:], jitter[:, :2] + 1)
        boxes = np.concatenate([jitter, away])
        scores = np.round(rng.random(len(boxes)), 2)  # equal scores occur
        detections.append(found(boxes, scores, np.concatenate([near_labels, rng.integers(0, 3, extra)])))
    return records, detections


def oracle(records, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = COCO(), []
    annotations = []
    for index, item in enumerate(records, start=1):
        for g, (x1, y1, x2, y2) in enumerate(item.boxes.astype(float).tolist()):
            area = (x2 - x1) * (y2 - y1) if item.areas is None else float(item.areas[g])
            box = [x1, y1, x2 - x1, y2 - y1]
            label, crowd = int(item.labels[g]) + 1, int(item.crowd[g])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "iscrowd": crowd,
                }
            )
    truth.dataset = {
        "images": [{"id": index} for index in range(1, len(records) + 1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(NAMES, start=1)],
        "annotations": annotations,
    }
    for index, item in enumerate(detections, start=1):
        for box, score, label in zip(item.boxes.astype(float).tolist(), item.scores, item.labels, strict=True):
            x1, y1, x2, y2 = box
            results.append(
                {
                    "image_id": index,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"]
    per_class = [p[p > -1].mean() if (p > -1).any() else -1 for p in precision[:, :, :, 0, 2].transpose(2, 0, 1)]
    return evaluator.stats, per_class


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 12), most=st.integers(0, 20))
def test_agrees_with_pycocotools(seed, images, most):
    records, detections = random_set(seed, images=images, most=most)
    if not any(len(item) for item in detections):
        detections[0] = found([[0, 0, 5, 5]], [0.5], [0])  # pycocotools cannot read an empty result
    metrics = evaluate(NAMES, records, detections)
    expected, per_class = oracle(records, detections)
    np.testing.assert_allclose(list(metrics.as_dict().values()), expected, atol=1e-6)
    np.testing.assert_allclose(list(metrics.per_class.values()), per_class, atol=1e-6)
