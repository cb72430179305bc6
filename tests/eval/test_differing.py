"""Pictures that one of two models answers better, on cases small enough for paper."""

from pathlib import Path

import numpy as np

from falconet.core.types import Record
from falconet.eval.classes import ClassMatch
from falconet.eval.classification import AllClasses, ClassificationResults, Ranked
from falconet.eval.detection import DetectionResults
from falconet.eval.differing import SHOWN, differing_classifications, differing_detections
from tests.eval.test_coco_ap import NAMES, NOTHING, found, record

BOX, OTHER, FAR = [0, 0, 50, 50], [100, 0, 150, 50], [300, 300, 350, 350]
MATCH = ClassMatch(NAMES, np.arange(3), "")


def results(records, answers, *, own_score=0.5):
    return DetectionResults.of(MATCH, records, answers, limit=100, own_score=own_score, least=0.05)


def indices(shown, records):
    return [records.index(views[0].record) for views in shown]


def test_what_one_alone_finds_and_false_boxes_count():
    records = [record(n, [BOX, OTHER], [0, 0]) for n in range(5)]
    both, one = found([BOX, OTHER], [0.9, 0.8], [0, 0]), found([BOX], [0.9], [0])
    wrong = found([BOX, OTHER, FAR], [0.9, 0.8, 0.7], [0, 0, 1])
    first = results(records, [both, one, NOTHING, wrong, both])
    second = results(records, [both, both, both, both, one])
    differing = differing_detections(first, second)
    assert indices(differing.second, records) == [2, 1, 3]  # two objects, one object, one false box
    assert indices(differing.first, records) == [4]
    as_first, as_second = differing.second[1]
    assert as_first.caption == "A: 1 right, 0 false, 1 missed"
    assert as_second.caption == "B: 2 right, 0 false, 0 missed"
    assert as_first.apart.tolist() == as_second.apart.tolist() == [False, True]


def test_each_model_answers_above_its_own_score():
    records = [record(0, [BOX], [0])]
    answer = [found([BOX], [0.6], [0])]
    low, high = results(records, answer, own_score=0.5), results(records, answer, own_score=0.7)
    differing = differing_detections(low, high)
    assert (indices(differing.first, records), differing.second) == ([0], [])
    assert [len(view.detections) for view in differing.first[0]] == [1, 0]


def test_equal_answers_crowds_and_even_exchanges_are_no_difference():
    crowd = record(1, [BOX], [0], crowd=np.array([True]))
    records = [record(0, [BOX, OTHER], [0, 0]), crowd, record(2, [BOX], [0])]
    only, other = found([BOX], [0.9], [0]), found([OTHER], [0.9], [0])
    first, second = results(records, [only, only, only]), results(records, [other, NOTHING, only])
    assert differing_detections(first, second) == ([], [])
    assert differing_detections(first, first) == ([], [])


def test_only_the_most_different_pictures_are_shown():
    records = [record(n, [BOX, OTHER], [0, 0]) for n in range(SHOWN + 2)]
    both, one = found([BOX, OTHER], [0.9, 0.8], [0, 0]), found([BOX], [0.9], [0])
    first = results(records, [one] * (SHOWN + 1) + [NOTHING])
    second = results(records, [both] * (SHOWN + 2))
    shown = indices(differing_detections(first, second).second, records)
    assert shown == [SHOWN + 1, *range(SHOWN - 1)]


def test_no_pictures():
    assert differing_detections(results([], []), results([], [])) == ([], [])


def test_classifiers_differ_where_one_of_them_is_right():
    match = AllClasses(("ant", "bee"), np.arange(2), "")
    whole = np.array([[0, 0, 9, 9]])
    records = [Record(n, Path(f"{n}.png"), 9, 9, whole, [n % 2], np.zeros(1, bool)) for n in range(3)]

    def answers(*labels):
        ranked = [Ranked(np.array([label, 1 - label]), np.array([0.75, 0.25])) for label in labels]
        return ClassificationResults.of(match, records, ranked)

    differing = differing_classifications(answers(0, 0, 0), answers(1, 1, 0))
    assert [one.caption for (one,) in differing.first] == ["ant: A says ant (0.75), B says bee (0.75)"]
    assert [one.caption for (one,) in differing.second] == ["bee: A says ant (0.75), B says bee (0.75)"]
