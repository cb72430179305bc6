"""Doubtful labels: spoilt ones are found among those of a made detector, each as what it is."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from falconet.core.boxes import pairwise_iou
from falconet.core.types import Detections, Record
from falconet.eval.evidence import gather, reliability
from falconet.eval.suspects import Suspect, find_suspects
from falconet.eval.suspects_files import coco_tree, rows
from falconet.eval.suspects_page import write_suspects_page
from falconet.eval.suspects_tasks import label_studio_tasks

NAMES = ("apple", "pear", "plum")


def record(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None, number: int = 0) -> Record:
    """A picture of 200 x 200 pixels."""
    crowds = np.array(crowd if crowd is not None else [False] * len(boxes), np.bool_)
    return Record(number, Path(f"{number}.jpg"), 200, 200, np.array(boxes, np.float32), np.array(labels), crowds)


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    """An answer."""
    return Detections(np.array(boxes, np.float32), np.array(scores), np.array(labels), NAMES)


def made(count: int = 60, *, seldom: int | None = None) -> tuple[list[Record], list[Detections]]:
    """Pictures of four objects each, and a detector that finds nearly all of them, two pixels off, and some nothing.

    Args:
        seldom: the class that is found in one of three cases alone.
    """
    chance = np.random.default_rng(7)
    records, answers = [], []
    for number in range(count):
        corners = np.array([[5, 5], [105, 5], [5, 105], [105, 105]]) + chance.uniform(0, 20, (4, 2))
        boxes = np.concatenate([corners, corners + chance.uniform(40, 60, (4, 2))], 1).astype(np.float32)
        labels = chance.integers(0, 3, 4)
        there = chance.random(4) < np.where(labels == seldom, 0.33, 0.97)
        scores = np.concatenate([chance.uniform(0.5, 0.9, 4)[there], chance.uniform(0.02, 0.2, 2)])
        away = np.array([[80, 80, 100, 100], [180, 180, 198, 198]], np.float32)
        found = np.concatenate([(boxes + chance.normal(0, 2, (4, 4)))[there], away])
        answers.append(Detections(found, scores, np.concatenate([labels[there], chance.integers(0, 3, 2)]), NAMES))
        records.append(
            replace(record([], []), image_id=number, boxes=boxes, labels=labels, crowd=np.zeros(4, np.bool_))
        )
    return records, answers


def spoilt(records: list[Record], answers: list[Detections]) -> list[Record]:
    """The first label that is surely found of each of the first four pictures, spoilt in another way each."""
    first = records[:]
    for image, way in enumerate(("missing", "wrong class", "bad outline", "nothing there")):
        one, sure = records[image], answers[image].boxes[0]
        place = int(pairwise_iou(sure[None], one.boxes)[0].argmax())
        boxes, labels, keep = one.boxes.copy(), one.labels.copy(), np.ones(4, np.bool_)
        keep[place] = way != "missing"
        if way == "wrong class":
            labels[place] = (labels[place] + 1) % 3
        if way == "bad outline":
            boxes[place] += 14
        first[image] = replace(one, boxes=boxes, labels=labels).take(keep)
    extra = records[3]
    box = np.array([[62, 62, 98, 98]], np.float32)
    first[3] = replace(
        extra,
        boxes=np.concatenate([extra.boxes, box]),
        labels=np.append(extra.labels, 0),
        crowd=np.zeros(5, np.bool_),
    )
    return first


def test_spoilt_labels_come_first_as_what_they_are() -> None:
    records, answers = made()
    found = find_suspects(NAMES, spoilt(records, answers), answers)
    by_image = {image: next(one for one in found if one.image == image) for image in range(3)}
    by_image[3] = next(one for one in found if one.image == 3 and one.index == 4)
    assert [by_image[image].kind for image in range(4)] == ["missing", "wrong class", "bad outline", "nothing there"]
    ranks = [found.index(by_image[image]) for image in range(4)]
    assert max(ranks) < 24, "among the first tenth of 240 labels"
    assert [one.doubt for one in found] == sorted((one.doubt for one in found), reverse=True)
    assert by_image[0].box is None
    assert (
        by_image[1].suggested_label == records[1].labels[pairwise_iou(answers[1].boxes[:1], records[1].boxes).argmax()]
    )
    assert by_image[2].suggested_box == pytest.approx(answers[2].boxes[0].tolist())
    assert (by_image[3].label, by_image[3].suggested_label) == (0, None)


def test_a_class_that_is_seldom_found_is_not_suspicious_for_that() -> None:
    records, answers = made(seldom=1)
    lost = find_suspects(NAMES, records, answers)
    doubt = {
        label: [one.doubt for one in lost if one.label == label and one.kind == "nothing there"] for label in range(3)
    }
    assert max(doubt[1]) < min(max(doubt[0]), max(doubt[2]))
    assert max(doubt[1]) < 0.05


def test_what_lies_in_a_crowd_tells_nothing() -> None:
    records, answers = made()
    crowd = record([[0, 0, 200, 200]], [0], [True])
    answer = detections([[10, 10, 50, 50]], [0.9], [0])
    found = find_suspects(NAMES, [*records, crowd], [*answers, answer])
    assert not any(one.image == len(records) for one in found)


def test_nothing_is_doubted_where_there_is_nothing() -> None:
    assert find_suspects(NAMES, [], []) == ()
    nobody = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), NAMES)
    assert find_suspects(NAMES, [record([], [])], [nobody]) == ()
    (one, *_) = find_suspects(NAMES, [record([[0, 0, 9, 9]], [1])], [nobody])
    assert (one.kind, one.confidence, one.suggested_label) == ("nothing there", None, None)


def test_each_detection_agrees_with_one_label() -> None:
    one = gather(
        record([[0, 0, 100, 100], [2, 2, 100, 100]], [0, 0]),
        detections([[1, 1, 100, 100], [0, 0, 100, 100], [0, 0, 100, 100]], [0.5, 0.9, 0.4], [0, 0, 1]),
    )
    assert one.scores.tolist() == pytest.approx([0.9, 0.5, 0.4])
    assert one.partner.tolist() == [0, 1]
    assert one.partner_of.tolist() == [0, 1, -1]
    assert one.free.tolist() == [False, False, False], "the other class covers a label: it is not left over"


def test_reliability_is_the_share_that_agrees() -> None:
    scores = np.tile([0.2, 0.8], 200)
    right = np.concatenate([np.tile([0.0, 1.0], 150), np.tile([1.0, 0.0], 50)])
    labels, counts = np.zeros(400, np.int64), np.ones(400, np.bool_)
    chances = reliability(scores, labels, right, counts, num_classes=2)
    assert chances[:2] == pytest.approx([0.25, 0.75], abs=0.02)


def test_sentences() -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    own = {"image": 0, "index": 0, "label": 0, "box": box}
    said = [
        Suspect("missing", 0.5, 0, suggested_label=1, suggested_box=box, confidence=0.91),
        Suspect("wrong class", 0.5, **own, suggested_label=1, confidence=0.91),
        Suspect("bad outline", 0.5, **own, suggested_label=0, suggested_box=box, confidence=0.91, overlap=0.4),
        Suspect("nothing there", 0.5, **own),
        Suspect("nothing there", 0.5, **own, suggested_label=0, confidence=0.04),
    ]
    assert [one.sentence(NAMES) for one in said] == [
        "The model finds pear (score 0.91) where nothing is labelled.",
        "It is labelled apple; the model finds pear (score 0.91).",
        "The model finds apple (score 0.91) with another outline: both overlap by 40.0 % (IoU).",
        "It is labelled apple, and the model finds nothing like it here.",
        "It is labelled apple, and the model finds only apple (score 0.04) here.",
    ]


def test_files_say_what_is_doubted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.jpg"), np.full((200, 200, 3), 200, np.uint8))
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "1.jpg"), np.full((200, 200, 3), 90, np.uint8))
    records = [
        replace(
            record([[10, 10, 50, 60], [0, 0, 9, 9]], [0, 2]), path=tmp_path / "0.jpg", box_keys=(7, 8), source="a.json"
        ),
        replace(record([], []), path=tmp_path / "more" / "1.jpg"),
    ]
    first = (10.0, 10.0, 50.0, 60.0)
    suspects = [
        Suspect("missing", 0.9, 1, suggested_label=1, suggested_box=(150.0, 150.0, 199.0, 200.0), confidence=0.8),
        Suspect("wrong class", 0.7, 0, index=0, label=0, box=first, suggested_label=1, confidence=0.6),
    ]
    listed = rows(NAMES, records, suspects)
    assert [(one["rank"], one["class"], one["suggested_class"], one["annotation"]) for one in listed] == [
        (1, None, "pear", None),
        (2, "apple", "pear", 7),
    ]
    assert listed[1]["box"] == [10, 10, 50, 60]
    tree = json.loads(json.dumps(coco_tree(NAMES, records, suspects)))
    assert [image["file_name"] for image in tree["images"]] == ["0.jpg", "more/1.jpg"]
    marked, plain, suggested = tree["annotations"]
    assert marked["attributes"] == {
        "suspect": "wrong class",
        "rank": 2,
        "doubt": 0.7,
        "suggested_class": "pear",
        "suggestion": False,
    }
    assert marked["category_id"] == 1
    assert "attributes" not in plain
    assert (suggested["image_id"], suggested["bbox"], suggested["score"]) == (2, [150, 150, 49, 50], 0.8)
    assert suggested["attributes"]["suggestion"] is True
    _check_tasks(json.loads(json.dumps(label_studio_tasks(NAMES, records, suspects))))
    page = tmp_path / "suspects.html"
    write_suspects_page(page, NAMES, records, suspects, shown=1, title="Labels in doubt: <b>", lead=["Two."])
    text = page.read_text(encoding="utf-8")
    assert "Labels in doubt: &lt;b&gt;" in text
    assert "1. missing, doubt 90.0 %: The model finds pear (score 0.80) where nothing is labelled." in text
    assert "2. wrong class" not in text, "one is shown"
    assert text.count("<figure>") == 1


def _check_tasks(tasks: list[dict]) -> None:
    """The suspects of the test above, as Label Studio's tasks."""
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=more/1.jpg",
        "/data/local-files/?d=0.jpg",
    ]
    assert [(task["data"]["rank"], task["data"]["kinds"]) for task in tasks] == [(1, "missing"), (2, "wrong class")]
    (suggested,) = tasks[0]["predictions"][0]["result"]
    assert suggested["value"] == {
        "x": 75.0,
        "y": 75.0,
        "width": 24.5,
        "height": 25.0,
        "rotation": 0,
        "rectanglelabels": ["pear"],
    }
    assert suggested["score"] == tasks[0]["predictions"][0]["score"] == 0.8
    assert tasks[0]["annotations"][0]["result"] == []
    doubted, *others = tasks[1]["annotations"][0]["result"]
    assert doubted["value"]["rectanglelabels"] == ["apple"]
    assert "pear" in doubted["meta"]["text"][0]
    assert all("meta" not in one for one in others)
    (other,) = tasks[1]["predictions"][0]["result"]
    assert (other["value"]["rectanglelabels"], other["value"]["x"]) == (["pear"], doubted["value"]["x"])
