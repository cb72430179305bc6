"""Pictures wait in a bounded queue and are worked on by a few threads, each from bytes to answer.

Many pictures are done soonest by as many runs of one thread as there are CPUs (see `falconet.runtime.pipeline`). A
picture that is alone gets a run with all of them.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic, perf_counter
from typing import Any

from falconet.core.errors import DataError, ModelError
from falconet.runtime.tasks import Task
from falconet.serving.answers import Answered, Want, answer_picture
from falconet.serving.body import Upload
from falconet.serving.hosted import Version
from falconet.serving.limits import Limits, usual_workers
from falconet.serving.problems import Problem

_log = logging.getLogger(__name__)

_USUAL = 0.03
"""Seconds of a picture, before any was timed."""

_SHARE = 0.05
"""Of the newest picture in the mean of their seconds."""


@dataclass(slots=True, eq=False)
class Job:
    """A picture to answer.

    Attributes:
        version, task: what answers.
        upload: the picture; place: in its request; pixels: as its header says.
        want: in which form.
        until: when nobody waits for it any more, of `monotonic`.
        future: of `loop`, gets the answer or a Problem, as its result.
        put: when it was put into the queue, of `perf_counter`.
        begun: whether a worker took it; dropped: whether nobody wants it any more.
    """

    version: Version
    task: Task[Any]
    upload: Upload
    place: int
    pixels: int
    want: Want
    until: float
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Answered | Problem]"
    put: float = field(default_factory=perf_counter)
    begun: bool = False
    dropped: bool = False

    def finish(self, outcome: Answered | Problem) -> None:
        """Hand the outcome over, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._set, outcome)
        except RuntimeError:  # the loop is closed, nobody waits
            return

    def _set(self, outcome: Answered | Problem) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


class Workers:
    """Threads that answer pictures, and the queue before them.

    Args:
        limits: how many; pixels that are decoded at once are those of one picture of the most pixels.
        observe: called with each answer.
    """

    def __init__(self, limits: Limits, observe: Callable[[Job, Answered], None]) -> None:
        self._limits, self._observe = limits, observe
        self.count = limits.workers or usual_workers()
        self._changed = Condition()
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._pixels = 0
        self._seconds = _USUAL
        self._ended = False
        self._threads = [
            Thread(target=self._run, name=f"falconet-worker-{index}", daemon=True) for index in range(self.count)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once the pictures at hand are done; those that wait are dropped."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=self._limits.deadline)

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Pictures that are worked on."""
        return self._running

    def put(self, jobs: Sequence[Job]) -> None:
        """Take the pictures of a request. Raises Problem where not all of them find a place."""
        with self._changed:
            # Pictures that a free worker takes at once need no place.
            free = max(0, self.count - self._running - len(self._waiting))
            if len(self._waiting) + len(jobs) - free > self._limits.queue:
                seconds = max(1, math.ceil(self._seconds * len(self._waiting) / self.count))
                raise Problem(
                    "queue-full",
                    f"{len(self._waiting)} pictures wait already; send this request again in {seconds} s, or fewer at "
                    "once",
                    retry_after=seconds,
                )
            self._waiting.extend(jobs)
            self._changed.notify(len(jobs))

    def _run(self) -> None:
        while (job := self._next()) is not None:
            start = perf_counter()
            try:
                self._answer(job)
            finally:
                self._leave(job, perf_counter() - start)

    def _next(self) -> Job | None:
        """The next picture, once there is one whose pixels fit beside those that are decoded; None at the end."""
        with self._changed:
            while not self._ended:
                while self._waiting and self._forgotten(self._waiting[0]):
                    self._waiting.popleft()
                if self._waiting and (not self._pixels or self._fits(self._waiting[0])):
                    job = self._waiting.popleft()
                    job.begun = True
                    self._running += 1
                    self._pixels += job.pixels
                    return job
                self._changed.wait()
            return None

    def _fits(self, job: Job) -> bool:
        return self._pixels + job.pixels <= self._limits.pixels

    @staticmethod
    def _forgotten(job: Job) -> bool:
        return job.dropped or monotonic() > job.until

    def _leave(self, job: Job, seconds: float) -> None:
        with self._changed:
            self._running -= 1
            self._pixels -= job.pixels
            self._seconds += _SHARE * (seconds - self._seconds)
            self._changed.notify_all()

    def _answer(self, job: Job) -> None:
        queue = perf_counter() - job.put
        alone = job.version.opened.alone if self._running == 1 and not self._waiting else None
        predictor = alone or job.version.opened.many
        name = job.upload.file or "the picture"
        try:
            with job.version.places:
                answered = answer_picture(predictor, job.task, job.upload.data, name, job.want, queue=queue)
        except DataError as error:
            job.finish(Problem("bad-picture", str(error), picture=job.place))
        except ModelError as error:
            _log.error("%s: %s", job.version.name, error)
            job.finish(
                Problem("model-failed", f"The model '{job.version.name}' cannot answer; the service's log says why")
            )
        except MemoryError:
            job.finish(
                Problem(
                    "out-of-memory",
                    f"{name}: there is too little memory for it; send it again later, or a smaller one",
                    retry_after=5,
                    picture=job.place,
                )
            )
        except Exception:
            _log.exception("%s: a picture could not be answered, which is a fault of the service", job.version.name)
            job.finish(Problem("failed", "The service has a fault; its log says more", picture=job.place))
        else:
            self._observe(job, answered)
            job.finish(answered)
