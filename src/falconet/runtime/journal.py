"""What a run over many pictures has done so far, so that an interrupted one goes on where it was.

One line of JSON per finished picture lies in the folder of the results while the run lasts, and stays where it was
interrupted, killed or cut off from power. Whoever goes on reads the answers from there; files that list everything
become what they would be after an undisturbed run. Videos and cameras are not kept: a video is begun anew.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from falconet.core.errors import ConfigError, DataError
from falconet.runtime.pipeline import Milliseconds, Result, predict_frames
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import Broken, Frame, ImageFile, MediaSource

NAME = ".falconet.done.jsonl"

_NOTHING = np.zeros((0, 0, 3), np.uint8)


class Journal:
    """Answers of finished pictures, a writer like those of the results.

    Args:
        folder: of the results, which this process has locked.
        head: all that has to be as it was: model, options, what is saved.
        predictor: gives the answers.
        strict: refuse what was begun with another head; otherwise begin anew then.
        is_whole: whether what was made of a finished picture, a drawn copy say, is still there.

    Attributes:
        found: pictures that were finished before.
        differs: why it begins anew where an interrupted run was; empty otherwise.

    Raises:
        ConfigError: what is there was begun with another head, and `strict`.
        DataError: the file cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        head: Mapping[str, Any],
        predictor: Predictor[Any],
        *,
        strict: bool = False,
        is_whole: Callable[[ImageFile], bool] = lambda _: True,
    ) -> None:
        self.path, self._task, self._is_whole = folder / NAME, predictor.task, is_whole
        self._names = predictor.names
        self._places: dict[str, int] = {}
        first = json.dumps(dict(head)) + "\n"
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self.differs = self._difference(json.loads(first)) if self.path.exists() else ""
            if self.differs and strict:
                raise ConfigError(
                    f"--resume: the run in {folder} {self.differs}; go on with the same, or leave --resume out to "
                    "begin anew"
                )
            if not self.path.exists() or self.differs:
                self.path.write_text(first, encoding="utf-8")
            self._stream: IO[bytes] = self.path.open("r+b")
            self._read()
        self.found = len(self._places)

    def _read(self) -> None:
        """Where each picture's line is; half a line at the end, of a process that was killed, is cut off."""
        with self._told():
            place = len(self._stream.readline())
            for line in self._stream:
                try:
                    self._places[str(json.loads(line)["file"])] = place
                except (ValueError, KeyError, TypeError):
                    break
                place += len(line)
            self._stream.truncate(place)

    def _difference(self, head: Mapping[str, Any]) -> str:
        """What the run that is there was begun with instead; empty where that is the same."""
        with self.path.open("rb") as stream:
            line = stream.readline()
        try:
            there = dict(json.loads(line))
        except (ValueError, TypeError):
            return "cannot be read"
        for key, value in head.items():
            if there.get(key) != value:
                told = "" if key == "model" else f": {there.get(key)!r}, now {value!r}"
                return f"was begun with another {key}{told}"
        return ""

    def kept(self, source: MediaSource) -> Result | None:
        """The answer for a picture that was finished before, and has not changed since; None for all others."""
        if not isinstance(source, ImageFile) or str(source) not in self._places:
            return None
        with self._told():
            self._stream.seek(self._places[str(source)])
            entry = json.loads(self._stream.readline())
        if entry["state"] != _state(source) or not self._is_whole(source):
            return None
        frame = Frame(source, None, _NOTHING, (entry["height"], entry["width"]))
        return Result(frame, self._task.from_tree(entry["answer"], self._names), Milliseconds(0, 0, 0))

    def add(self, item: Result | Broken) -> None:
        """Keep one answer."""
        if isinstance(item, Broken) or not isinstance(item.frame.source, ImageFile) or item.frame.is_kept:
            return
        source, (height, width) = item.frame.source, item.frame.original
        entry = {"file": str(source), "state": _state(source), "height": height, "width": width}
        line = json.dumps({**entry, "answer": self._task.tree(item.answer)}) + "\n"
        with self._told():
            self._stream.seek(0, os.SEEK_END)
            self._stream.write(line.encode())
            self._stream.flush()

    def close(self) -> None:
        """The run has come to its end, or was interrupted."""
        self._stream.close()

    def forget(self) -> None:
        """The run is finished, so there is nothing to go on with."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror or error}") from error


def frames_with(
    journal: Journal | None, predictor: Predictor[Any], sources: Sequence[MediaSource], *, batch: int
) -> Iterator[Result | Broken]:
    """As `predict_frames`, with the answers that were kept at their places."""
    if journal is None or not journal.found:
        yield from predict_frames(predictor, sources, batch=batch)
        return
    open_ones = [source for source in sources if journal.kept(source) is None]
    with closing(predict_frames(predictor, open_ones, batch=batch)) as results:
        ahead = next(results, None)
        for source in sources:
            if (again := journal.kept(source)) is not None:
                yield again
                continue
            while ahead is not None and _source(ahead) is source:
                yield ahead
                ahead = next(results, None)


def _source(item: Result | Broken) -> MediaSource:
    return item.source if isinstance(item, Broken) else item.frame.source


def _state(source: ImageFile) -> list[int]:
    """What changes when the file does."""
    told = source.path.stat()
    return [told.st_size, told.st_mtime_ns]
