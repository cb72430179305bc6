"""What is done at once and becomes one file: some pictures that follow one another.

Where a block ends is told by the names of its pictures, not by their number, so that a picture that is added to a
million changes one block and leaves the others. (Content-defined chunking: Muthitacharoen et al., A low-bandwidth
network file system, 2001.) The name of a block is a digest of what its pictures are called, how large they are and when
they were changed: a block that is there need not be done again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from threading import Lock
from typing import NamedTuple

from falconet.bulk.storage import is_remote, storage
from falconet.core.errors import ConfigError, DataError
from falconet.runtime.stream import ImageBytes

PICTURES = 1000
"""Of a block, on average."""

LONGEST = 4
"""Times `PICTURES` that a block may have at most."""

STRETCH = 4 * 2**20
"""Bytes of a tar in object storage that are asked for at once: the pictures in them come with one request."""


class Place(NamedTuple):
    """Where the bytes of a picture lie.

    Attributes:
        name: of the picture, in the table.
        path: of the file.
        start, size: of the bytes in it; a negative size stands for all of them.
        state: what changes when the file does; empty where there is none.
        wrong: why there is no picture; empty where there is one.
    """

    name: str
    path: str
    start: int = 0
    size: int = -1
    state: str = ""
    wrong: str = ""


class Cells(NamedTuple):
    """Encoded pictures in a column of a Parquet file.

    Attributes:
        path: of the file.
        group: number of the row group, from 0.
        column: name of the column.
        first: number of the first row within the file, from 0.
        rows: how many the group has.
    """

    path: str
    group: int
    column: str
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some pictures that follow one another: plain values, which another process can be told.

    Attributes:
        name: digest of its content.
        places: of the pictures, or the column they are in.
    """

    name: str
    places: tuple[Place, ...] | Cells

    @property
    def count(self) -> int:
        """How many pictures it has."""
        return self.places.rows if isinstance(self.places, Cells) else len(self.places)

    @property
    def file(self) -> str:
        """Name of the table that it becomes."""
        return f"part-{self.name}.parquet"

    def names(self) -> Iterator[str]:
        """What its pictures are called, in order."""
        if isinstance(self.places, Cells):
            return (f"{self.places.path}#{self.places.first + row}" for row in range(self.places.rows))
        return (place.name for place in self.places)

    def pictures(self) -> Iterator[ImageBytes]:
        """Its pictures, in order. Raises StorageError, and DataError for a Parquet file that cannot be read."""
        if isinstance(self.places, Cells):
            yield from _cells(self.places)
            return
        for path, places in groupby(self.places, key=lambda place: place.path):
            if is_remote(path):
                yield from _together(path, places)
            else:
                yield from (ImageBytes(_reader(place), place.name) for place in places)


class Part(NamedTuple):
    """One of several shares of all blocks, for a run of its own: which blocks it has follows from their names.

    Blocks of one tar, or of one Parquet file of pictures, stay together, so that no part looks into another one's.

    Attributes:
        number: from 1.
        of: how many there are.
    """

    number: int = 1
    of: int = 1

    def has(self, block: Block) -> bool:
        """Whether the block is done by this part."""
        places = block.places
        if isinstance(places, Cells):
            return self.has_file(places.path)
        if places[0].size >= 0:
            return self.has_file(places[0].path)
        return int(block.name.partition("-")[0], 16) % self.of == self.number - 1

    def has_file(self, path: str) -> bool:
        """Whether all pictures in a tar or a Parquet file are done by this part."""
        return _digest(path) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Part()
"""All blocks."""


def read_part(text: str) -> Part:
    """A part as people write it, `3/16`. Raises ConfigError for anything else."""
    number, _, of = text.partition("/")
    if number.isascii() and number.isdecimal() and of.isascii() and of.isdecimal() and 1 <= int(number) <= int(of):
        return Part(int(number), int(of))
    raise ConfigError(f"--part {text}: expected the number of a part and how many there are, as in 3/16, from 1/16 on")


