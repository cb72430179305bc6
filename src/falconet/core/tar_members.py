"""The members of a tar (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU): where the bytes of each file lie in it.

Python's tarfile takes a damaged header in the middle for the end. Here a tar ends where it says so, with a block of
zeros; everything else is an error that names the place. A header that claims names of megabytes is one, too.
"""

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from falconet.core.errors import DataError
from falconet.core.tar_index import Member

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Endings of tars in which nothing can be read by itself."""

_BLOCK = tarfile.BLOCKSIZE
_LARGEST_HEADER = 1 << 20
"""Bytes of the names and other words before a member; any sensible one has some hundred."""


def tar_members(stream: BinaryIO, name: str) -> Iterator[Member]:
    """The files in a tar, in their order; headers are read, and contents passed over.

    A member comes before it is known whether all of its bytes are there; when the last one came, all are.

    Args:
        stream: can be searched.
        name: of the tar, in messages.

    Raises:
        DataError: compressed, damaged or cut off; no tar.
    """
    bounded = cast("Any", _Bounded(stream, name))
    place = 0
    try:
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or tar.offset <= place:  # which would go on for ever
                    raise tarfile.HeaderError
                if member.isfile():
                    if member.issparse():
                        raise DataError(f"{name}: {member.name!r} is stored with holes; write the tar without --sparse")
                    yield Member(member.name, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # which it would keep, of a million files
                place = tar.offset
            place = tar.offset
    except (tarfile.TarError, EOFError) as error:
        if place:
            raise _cut_off(name, place, stream) from error
        raise DataError(
            f"{name}: cannot be read as a tar: {error}; expected one that is not compressed. Copy or download it "
            "again, or unpack it to .tar"
        ) from error
    except ValueError as error:  # numbers in headers that are none
        raise DataError(
            f"{name}: the header at byte {place:,} is damaged ({error}); copy or download it again"
        ) from error
    stream.seek(place)
    end = stream.read(_BLOCK)
    if len(end) < _BLOCK:
        raise _cut_off(name, place, stream)
    if end.strip(b"\0"):
        raise DataError(f"{name}: the header at byte {place:,} is damaged; copy or download it again")


def _cut_off(name: str, place: int, stream: BinaryIO) -> DataError:
    size = stream.seek(0, 2)
    return DataError(
        f"{name}: is cut off: it has {size:,} bytes, and the member before byte {place:,} is not followed by another "
        "one or by the end of the tar; copy or download it again"
    )


class _Bounded:
    """A file of which nothing large is read at once: headers are small."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise DataError(
                f"{self._name}: the header at byte {self._stream.tell():,} claims {size:,} bytes; expected some "
                "hundred: the tar is damaged, or made to fill the memory"
            )
        return self._stream.read(size)
