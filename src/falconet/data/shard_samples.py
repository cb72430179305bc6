"""The samples of a tar: pictures that are looked at, and boxes that are read, once; then both are in the cache."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.cache import Arrays, kept_arrays
from falconet.core.errors import DataError
from falconet.core.images import READABLE, check_complete
from falconet.core.tar_index import Member, read_member, split_path, tar_index
from falconet.core.types import Floats, Ints
from falconet.data.shard_json import LARGEST, Described, describe

CLASS_LISTS = ("classes.txt", "classes.json")

_KIND = "shards-2"
"""Of what is kept; another number where another reading of a `.json` gives something else."""

_OPEN = 16
"""Tars whose samples stay in memory."""


class ShardSample(NamedTuple):
    """A picture in a tar, and what is said about it.

    Attributes:
        name: of the member.
        size: (height, width) as displayed, or what is wrong with the picture; then it has no boxes here.
        described_by: name of the member with its annotations; empty where it has none.
        said_size: (height, width) that this says, None where it does not.
        first, last: its boxes among those of the tar.
        has_areas: every box has an area of its own.
    """

    name: str
    size: tuple[int, int] | DataError
    described_by: str
    said_size: tuple[int, int] | None
    first: int
    last: int
    has_areas: bool


@dataclass(frozen=True, slots=True)
class ShardSamples:
    """The samples of a tar, in its order.

    Attributes:
        tar: the file.
        misunderstood: what is wrong with descriptions that cannot be understood, from the tar's name on.
        lonely: names of `.json` members beside which there is no picture.
        lists: of class names: name of the member and its content.
        labels: names and numbers of classes that its boxes have, each with the member where it is first.
        boxes: [B, 4] of all pictures, x1, y1, x2, y2 in pixels.
        classes: [B] index into `labels`.
        crowd: [B].
        areas: [B] in square pixels, 0 where it is not said.
    """

    tar: Path
    misunderstood: tuple[str, ...]
    lonely: tuple[str, ...]
    lists: tuple[tuple[str, bytes], ...]
    labels: tuple[tuple[str | int, str], ...]
    boxes: Floats
    classes: Ints
    crowd: NDArray[np.bool_]
    areas: Floats
    _samples: tuple[ShardSample, ...]
    _place: dict[str, int]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[ShardSample]:
        return iter(self._samples)

    def size_of(self, name: str) -> tuple[int, int] | DataError | None:
        """(height, width) of a picture, or what is wrong with it; None where it is none of the samples'."""
        place = self._place.get(name)
        return None if place is None else self._samples[place].size


