"""The samples of a tar: pictures that are looked at once, and the texts about them, kept in the cache."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from falconet.core.cache import Arrays, kept_arrays
from falconet.core.errors import DataError
from falconet.core.images import READABLE, check_complete
from falconet.core.tar_index import Member, read_member, split_path, tar_index
from falconet.data.shard_json import LARGEST

CLASS_LISTS = ("classes.txt", "classes.json")

_OPEN = 16
"""Tars whose samples stay in memory."""


class ShardSample(NamedTuple):
    """A picture in a tar.

    Attributes:
        name: of the member.
        size: (height, width) as displayed, or what is wrong with the picture.
        described_by: name of the member with its annotations; empty where it has none.
        text: content of that.
    """

    name: str
    size: tuple[int, int] | DataError
    described_by: str
    text: bytes


@dataclass(frozen=True, slots=True)
class ShardSamples:
    """The samples of a tar, in its order.

    Attributes:
        tar: the file.
        lonely: names of `.json` members beside which there is no picture.
        lists: of class names: name of the member and its content.
    """

    tar: Path
    lonely: tuple[str, ...]
    lists: tuple[tuple[str, bytes], ...]
    _pictures: Arrays
    _place: dict[str, int]
    _described_by: tuple[str, ...]
    _errors: dict[str, str]

    def __len__(self) -> int:
        return len(self._pictures["heights"])

    def size_of(self, name: str) -> tuple[int, int] | DataError | None:
        """(height, width) of a picture, or what is wrong with it; None where it is none of the samples'."""
        place = self._place.get(name)
        return None if place is None else self._size(place)

    def __iter__(self) -> Iterator[ShardSample]:
        texts, ends = self._pictures["texts"].tobytes(), [0, *self._pictures["ends"].tolist()]
        for place, name in enumerate(self._place):
            text = texts[ends[place] : ends[place + 1]]
            yield ShardSample(name, self._size(place), self._described_by[place], text)

    def _size(self, place: int) -> tuple[int, int] | DataError:
        if (error := self._errors.get(str(place))) is not None:
            return DataError(f"{self.tar}{error}")
        return int(self._pictures["heights"][place]), int(self._pictures["widths"][place])


def shard_samples(tar: Path) -> ShardSamples:
    """The samples of a tar. Each picture's header and end are read, once while the tar stays as it is.

    Raises:
        DataError: as `tar_index`, or two pictures or texts have one key.
    """
    try:
        state = tar.stat()
    except OSError as error:
        raise DataError(f"{tar}: cannot be read: {error.strerror or error}") from error
    return _samples(str(tar), state.st_size, state.st_mtime_ns)


def checked_size(path: Path) -> tuple[int, int] | DataError | None:
    """(height, width) of a picture in a tar, or what is wrong with it; None where `path` is no such picture."""
    split = split_path(path)
    return None if split is None else shard_samples(split[0]).size_of(split[1])


@lru_cache(maxsize=_OPEN)
def _samples(tar: str, size: int, changed: int) -> ShardSamples:  # noqa: ARG001  # another size or time: other samples
    arrays = kept_arrays(Path(tar), "shards", lambda: _made(Path(tar)))
    about = json.loads(arrays["about"].tobytes())
    lists = tuple((name, text.encode()) for name, text in about["lists"])
    place = {name: index for index, name in enumerate(about["names"])}
    told = tuple(about["described_by"])
    return ShardSamples(Path(tar), tuple(about["lonely"]), lists, arrays, place, told, about["errors"])


def _made(tar: Path) -> Arrays:
    pictures, described, lists = _grouped(tar)
    sizes, errors = [], {}
    for place, member in enumerate(pictures.values()):
        try:
            sizes.append(check_complete(tar / member.name))
        except DataError as error:
            sizes.append((0, 0))
            errors[place] = str(error).removeprefix(str(tar))
    texts = [_text(tar, described[key]) if key in described else b"" for key in pictures]
    lonely = [member.name for key, member in described.items() if key not in pictures]
    about = {
        "names": [member.name for member in pictures.values()],
        "described_by": [described[key].name if key in described else "" for key in pictures],
        "errors": errors,
        "lonely": lonely,
        "lists": [(name, _text(tar, member).decode(errors="surrogateescape")) for name, member in lists.items()],
    }
    sides = np.array(sizes, np.int64).reshape(-1, 2)
    return {
        "heights": sides[:, 0],
        "widths": sides[:, 1],
        "texts": np.frombuffer(b"".join(texts), np.uint8),
        "ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }


def _grouped(tar: Path) -> tuple[dict[str, Member], dict[str, Member], dict[str, Member]]:
    """By their key the pictures and what describes them, and by their name lists of classes."""
    pictures: dict[str, Member] = {}
    described: dict[str, Member] = {}
    lists: dict[str, Member] = {}
    for member in tar_index(tar).members():
        path = PurePosixPath(member.name)
        # As in WebDataset, a key ends at the first dot of the name.
        stem, _, ending = path.name.partition(".")
        key, ending = str(path.with_name(stem or path.name)), f".{ending.lower()}"
        if path.name in CLASS_LISTS:
            lists[member.name] = member
        elif ending in READABLE or ending == ".json":
            group = described if ending == ".json" else pictures
            if key in group:
                raise DataError(
                    f"{tar}: {group[key].name} and {member.name} belong to one sample, '{key}'; expected one picture "
                    "and one .json for each key, which ends at the first dot of the name"
                )
            group[key] = member
    return pictures, described, lists


def _text(tar: Path, member: Member) -> bytes:
    if member.size > LARGEST:
        raise DataError(
            f"{tar}/{member.name}: has {member.size:,} bytes; a description of one picture has at most {LARGEST:,}"
        )
    text = read_member(tar / member.name)
    assert text is not None, "the index has it"
    return text
