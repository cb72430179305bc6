"""Where pictures come from: files, folders, globs, videos, cameras; read lazily, one after the other."""

import glob
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from falconet.core.errors import DataError
from falconet.core.files import exists, is_data, is_folder
from falconet.core.images import READABLE, decode_image, is_picture, read_image
from falconet.core.suggest import counted_files, listed
from falconet.core.types import Pixels

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})
"""Endings of video files, in small letters."""


class ImageFile(NamedTuple):
    """A picture; `name` is unique among the sources of a run: its path below the folder given, no ending."""

    path: Path
    name: str

    def __str__(self) -> str:
        return str(self.path)


class VideoFile(NamedTuple):
    """A video; `name` as in `ImageFile`."""

    path: Path
    name: str

    def __str__(self) -> str:
        return str(self.path)


class Camera(NamedTuple):
    """A camera by its number in the operating system, 0 for the first."""

    number: int
    name: str

    def __str__(self) -> str:
        return f"camera {self.number}"


class ImageBytes(NamedTuple):
    """A picture that lies elsewhere: within another file, or in object storage.

    Attributes:
        load: gives the bytes of the picture's file; raises DataError where there is none.
        name: of the picture, in what is said about it.
    """

    load: Callable[[], bytes]
    name: str

    def __str__(self) -> str:
        return self.name


MediaSource = ImageFile | ImageBytes | VideoFile | Camera


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture, or one picture of a video or camera.

    Attributes:
        source: where it comes from.
        index: number within a video or camera, from 0; None for a picture file.
        image: uint8 [H, W, 3], blue, green, red; of a picture file possibly at a reduced scale.
        original: (height, width) at full size.
        rate: frames per second of the video, None where unknown.
    """

    source: MediaSource
    index: int | None
    image: Pixels
    original: tuple[int, int]
    rate: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it was finished by an earlier run; the image is empty then."""
        return not self.image.size


class Broken(NamedTuple):
    """A source that could not be read, with the error that says why."""

    source: MediaSource
    error: DataError


FASTEST = 300.0
"""Frames per second. Files that claim more have a clock of thousands of ticks and no rate (a browser's recordings)."""

MEASURED = 100
"""Frames whose time stamps tell the rate of a file that does not say it."""


def find_sources(
    arguments: Sequence[str | Path], *, recursive: bool = False, tell: Callable[[str], None] = lambda _: None
) -> list[MediaSource]:
    """The pictures, videos and cameras that `arguments` stand for, each once, in order.

    Args:
        arguments: each a file, a folder (its pictures and videos, by name; hidden files are left out), a glob
            (`photos/*.jpg`, `**` for any depth) or the number of a camera. A file that is named is taken
            whatever its ending; if that is not a video's, it counts as a picture.
        recursive: also look into the folders of folders.
        tell: takes a sentence for each folder or glob that holds what is neither picture nor video.

    Raises:
        DataError: nothing given, no such file, a folder or glob without pictures or videos.
    """
    if not arguments:
        raise DataError("nothing to detect in; expected files, folders, globs or the number of a camera")
    sources: list[MediaSource] = []
    names: set[str] = set()
    seen: set[str] = set()
    for argument in map(str, arguments):
        if argument.isascii() and argument.isdigit() and not Path(argument).exists():
            key = f"camera {int(argument)}"
            if key not in seen:
                sources.append(Camera(int(argument), _unique(key.replace(" ", "_"), names)))
            seen.add(key)
            continue
        for path, name in _files(argument, recursive=recursive, tell=tell):
            key = os.path.normcase(os.path.normpath(path.absolute()))
            if key not in seen:
                kind = VideoFile if path.suffix.lower() in VIDEO_SUFFIXES else ImageFile
                sources.append(kind(path, _unique(name, names)))
            seen.add(key)
    return sources


def read_frames(sources: Iterable[MediaSource], *, at_least: tuple[int, int] | None = None) -> Iterator[Frame | Broken]:
    """Every frame of `sources`, read when asked for. What cannot be read comes as `Broken`, and reading goes on.

    Args:
        at_least: (height, width) down to which a JPEG may be decoded at a reduced scale.
    """
    for source in sources:
        try:
            if isinstance(source, ImageFile):
                image, original = read_image(source.path, at_least=at_least)
                yield Frame(source, None, image, original)
            elif isinstance(source, ImageBytes):
                image, original = decode_image(source.load(), source.name, at_least=at_least)
                yield Frame(source, None, image, original)
            else:
                yield from _read_video(source)
        except DataError as error:
            yield Broken(source, error)


def count_frames(sources: Sequence[MediaSource]) -> int | None:
    """How many frames `sources` have, as far as their headers say; None with a camera, which never ends."""
    total = 0
    for source in sources:
        if isinstance(source, Camera):
            return None
        total += _claimed_frames(source) if isinstance(source, VideoFile) else 1
    return total


