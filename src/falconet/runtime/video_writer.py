"""Annotated videos into files that browsers play."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from falconet.core.errors import DataError
from falconet.core.types import Pixels
from falconet.runtime.stream import Frame

_log = logging.getLogger(__name__)

CODECS = (("VP80", ".webm"), ("mp4v", ".mp4"))
"""Codecs of annotated videos and the endings of their files, the better one first: every browser plays VP8, few play
MPEG-4's second part. OpenCV's wheels bring no encoder for H.264, and take six times as long for VP9."""


class VideoWriter:
    """A video that is written beside its place and moved there when closed; its size is the first frame's.

    Args:
        place: its path without the ending, which follows from the codec.
        first: frame, for size and rate.
    """

    def __init__(self, place: Path, first: Frame) -> None:
        self.source = first.source
        self._size = (first.image.shape[1], first.image.shape[0])
        self._count = 0
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{place}: cannot be written: {error.strerror or error}") from error
        for codec, ending in CODECS:
            self._path = place.with_name(f"{place.name}{ending}")
            self._beside = place.with_name(f".{place.name}.part{ending}")
            # Cameras do not tell their rate reliably; 25 frames per second plays at about the speed of life.
            with _silent():
                self._writer = cv2.VideoWriter(
                    str(self._beside), cv2.VideoWriter.fourcc(*codec), first.rate or 25.0, self._size
                )
            if self._writer.isOpened():
                break
        else:
            raise DataError(f"{place}: the video cannot be written; is the folder writable, and not full?")
        if (codec, ending) != CODECS[0]:
            _log.warning("%s: this OpenCV has no encoder for VP8; browsers may not play the file", self._path)

    def add(self, image: Pixels) -> None:
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size).astype(image.dtype)
        self._writer.write(image)
        self._count += 1

    def close(self, *, keep: bool) -> None:
        self._writer.release()
        try:
            if keep:
                self._check()
                self._beside.replace(self._path)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        finally:
            self._beside.unlink(missing_ok=True)

    def _check(self) -> None:
        """Raise DataError where not every frame was written: OpenCV's writer does not tell of a full disk."""
        with _silent():
            reader = cv2.VideoCapture(str(self._beside))
            written = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
            # A header tells of frames that never came; the last one does not lie.
            reader.set(cv2.CAP_PROP_POS_FRAMES, self._count - 1)
            whole = written >= self._count and reader.read()[0]
            reader.release()
        if not whole:
            raise DataError(f"{self._path}: cannot be written: not all of {self._count} frames; is the disk full?")


@contextmanager
def _silent() -> Iterator[None]:
    """FFmpeg writes to the process's standard error by itself, for example that it takes another tag for VP8."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a program without a standard error
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
