"""The one progress bar of loops over known items; `train` and `predict`, which follow other things, have their own."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from falconet.core.figures import duration
from falconet.core.terminal import beneath

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")


_log = logging.getLogger(__name__)

EVERY = 15.0
"""Seconds after which a line is written where there is no terminal."""


class Bar(Protocol):
    """Wraps a sequence, so that the bar follows the loop over it."""

    def __call__(self, items: Sequence[Item]) -> Iterable[Item]: ...


@contextmanager
def progress(title: str) -> Iterator[Bar]:
    """A bar on standard error, where that is a terminal; elsewhere a line every `EVERY` seconds."""
    if not sys.stderr.isatty():
        yield lambda items: _told(title, items)
        return
    with open_bar(title) as bar:
        yield lambda items: bar.track(items, total=len(items))


def _told(title: str, items: Sequence[Item]) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= EVERY:
            left = duration((now - start) / done * (len(items) - done))
            _log.info("%s: %d of %d, about %s left", title, done, len(items), left)
            last = now
        yield item


@contextmanager
def open_bar(title: str) -> "Iterator[Progress]":
    """Rich's progress in our form: title, bar, done of all, time left; lines printed meanwhile go above it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console, shown = Console(file=beneath(sys.stderr)), sys.stderr.isatty()
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=redirect) as bar:
        yield bar


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (how many are done, how many there are)."""
    with open_bar(title) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
