import threading
import tracemalloc

import numpy as np
import pytest

import falconet
from falconet.core.errors import ConfigError
from falconet.runtime.pipeline import Result, predict_frames, prefetch
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import Broken, ImageFile, find_sources
from tests.runtime.test_predictor import Recorder
from tests.runtime.test_stream import write_video
from tests.runtime.tiny_model import picture, save


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("falconet-reader")]


def test_prefetch_keeps_order_and_reads_ahead_only_so_far():
    drawn = []

    def numbers():
        for number in range(6):
            drawn.append(number)
            yield number

    items = prefetch(numbers(), ahead=2)
    assert next(items) == 0
    assert len(drawn) <= 4
    assert list(items) == [1, 2, 3, 4, 5]
    assert readers() == []


def test_prefetch_of_nothing():
    assert list(prefetch(iter(()), ahead=3)) == []


def test_prefetch_raises_after_the_items_before():
    def failing():
        yield 1
        raise OSError("disk gone")

    items = prefetch(failing(), ahead=4)
    assert next(items) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(items)
    assert readers() == []


def test_prefetch_left_early_ends_its_thread():
    items = prefetch(iter(range(1000)), ahead=2)
    assert next(items) == 0
    items.close()
    assert readers() == []


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(("blue", "green", "red", "red", "blue")):
        save(tmp_path / "in" / f"{index}.png", picture((index % 4, 0, name)))
    (tmp_path / "in" / "2b.png").write_bytes(b"")
    return tmp_path / "in"


@pytest.mark.parametrize(("batch", "batches"), [(1, [1] * 5), (2, [2, 1, 2]), (8, [3, 2])])
def test_results_come_in_order_with_the_broken_among_them(folder, batch, batches):
    engine = Recorder()
    sources = find_sources([folder])
    items = list(predict_frames(Predictor(engine), sources, batch=batch))
    assert [item.source if isinstance(item, Broken) else item.frame.source for item in items] == sources
    assert [isinstance(item, Broken) for item in items] == [False, False, False, True, False, False]
    found = [name for item in items if isinstance(item, Result) for name, _, _ in item.answer]
    assert found == ["blue", "green", "red", "red", "blue"]
    assert engine.batches == batches


def test_same_as_predict(model, folder):
    predictor = falconet.load(model)
    sources = [source for source in find_sources([folder]) if source.name != "2b"]
    for item in predict_frames(predictor, sources, batch=3):
        expected = predictor.predict(item.frame.source.path)
        np.testing.assert_array_equal(item.answer.boxes, expected.boxes)
        np.testing.assert_array_equal(item.answer.scores, expected.scores)
        assert min(item.milliseconds) >= 0


def test_a_video_and_a_long_run_hold_few_frames(tmp_path):
    engine = Recorder()
    sources = find_sources([write_video(tmp_path / "clip.mp4", frames=12)])
    indices = [item.frame.index for item in predict_frames(Predictor(engine), sources, batch=4)]
    assert indices == list(range(12))
    assert engine.batches == [4, 4, 4]


def test_left_early(folder):
    results = predict_frames(Predictor(Recorder()), find_sources([folder]))
    next(results)
    results.close()
    assert readers() == []


def test_batch_below_one(folder):
    with pytest.raises(ConfigError, match="batch must be 1 or more, but got 0"):
        next(predict_frames(Predictor(Recorder()), find_sources([folder]), batch=0))


def test_memory_does_not_grow_with_the_number_of_pictures(model, tmp_path):
    path = save(tmp_path / "a.png", picture((0, 0, "red"), scale=4))
    sources = [ImageFile(path, str(number)) for number in range(600)]
    predictor = falconet.load(model)
    held = []
    tracemalloc.start()
    try:
        for number, item in enumerate(predict_frames(predictor, sources, batch=2)):
            assert isinstance(item, Result)
            assert len(item.answer) == 1
            if number in (100, 599):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # One picture alone is 196 kB.
    assert held[1] - held[0] < 150_000
