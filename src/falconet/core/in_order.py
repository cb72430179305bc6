"""Work that several threads do, with what comes of it in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_order(
    do: Callable[[Item], Answer], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Generator[Answer, None, None]:
    """What `do` gives for each item, in their order.

    An error is raised in the place of its answer.

    Args:
        do: called in the threads.
        items: drawn from in the caller's thread.
        threads: that work at the same time.
        ahead: items that are worked on, or wait to be taken, at most.
        name: of the threads.
    """
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(do, item))
                if len(waiting) >= max(1, ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