def shard_samples(tar: Path) -> ShardSamples:
    """The samples of a tar. Each picture's header and end are read, and each description is
    understood, once while the tar stays as it is.

    Raises:
        DataError: as `tar_index`; two pictures or texts have one key.
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
    arrays = kept_arrays(Path(tar), _KIND, lambda: _made(Path(tar)))
    about = json.loads(arrays["about"].tobytes())
    ends, said = arrays["ends"].tolist(), arrays["said_sizes"].tolist()
    samples = []
    for place, (name, sides) in enumerate(zip(about["names"], arrays["sizes"].tolist(), strict=True)):
        wrong = about["errors"].get(str(place))
        samples.append(
            ShardSample(
                name,
                (sides[0], sides[1]) if wrong is None else DataError(f"{tar}{wrong}"),
                about["described_by"][place],
                (said[place][0], said[place][1]) if said[place][0] else None,
                ends[place - 1] if place else 0,
                ends[place],
                bool(arrays["has_areas"][place]),
            )
        )
    return ShardSamples(
        tar=Path(tar),
        misunderstood=tuple(f"{tar}{one}" for one in about["misunderstood"]),
        lonely=tuple(about["lonely"]),
        lists=tuple((name, text.encode(errors="surrogateescape")) for name, text in about["lists"]),
        labels=tuple((label, member) for label, member in about["labels"]),
        boxes=arrays["boxes"],
        classes=arrays["classes"],
        crowd=arrays["crowd"],
        areas=arrays["areas"],
        _samples=tuple(samples),
        _place={sample.name: place for place, sample in enumerate(samples)},
    )


def _made(tar: Path) -> Arrays:
    pictures, described, lists = _grouped(tar)
    sizes: list[tuple[int, int]] = []
    errors: dict[int, str] = {}
    found: list[Described | None] = []
    misunderstood: list[str] = []
    labels: dict[str | int, tuple[int, str]] = {}
    for place, (key, member) in enumerate(pictures.items()):
        try:
            sizes.append(check_complete(tar / member.name))
        except DataError as error:
            sizes.append((0, 0))
            # Without the path, which is another one when the tar is moved.
            errors[place] = str(error).removeprefix(str(tar))
        said, text = None, described.get(key)
        if text is not None and place not in errors:
            try:
                said = describe(_text(tar, text), f"{tar}/{text.name}", sizes[-1])
            except DataError as error:
                misunderstood.append(str(error).removeprefix(str(tar)))
            for label in said.classes if said is not None else ():
                labels.setdefault(label, (len(labels), text.name))
        found.append(said)
    about = {
        "names": [member.name for member in pictures.values()],
        "described_by": [described[key].name if key in described else "" for key in pictures],
        "errors": errors,
        "misunderstood": misunderstood,
        "labels": [(label, member) for label, (_, member) in labels.items()],
        "lonely": [member.name for key, member in described.items() if key not in pictures],
        "lists": [(name, _text(tar, member).decode(errors="surrogateescape")) for name, member in lists.items()],
    }
    return {
        "sizes": np.array(sizes, np.int64).reshape(-1, 2),
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        **_joined(found, {label: index for label, (index, _) in labels.items()}),
    }


def _joined(found: Sequence[Described | None], index_of: Mapping[str | int, int]) -> Arrays:
    """What is said about each picture, one after the other."""
    every = [one or Described(None, [], [], [], None) for one in found]
    areas = [one.areas or [0.0] * len(one.boxes) for one in every]
    with np.errstate(over="ignore"):
        # What float32 cannot hold becomes infinite, and is told as such.
        return {
            "boxes": np.array([box for one in every for box in one.boxes], np.float32).reshape(-1, 4),
            "classes": np.array([index_of[label] for one in every for label in one.classes], np.int64),
            "crowd": np.array([crowd for one in every for crowd in one.crowd], np.bool_),
            "areas": np.array([area for own in areas for area in own], np.float32),
            "has_areas": np.array([one.areas is not None for one in every], np.bool_),
            "said_sizes": np.array([one.size or (0, 0) for one in every], np.int64).reshape(-1, 2),
            "ends": np.cumsum([len(one.boxes) for one in every], dtype=np.int64),
        }


class _Group(NamedTuple):
    """Members by their key."""

    pictures: dict[str, Member]
    described: dict[str, Member]

    def add(self, tar: Path, key: str, ending: str, member: Member) -> None:
        """Raise DataError where there is another of its kind."""
        group = self.described if ending == ".json" else self.pictures
        if key in group:
            raise DataError(
                f"{tar}: {group[key].name} and {member.name} belong to one sample, '{key}'; expected one picture and "
                "one .json for each key, which is the name up to its ending"
            )
        group[key] = member


def _grouped(tar: Path) -> tuple[dict[str, Member], dict[str, Member], dict[str, Member]]:
    """By their key the pictures and what describes them, and by their name lists of classes.

    As in WebDataset a key ends at the first dot of the name. Where what follows it is no ending that is known, as in
    `cam3.v2.jpg`, it ends at the last one; but `a.mask.png` beside `a.jpg` is left alone, as all other members of a
    sample are.
    """
    found, dotted = _Group({}, {}), _Group({}, {})
    lists: dict[str, Member] = {}
    for member in tar_index(tar).members():
        path = PurePosixPath(member.name)
        stem, _, ending = path.name.partition(".")
        known = {*READABLE, ".json"}
        if path.name in CLASS_LISTS:
            lists[member.name] = member
        elif f".{ending.lower()}" in known:
            found.add(tar, str(path.with_name(stem or path.name)), f".{ending.lower()}", member)
        elif stem and path.suffix.lower() in known:
            dotted.add(tar, str(path.with_suffix("")), path.suffix.lower(), member)
    for ours, theirs, others in (
        (found.pictures, dotted.pictures, dotted.described),
        (found.described, dotted.described, dotted.pictures),
    ):
        whole = {key: one for key, one in theirs.items() if key in others or _first(key) not in found.pictures}
        ours.update(whole)
    return found.pictures, found.described, lists


def _first(key: str) -> str:
    """Where a key would end at the first dot."""
    path = PurePosixPath(key)
    return str(path.with_name(path.name.partition(".")[0]))


def _text(tar: Path, member: Member) -> bytes:
    if member.size > LARGEST:
        raise DataError(
            f"{tar}/{member.name}: has {member.size:,} bytes; a description of one picture has at most {LARGEST:,}"
        )
    text = read_member(tar / member.name)
    assert text is not None, "the index has it"
    return text
