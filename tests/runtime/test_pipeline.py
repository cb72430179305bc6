import threading
import time
import tracemalloc

import numpy as np
import pytest

import falconet
from falconet.core.errors import ConfigError, ModelError
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


def streams() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("falconet-stream")]


class Slow(Recorder):
    """Takes longer for pictures of an even number, and notes how many it works on at once."""

    streams = 3

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, pixels):
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
            even = self.calls % 2 == 0
        time.sleep(0.05 if even else 0.01)
        with self.lock:
            self.now -= 1
        return super().__call__(pixels)


def test_streams_keep_the_order_with_the_broken_among_them(folder):
    engine = Slow()
    sources = find_sources([folder])
    items = list(predict_frames(Predictor(engine), sources))
    assert [item.source if isinstance(item, Broken) else item.frame.source for item in items] == sources
    assert [isinstance(item, Broken) for item in items] == [False, False, False, True, False, False]
    found = [name for item in items if isinstance(item, Result) for name, _, _ in item.answer]
    assert found == ["blue", "green", "red", "red", "blue"]
    assert all(min(item.milliseconds) > 0 for item in items if isinstance(item, Result))
    assert engine.most > 1
    assert streams() == readers() == []


def test_streams_of_a_video_among_pictures(tmp_path, folder):
    clip = write_video(tmp_path / "clip.mp4", frames=12)
    sources = find_sources([folder / "0.png", clip, folder / "1.png"])
    items = list(predict_frames(Predictor(Slow()), sources))
    assert [item.frame.index for item in items] == [None, *range(12), None]
    alone = list(predict_frames(Predictor(Recorder()), sources))
    for one, other in zip(items, alone, strict=True):
        np.testing.assert_array_equal(one.answer.boxes, other.answer.boxes)
        np.testing.assert_array_equal(one.answer.scores, other.answer.scores)


def test_streams_work_ahead_only_so_far(folder):
    engine = Slow()
    sources = [ImageFile(folder / "0.png", str(number)) for number in range(60)]
    results = predict_frames(Predictor(engine), sources, ahead=4)
    next(results)
    time.sleep(0.5)
    assert engine.calls <= 5, "who takes the results sets the pace"
    results.close()
    assert streams() == readers() == []


def test_an_error_in_a_stream_comes_in_its_place(folder):
    class Failing(Slow):
        def __call__(self, pixels):
            if self.calls == 2:
                raise ModelError("the graph does not run")
            return super().__call__(pixels)

    results = predict_frames(Predictor(Failing()), find_sources([folder / "0.png"]) * 40)
    with pytest.raises(ModelError, match="the graph does not run"):
        list(results)
    assert streams() == readers() == []


def test_a_list_in_streams(model, folder):
    paths = [folder / f"{index}.png" for index in range(5)]
    expected = falconet.load(model).predict(paths)
    found = falconet.load(model, streams=2).predict(paths)
    assert [one.source for one in found] == paths
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_batch_below_one(folder):
    with pytest.raises(ConfigError, match="batch must be 1 or more, but got 0"):
        next(predict_frames(Predictor(Recorder()), find_sources([folder]), batch=0))


@pytest.mark.parametrize("streams", [1, 2])
def test_memory_does_not_grow_with_the_number_of_pictures(model, tmp_path, streams):
    path = save(tmp_path / "a.png", picture((0, 0, "red"), scale=4))
    sources = [ImageFile(path, str(number)) for number in range(600)]
    predictor = falconet.load(model, streams=streams)
    held = []
    tracemalloc.start()
    try:
        for number, item in enumerate(predict_frames(predictor, sources, batch=3 - streams)):
            assert isinstance(item, Result)
            assert len(item.answer) == 1
            if number in (100, 599):
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # One picture alone is 196 kB.
    assert held[1] - held[0] < 150_000 * streams
