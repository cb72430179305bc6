"""Frames through a predictor: several at once, or one after the other while a thread reads and resizes the next.

Many pictures are done soonest by as many runs of the network at once as there are CPUs, each with one thread and each
decoding its own picture: nothing waits for anything. A camera wants the answer to the frame at hand, so there one run
takes all threads.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from falconet.core.errors import ConfigError
from falconet.core.in_order import in_order
from falconet.runtime.predictor import Predictor, Prepared
from falconet.runtime.stream import Broken, Frame, ImageBytes, ImageFile, MediaSource, read_frames

Item = TypeVar("Item")


class Milliseconds(NamedTuple):
    """What a frame took. Of a batch, each frame bears an equal share of the network's time."""

    read: float
    """Reading, decoding and resizing, in the reader's thread."""
    network: float
    postprocess: float


class Result(NamedTuple):
    """A frame with what the model says of it; boxes are in pixels of the image at full size."""

    frame: Frame
    answer: Any
    milliseconds: Milliseconds


class _Ready(NamedTuple):
    frame: Frame
    prepared: Prepared
    read: float


def predict_frames(
    predictor: Predictor[Any], sources: Iterable[MediaSource], *, batch: int = 1, ahead: int | None = None
) -> Generator[Result | Broken, None, None]:
    """The answer for each frame of `sources`, in their order; memory does not grow with their number.

    As many runs of the network go on at once as the predictor was opened for (`streams`).

    Args:
        predictor: answers.
        sources: as `find_sources` gives them.
        batch: frames that go through the network together, one such run after the other where it is above 1.
        ahead: frames that may be read before they are needed; None takes twice those that are worked on.

    Yields:
        A `Result` per frame, or `Broken` for a source that cannot be read.

    Raises:
        ConfigError: a batch below 1.
    """
    if batch < 1:
        raise ConfigError(f"batch must be 1 or more, but got {batch}")
    if batch == 1 and predictor.streams > 1:
        yield from _in_streams(predictor, sources, ahead=2 * predictor.streams if ahead is None else ahead)
        return
    waiting: list[_Ready] = []
    for item in prefetch(_prepare(predictor, sources), ahead=2 * batch if ahead is None else ahead):
        if isinstance(item, _Ready):
            waiting.append(item)
        if waiting and (len(waiting) == batch or isinstance(item, Broken)):
            yield from _answer(predictor, waiting)
            waiting = []
        if isinstance(item, Broken):
            yield item
    if waiting:
        yield from _answer(predictor, waiting)


def prefetch(items: Iterator[Item], *, ahead: int) -> Generator[Item, None, None]:
    """The same items, of which up to `ahead` (at least 1) are drawn in another thread before they are needed.

    An error of `items` is raised here, after the items before it.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="falconet-reader") as reader:
        waiting = deque(reader.submit(next, items, end) for _ in range(max(1, ahead)))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(reader.submit(next, items, end))
                yield item  # type: ignore[misc]  # the sentinel is no Item, and never gets here
        finally:
            for future in waiting:
                future.cancel()


def _in_streams(
    predictor: Predictor[Any], sources: Iterable[MediaSource], *, ahead: int
) -> Generator[Result | Broken, None, None]:
    """`predict_frames` by several threads; `ahead` frames at most are worked on, or wait to be taken."""
    drawn = prefetch(_draw(predictor, sources), ahead=predictor.streams)
    with closing(drawn):
        yield from in_order(
            partial(_whole, predictor), drawn, threads=predictor.streams, ahead=ahead, name="falconet-stream"
        )


class _Drawn(NamedTuple):
    """A frame of a video, or a picture that is still to be read."""

    frame: Frame | ImageFile | ImageBytes
    read: float


def _draw(predictor: Predictor[Any], sources: Iterable[MediaSource]) -> Iterator[_Drawn | Broken]:
    """What can only be done in order: the frames of a video. A picture is read by whoever works on it."""
    for source in sources:
        if isinstance(source, ImageFile | ImageBytes):
            yield _Drawn(source, 0.0)
            continue
        frames = read_frames([source], at_least=predictor.input_size)
        start = perf_counter()
        for frame in frames:
            yield frame if isinstance(frame, Broken) else _Drawn(frame, (perf_counter() - start) * 1e3)
            start = perf_counter()


def _whole(predictor: Predictor[Any], drawn: _Drawn | Broken) -> Result | Broken:
    """A frame from file to answer."""
    if isinstance(drawn, Broken):
        return drawn
    start = perf_counter()
    frame = drawn.frame
    if isinstance(frame, ImageFile | ImageBytes):
        found = next(read_frames([frame], at_least=predictor.input_size))
        if isinstance(found, Broken):
            return found
        frame = found
    prepared = predictor.resize(frame.image, frame.original)
    read = drawn.read + (perf_counter() - start) * 1e3
    return next(_answer(predictor, [_Ready(frame, prepared, read)]))


def _prepare(predictor: Predictor[Any], sources: Iterable[MediaSource]) -> Iterator[_Ready | Broken]:
    frames = read_frames(sources, at_least=predictor.input_size)
    while True:
        start = perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        if isinstance(frame, Broken):
            yield frame
        else:
            prepared = predictor.resize(frame.image, frame.original)
            yield _Ready(frame, prepared, (perf_counter() - start) * 1e3)


def _answer(predictor: Predictor[Any], ready: Sequence[_Ready]) -> Iterator[Result]:
    start = perf_counter()
    outputs = predictor.run([one.prepared for one in ready])
    network = (perf_counter() - start) * 1e3 / len(ready)
    for index, one in enumerate(ready):
        start = perf_counter()
        found = predictor.task.answer(outputs, index, one.prepared.placement)
        took = (perf_counter() - start) * 1e3
        yield Result(one.frame, found, Milliseconds(one.read, network, took))
