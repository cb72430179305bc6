"""The loop over pictures: order, pictures that cannot be read."""

from falconet.core.errors import DataError
from falconet.eval.answers import answer_records
from tests.eval.test_coco_ap import found, record


def test_a_broken_picture_is_reported_and_left_out(caplog):
    records = [record("a", [], []), record("broken", [], []), record("c", [], [])]

    def predict(path):
        if path.name == "broken.jpg":
            raise DataError("broken.jpg: is truncated")
        return found([[0, 0, 1, 1]], [0.5 if path.name == "a.jpg" else 0.7], [0])

    seen = []

    def progress(items):
        for item in items:
            seen.append(item.image_id)
            yield item

    result = answer_records(predict, records, progress=progress)
    assert [item.image_id for item in result.records] == ["a", "c"]
    assert [round(float(d.scores[0]), 1) for d in result.answers] == [0.5, 0.7]
    assert result.left_out == ["broken.jpg: is truncated"]
    assert seen == ["a", "broken", "c"]
    assert caplog.messages == ["left out: broken.jpg: is truncated"]


def test_nothing_to_do():
    result = answer_records(lambda _: found([], [], []), [])
    assert (result.records, result.answers, result.left_out) == ([], [], [])
