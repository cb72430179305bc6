"""What `falconet predict` tells people."""

import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Literal

from falconet.core.terminal import one_line

if TYPE_CHECKING:
    from falconet.runtime.pipeline import Result
    from falconet.runtime.predictor import Predictor
    from falconet.runtime.stream import Broken, MediaSource

TIMED_FRAMES = 10_000
"""The medians of the summary are over the last so many frames: memory stays constant."""


class Report:
    """The lines for people: one per picture, video or broken source, then counts and medians.

    Args:
        predictor: gives the answers.
        to: the stream.
        quiet: only errors.
    """

    def __init__(self, predictor: "Predictor[Any]", *, to: Literal["stdout", "stderr"], quiet: bool) -> None:
        # By name: while the bar is shown, it puts a stream of its own into sys.stdout.
        self._stream, self._quiet = to, quiet
        self._task = predictor.task
        self._times: dict[str, deque[float]] = {}
        self._video: MediaSource | None = None
        self._video_frames = 0
        self._video_found: Counter[str] = Counter()
        self._video_rate: float | None = None
        self._found = self._of_videos = 0
        self.frames = self.broken = self.again = 0

    def print(self, line: str) -> None:
        if self._quiet:
            return
        print(line, file=sys.stdout if self._stream == "stdout" else sys.stderr, flush=True)

    def add(self, item: "Result | Broken", *, write: float | None) -> None:
        from falconet.runtime.stream import Broken, VideoFile

        if isinstance(item, Broken):
            self._end_video()
            self.broken += 1
            print(f"falconet: {item.error}", file=sys.stderr, flush=True)
            return
        if item.frame.is_kept:
            self._end_video()
            self.again += 1
            self.frames += 1
            self._found += self._task.names(item.answer).total()
            return
        took = item.milliseconds._asdict() | ({} if write is None else {"write": write})
        for stage, milliseconds in took.items():
            self._times.setdefault(stage, deque(maxlen=TIMED_FRAMES)).append(milliseconds)
        self.frames += 1
        self._of_videos += item.frame.index is not None
        names = self._task.names(item.answer)
        self._found += names.total()
        source = item.frame.source
        if isinstance(source, VideoFile):
            if source is not self._video:
                self._end_video()
            self._video, self._video_rate = source, item.frame.rate
            self._video_frames += 1
            self._video_found += names
            return
        self._end_video()
        height, width = item.frame.original
        place = f"{source}" if item.frame.index is None else f"{source} frame {item.frame.index}"
        self.print(f"{one_line(place)}: {width}x{height}, {self._task.line(item.answer)}, {sum(took.values()):.1f} ms")

    def _end_video(self) -> None:
        from falconet.runtime.tasks import tally

        if self._video is not None:
            frames = _count(self._video_frames, "frame")
            rate = "" if self._video_rate is None else f" at {self._video_rate:g} per second"
            self.print(f"{one_line(str(self._video))}: {frames}{rate}, {tally(self._video_found)}")
        self._video, self._video_frames, self._video_found = None, 0, Counter()

    def summary(self) -> None:
        """Counts, and the median milliseconds of each stage."""
        self._end_video()
        broken = f", {self.broken} not readable" if self.broken else ""
        found = f", {_count(self._found, self._task.counted)}" if self._task.counted else ""
        pictures, frames = self.frames - self._of_videos, self._of_videos
        counts = [_count(pictures, "picture")] if pictures or not frames else []
        counts += [_count(frames, "frame")] if frames else []
        again = f", {self.again} of them by the run before" if self.again else ""
        self.print(f"{', '.join(counts)}{found}{broken}{again}")
        if self._times:
            stages = ", ".join(f"{stage} {_median(values):.1f}" for stage, values in self._times.items())
            self.print(f"median ms per {'picture' if pictures or not frames else 'frame'}: {stages}")

    def interrupted(self, sources: "list[MediaSource]", *, goes_on: bool) -> None:
        """How far it came."""
        from falconet.runtime.stream import count_frames

        total = count_frames(sources)
        whole = "" if total is None else f" of {total}"
        further = "; the same command goes on" if goes_on else ""
        self.print(f"interrupted: {self.frames + self.broken}{whole} done, the rest is not{further}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _median(values: "deque[float]") -> float:
    """The upper one of the two in the middle. The module `statistics` would cost more time to import than this."""
    return sorted(values)[len(values) // 2]