class Cutter:
    """Cuts places into blocks, of all that one run is about.

    Args:
        pictures: of a block, on average.
    """

    def __init__(self, pictures: int = PICTURES) -> None:
        self._pictures = pictures
        self._seen: dict[str, int] = {}

    def cut(self, places: Iterable[Place]) -> Iterator[Block]:
        """The blocks of some places, of which none goes on beyond the last one."""
        waiting: list[Place] = []
        for place in places:
            waiting.append(place)
            if _ends(place.name, self._pictures) or len(waiting) == LONGEST * self._pictures:
                yield self._block(tuple(waiting), (f"{one.name}\0{one.state}" for one in waiting))
                waiting = []
        if waiting:
            yield self._block(tuple(waiting), (f"{one.name}\0{one.state}" for one in waiting))

    def group(self, cells: Cells, state: str) -> Block:
        """The block of a row group in a file of this state."""
        return self._block(cells, (*map(str, cells), state))

    def _block(self, places: tuple[Place, ...] | Cells, words: Iterable[str]) -> Block:
        digest = blake2b(digest_size=10)
        for word in words:
            digest.update(word.encode("utf-8", "surrogateescape") + b"\0\0")
        name = digest.hexdigest()
        again = self._seen[name] = self._seen.get(name, 0) + 1
        return Block(name if again == 1 else f"{name}-{again}", places)  # whoever lists pictures twice gets them twice


def _ends(name: str, pictures: int) -> bool:
    return _digest(name) % pictures == 0


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _reader(place: Place) -> Callable[[], bytes]:
    def read() -> bytes:
        if place.wrong:
            raise DataError(place.wrong)
        return storage(place.path).read(place.path, place.start, place.size)

    return read


def _together(path: str, places: Iterable[Place]) -> Iterator[ImageBytes]:
    """Pictures of one file in object storage, those that lie near one another by one request."""
    near: list[Place] = []
    for place in places:
        if place.wrong:
            if near:
                yield from _Stretch(path, near).pictures()
                near = []
            yield ImageBytes(_reader(place), place.name)
            continue
        if near and (place.size < 0 or place.start < near[-1].start or _end(place) - near[0].start > STRETCH):
            yield from _Stretch(path, near).pictures()
            near = []
        near.append(place)
    if near:
        yield from _Stretch(path, near).pictures()


def _end(place: Place) -> int:
    return place.start + place.size


class _Stretch:
    """Some pictures that follow one another in a file, which are read by whoever asks first.

    Args:
        path: of the file.
        places: of the pictures; a single one where its size is not known.
    """

    def __init__(self, path: str, places: list[Place]) -> None:
        self._path, self._places = path, places
        self._data: bytes | None = None
        self._left = len(places)
        self._lock = Lock()

    def pictures(self) -> Iterator[ImageBytes]:
        """The pictures, in order."""
        if len(self._places) == 1:
            return iter([ImageBytes(_reader(self._places[0]), self._places[0].name)])
        return (ImageBytes(self._loader(place), place.name) for place in self._places)

    def _loader(self, place: Place) -> Callable[[], bytes]:
        return lambda: self._load(place)

    def _load(self, place: Place) -> bytes:
        first = self._places[0].start
        with self._lock:
            if self._data is None:
                self._data = storage(self._path).read(self._path, first, _end(self._places[-1]) - first)
            data = self._data[place.start - first : _end(place) - first]
            self._left -= 1
            if self._left <= 0:  # all have theirs
                self._data = None
        return data


def _cells(cells: Cells) -> Iterator[ImageBytes]:
    from pyarrow import ArrowException, parquet

    try:
        with storage(cells.path).open(cells.path) as stream, parquet.ParquetFile(stream) as file:
            column = file.read_row_group(cells.group, columns=[cells.column]).column(0).combine_chunks()
    except (ArrowException, OSError) as error:
        raise DataError(f"{cells.path}: row group {cells.group} cannot be read: {error}") from error
    kind = column.type
    if hasattr(kind, "num_fields") and kind.num_fields:  # {"bytes", "path"}, as Hugging Face's data sets have it
        column = column.field("bytes")
    for row in range(len(column)):
        yield ImageBytes(_cell(column[row], f"{cells.path}#{cells.first + row}"), f"{cells.path}#{cells.first + row}")


def _cell(value: "object", name: str) -> Callable[[], bytes]:
    def load() -> bytes:
        data = value.as_py()  # type: ignore[attr-defined]  # a scalar of pyarrow's
        if data is None:
            raise DataError(f"{name}: the row has no picture")
        return bytes(data)

    return load