def _read_video(source: VideoFile | Camera) -> Iterator[Frame]:
    capture = cv2.VideoCapture(_address(source.path) if isinstance(source, VideoFile) else source.number)
    try:
        if not capture.isOpened():
            raise DataError(_cannot_open(source))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        known_rate: float | None = rate if math.isfinite(rate) and 0 < rate <= FASTEST else None
        if known_rate is None and isinstance(source, VideoFile):
            known_rate = _measured_rate(source.path)
        index = 0
        while True:
            there, image = capture.read()
            if not there:
                break
            pixels = np.asarray(image, np.uint8)
            yield Frame(source, index, pixels, (pixels.shape[0], pixels.shape[1]), known_rate)
            index += 1
        if index == 0:
            raise DataError(f"{source}: no frame can be read; the file is damaged, or not a video")
        if isinstance(source, Camera):
            raise DataError(f"{source}: gives no more pictures after {index}; is it still connected?")
    finally:
        capture.release()


def _address(path: Path) -> str:
    """What OpenCV takes for a file in any case: a relative name with a colon is an address to it."""
    return str(path.absolute())


def _measured_rate(path: Path) -> float | None:
    """Frames per second by the time stamps of the first frames; None where they do not tell."""
    capture = cv2.VideoCapture(_address(path))
    try:
        stamps: list[float] = []
        while len(stamps) < MEASURED and capture.grab():
            stamps.append(float(capture.get(cv2.CAP_PROP_POS_MSEC)))
    finally:
        capture.release()
    seconds = (stamps[-1] - stamps[0]) / 1000 if len(stamps) > 1 else 0.0
    rate = (len(stamps) - 1) / seconds if math.isfinite(seconds) and seconds > 0 else 0.0
    return rate if 0 < rate <= FASTEST else None


def _cannot_open(source: VideoFile | Camera) -> str:
    if isinstance(source, Camera):
        return f"{source}: cannot be opened; expected the number of a connected camera that no other program uses"
    if not source.path.is_file():
        return f"{source}: no such video file"
    return f"{source}: cannot be opened as a video; the file is damaged, or in a format OpenCV does not know"


def _claimed_frames(source: VideoFile) -> int:
    capture = cv2.VideoCapture(_address(source.path))
    try:
        return max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 1
    finally:
        capture.release()


def _files(argument: str, *, recursive: bool, tell: Callable[[str], None]) -> list[tuple[Path, str]]:
    """(path, name without ending) of the files `argument` stands for."""
    if not argument:
        raise DataError("an empty name was given; expected a file, a folder, a glob or the number of a camera")
    path = Path(argument)
    if is_folder(path):
        files, folders = _below(path, recursive=recursive)
        found = sorted(file for file in files if _is_media(file) and exists(file))
        if not found:
            hint = "" if recursive else "; look into its folders too with --recursive"
            raise DataError(f"{argument}: has no pictures or videos; expected files ending in {_endings()}{hint}")
        rest = sorted(set(files) - set(found))
        _tell_rest([file.relative_to(path).as_posix() for file in rest], argument, tell)
        if folders:
            tell(f"{argument}: its folders are not looked into without --recursive: {listed(sorted(folders), 5)}")
        return [(file, file.relative_to(path).with_suffix("").as_posix()) for file in found]
    if exists(path):
        return [(path, path.stem)]
    if not glob.has_magic(argument):
        raise DataError(f"{argument}: no such file or folder; expected a picture, a video, a folder or a glob")
    # pathlib's own glob takes no absolute patterns.
    files = [path for path in map(Path, glob.iglob(argument, recursive=True)) if path.is_file()]  # noqa: PTH207
    found = sorted(filter(_is_media, files))
    if not found:
        raise DataError(f"{argument}: matches no pictures or videos; expected files ending in {_endings()}")
    _tell_rest([str(file) for file in sorted(files) if not _is_media(file) and is_data(file.name)], argument, tell)
    common = Path(os.path.commonpath([file.parent for file in found]))
    return [(file, file.relative_to(common).with_suffix("").as_posix()) for file in found]


def _below(folder: Path, *, recursive: bool) -> tuple[list[Path], list[str]]:
    """The files of a folder that count as data, and the folders in it that were not looked into."""
    found: list[Path] = []
    skipped: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if is_data(name)]
        if not recursive:
            skipped, folders[:] = list(folders), []
        found += [Path(parent, name) for name in files if is_data(name)]
    return found, skipped


def _tell_rest(names: list[str], argument: str, tell: Callable[[str], None]) -> None:
    if names:
        are = (
            "1 file is neither picture nor video"
            if len(names) == 1
            else (f"{len(names)} files are neither pictures nor videos")
        )
        tell(f"{argument}: {are} that can be read, and left out{counted_files(names)}")


def _is_media(path: Path) -> bool:
    return is_picture(path) or path.suffix.lower() in VIDEO_SUFFIXES


def _endings() -> str:
    return ", ".join(sorted(READABLE)) + " or a video's, such as .mp4"


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or `name_2`, `name_3`, ... where it is taken; case does not tell names apart on every system."""
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate.casefold())
    return candidate
