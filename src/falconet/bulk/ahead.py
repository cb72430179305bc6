"""Answers of a storage far away, asked for before they are needed: many requests at once, in order, within bounds.

A request to object storage takes some hundredths of a second, whatever it asks for. One after the other they would
keep the processors waiting; several at once hide each other.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Condition

from falconet.bulk.storage import is_remote
from falconet.runtime.pipeline import prefetch
from falconet.runtime.stream import ImageBytes

AT_ONCE = 32
"""Requests that go on at the same time at least; a predictor of many streams gets `EACH` for each of them."""

EACH = 8

HELD = 256 * 2**20
"""Bytes of pictures that may wait to be decoded; beyond it no request is added to those that go on."""


class ReadAhead:
    """Reads pictures of object storage before they are asked for; those of this machine are left as they are.

    Args:
        at_once: requests that go on at the same time, and pictures that are read or wait at most.
        held: bytes that may wait, see `HELD`.
    """

    def __init__(self, at_once: int = AT_ONCE, held: int = HELD) -> None:
        self._at_once, self._most = at_once, held
        self._bytes, self._stopped = 0, False
        self._changed = Condition()

    def over(self, pictures: Iterator[ImageBytes]) -> Generator[ImageBytes, None, None]:
        """The same pictures in the same order, each once. `stop` must be called before whoever draws is waited for."""
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="falconet-ahead") as pool:
            try:
                with closing(prefetch(self._asked(pictures, pool), ahead=self._at_once)) as drawn:
                    try:
                        yield from drawn
                    except GeneratorExit:
                        self.stop()
                        raise
            finally:
                if self._stopped:  # else somebody still waits for the last ones
                    pool.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Nothing is taken any more: whoever waits for room goes on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _asked(self, pictures: Iterator[ImageBytes], pool: ThreadPoolExecutor) -> Iterator[ImageBytes]:
        for picture in pictures:
            if not is_remote(picture.name):
                yield picture
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._bytes < self._most)
                if self._stopped:
                    return
            yield ImageBytes(self._taker(pool.submit(self._load, picture)), picture.name)

    def _load(self, picture: ImageBytes) -> bytes:
        data = picture.load()
        with self._changed:
            self._bytes += len(data)
        return data

    def _taker(self, asked: "Future[bytes]") -> Callable[[], bytes]:
        def take() -> bytes:
            data = asked.result()
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()
            return data

        return take
