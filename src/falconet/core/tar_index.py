"""Files in tars, by paths that go on within the tar: `shards/train-000000.tar/000123.jpg`.

Where each member lies is looked up in an index of the tar, which is made once of its headers and kept in the cache.
Nothing is ever unpacked.
"""

import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from falconet.core.cache import Arrays, kept_arrays
from falconet.core.errors import DataError

LARGEST = 1 << 29
"""Bytes of a member that are read at once; no picture has more."""

LONGEST = 1000
"""Bytes of a member's name."""

_OPEN = 256
"""Tars whose index stays in memory: more than a shuffle buffer goes over at a time."""


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: as the tar has it.
        start, size: of its bytes in the tar.
    """

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class TarIndex:
    """Where the members of a tar lie.

    Attributes:
        names: [M] UTF-8, each once, in the order of the letters.
        starts, sizes: [M] of their bytes.
    """

    names: NDArray[np.bytes_]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def find(self, name: str) -> tuple[int, int] | None:
        """(start, size) of a member, None where there is none."""
        wanted = name.encode(errors="surrogateescape")
        place = int(np.searchsorted(self.names, np.bytes_(wanted)))
        if place == len(self.names) or self.names[place] != wanted:
            return None
        return int(self.starts[place]), int(self.sizes[place])

    def members(self) -> Iterator[Member]:
        """All of them, in the order in which they lie in the tar."""
        for place in np.argsort(self.starts, kind="stable").tolist():
            name = bytes(self.names[place]).decode(errors="surrogateescape")
            yield Member(name, int(self.starts[place]), int(self.sizes[place]))


def split_path(path: Path | str) -> tuple[Path, str] | None:
    """The tar and the name of a member in it, None where `path` is of any other kind."""
    text = Path(path).as_posix()
    place = text.lower().find(".tar/")
    while place >= 0:
        tar, name = text[: place + 4], text[place + 5 :]
        if os.path.isfile(tar):  # noqa: PTH113  # pathlib takes five times as long, for each picture
            return Path(tar), name
        place = text.lower().find(".tar/", place + 1)
    return None


def tar_index(tar: Path) -> TarIndex:
    """The index of a tar, as it is now.

    Raises:
        DataError: it cannot be read, is no tar, is damaged or cut off, or has members whose names lead out of it or
            occur twice.
    """
    try:
        state = tar.stat()
        return _index(str(tar), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{tar}: cannot be read: {error.strerror or error}") from error


def member_size(path: Path) -> int | None:
    """Bytes of a member, None where `path` is none. Raises DataError where the tar has no such member."""
    found = _find(path)
    return None if found is None else found[2]


def open_member(path: Path) -> BinaryIO | None:
    """A member to read from, None where `path` is none. Raises DataError where the tar has no such member."""
    found = _find(path)
    if found is None:
        return None
    tar, start, size = found
    return cast("BinaryIO", io.BufferedReader(_Window(tar, start, size)))


def read_member(path: Path) -> bytes | None:
    """The bytes of a member, None where `path` is none.

    Raises:
        DataError: the tar has no such member, cannot be read, or the member has more than `LARGEST` bytes.
    """
    found = _find(path)
    if found is None:
        return None
    tar, start, size = found
    if size > LARGEST:
        raise DataError(f"{path}: has {size:,} bytes; expected {LARGEST:,} at most")
    with tar.open("rb", buffering=0) as stream:
        stream.seek(start)
        parts = []
        while size and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


def has_member(path: Path) -> bool:
    """Whether `path` is a member of a tar that can be read."""
    try:
        return _find(path) is not None
    except DataError:
        return False


def file_size(path: Path) -> int:
    """Bytes of a file or a member. Raises OSError or DataError where there is none."""
    size = member_size(path)
    return path.stat().st_size if size is None else size


def file_bytes(path: Path) -> bytes:
    """The content of a file or a member. Raises OSError or DataError where there is none."""
    data = read_member(path)
    return path.read_bytes() if data is None else data


def copy_file(path: Path, target: Path) -> None:
    """Copy a file or a member, byte by byte. Raises OSError or DataError."""
    data = read_member(path)
    if data is None:
        shutil.copyfile(path, target)
    else:
        target.write_bytes(data)


def _find(path: Path) -> tuple[Path, int, int] | None:
    """The tar, start and size of a member; None where `path` is none."""
    split = split_path(path)
    if split is None:
        return None
    tar, name = split
    found = tar_index(tar).find(name)
    if found is None:
        raise DataError(f"{path}: no such member in {tar}")
    return tar, *found


@lru_cache(maxsize=_OPEN)
def _index(tar: str, size: int, changed: int) -> TarIndex:  # noqa: ARG001  # another size or time: another index
    arrays = kept_arrays(Path(tar), "tars", lambda: _made(Path(tar)))
    return TarIndex(arrays["names"], arrays["starts"], arrays["sizes"])


def _made(tar: Path) -> Arrays:
    from falconet.core.tar_members import tar_members  # tarfile takes as long to import as a picture to be detected in

    places: dict[bytes, tuple[int, int]] = {}
    with tar.open("rb") as stream:
        for member in tar_members(stream, str(tar)):
            name = _name(member, tar)
            if name in places:
                raise DataError(
                    f"{tar}: has two members of the name {member.name!r}, at bytes {places[name][0]:,} and "
                    f"{member.start:,}; expected each name once"
                )
            places[name] = member.start, member.size
    ordered = sorted(places)
    spans = np.array([places[name] for name in ordered], np.int64).reshape(-1, 2)
    return {"names": np.array(ordered, np.bytes_), "starts": spans[:, 0].copy(), "sizes": spans[:, 1].copy()}


def _name(member: Member, tar: Path) -> bytes:
    """The name below the tar: no path that is made of it leads out of the tar."""
    name = member.name
    while name.startswith("./"):
        name = name[2:]
    data = name.encode(errors="surrogateescape")
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or len(data) > LONGEST or not all(parts) or {".", ".."} & set(parts):
        raise DataError(
            f"{tar}: has a member of the name {name[:80]!r} at byte {member.start:,}; expected names without '..', "
            f"'\\' or '/' at the start, of {LONGEST} bytes at most"
        )
    return data


class _Window(io.RawIOBase):
    """The bytes of a member, as a file of its own."""

    def __init__(self, tar: Path, start: int, size: int) -> None:
        super().__init__()
        self._stream = tar.open("rb", buffering=0)
        self._start, self._size, self._place = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._size - self._place))
        self._stream.seek(self._start + self._place)
        data = self._stream.read(wanted)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
