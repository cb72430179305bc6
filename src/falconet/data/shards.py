"""Shards of WebDataset (github.com/webdataset/webdataset): tars in which `000123.jpg` and `000123.json` are a sample.

What a `.json` may say stands in `falconet.data.shard_json`. Numbers of classes get their names from a `classes.txt`
or `classes.json`, beside the tars or in one of them, or from whoever reads them; without numbers, the names are those
that occur, sorted. Other members of a sample, such as captions, are left alone. Pictures are never unpacked: the path
of a record goes on within its tar.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.files import exists
from falconet.core.suggest import did_you_mean, listed
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem
from falconet.data.shard_json import LARGEST, read_classes
from falconet.data.shard_names import shard_files
from falconet.data.shard_samples import CLASS_LISTS, ShardSample, ShardSamples, shard_samples

_log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds after which it is told how many tars were counted."""

_SHOWN = 3

_TOLD = 10
"""Descriptions that are not understood, of which each is told by a sentence of its own."""


def read_shards(patterns: Sequence[str | Path], classes: Sequence[str] | None = None) -> DataSet:
    """The data set in tars.

    Args:
        patterns: tars, folders of them, braces, globs; see `falconet.data.shard_names`.
        classes: names of the numbers 0, 1, ... where no list of classes says them.

    Raises:
        DataError: a tar that is not there, damaged or cut off; a `.json` that is not understood; a class without a
            name; no samples.
    """
    files = shard_files(patterns)
    problems: list[Problem] = []
    read: list[tuple[ShardSamples, list[ShardSample]]] = []
    known: dict[int, str] | None = None
    wrong: list[str] = []
    for samples in _counted(files):
        known = _one_list(known, _lists_of(samples))
        wrong += samples.misunderstood
        read.append((samples, _usable(samples, problems)))
    if wrong:
        raise DataError("\n".join([*wrong[:_TOLD], *([f"... and {len(wrong) - _TOLD} more"] if wrong[_TOLD:] else [])]))
    source = ", ".join(map(str, patterns))
    if not any(usable for _, usable in read):
        why = f"; the first problem: {problems[0]}" if problems else ""
        raise DataError(
            f"{source}: has no sample; expected a picture and a .json with the same key, as 000123.jpg and "
            f"000123.json{why}"
        )
    names, numbers = _names([samples for samples, _ in read], known, classes)
    index_of: dict[str | int, int] = {name: index for index, name in enumerate(names)}
    index_of.update({number: names.index(name) for number, name in numbers.items()})
    records = [record for samples, usable in read for record in _records(samples, usable, index_of)]
    return DataSet(names, tuple(records), source, "shards", tuple(problems), "box")


def _counted(files: Sequence[Path]) -> Iterator[ShardSamples]:
    """The samples of the tars, in their order; how far it is, is told where it takes long."""
    start = last = time.monotonic()
    pictures = 0
    with ThreadPoolExecutor(4) as pool:
        for done, samples in enumerate(pool.map(shard_samples, files), start=1):
            pictures += len(samples)
            now = time.monotonic()
            if now - last >= EVERY:
                _log.info("shards: %d of %d counted, %d pictures so far", done, len(files), pictures)
                last = now
            yield samples
    if last > start:
        _log.info("shards: %s with %s; they are not counted again while they stay the same", len(files), pictures)


def _lists_of(samples: ShardSamples) -> Iterator[tuple[str, bytes]]:
    """Lists of classes that belong to a tar, beside it and in it."""
    for name in CLASS_LISTS:
        file = samples.tar.parent / name
        if exists(file):
            if file.stat().st_size > LARGEST:
                raise DataError(f"{file}: has more than {LARGEST:,} bytes; expected a list of classes")
            yield str(file), file.read_bytes()
    for name, text in samples.lists:
        yield f"{samples.tar}/{name}", text


def _one_list(known: dict[int, str] | None, lists: Iterable[tuple[str, bytes]]) -> dict[int, str] | None:
    """The classes by number, of which all lists must say the same."""
    for where, text in lists:
        found = read_classes(text, where)
        if known is not None and found != known:
            raise DataError(
                f"{where}: names the classes {listed(list(found.values()), 10)}, but another list of these shards "
                f"names {listed(list(known.values()), 10)}; expected one and the same"
            )
        known = found
    return known


def _usable(samples: ShardSamples, problems: list[Problem]) -> list[ShardSample]:
    """The samples that can be used; those that cannot are told."""
    bare: list[str] = []
    usable: list[ShardSample] = []
    for sample in samples:
        path = samples.tar / sample.name
        if not sample.described_by:
            bare.append(sample.name)
        elif isinstance(sample.size, DataError):
            what = str(sample.size).removeprefix(f"{path}: ")
            problems.append(Problem(str(path), f"{what} (picture left out)", "broken-file", str(path)))
        else:
            usable.append(sample)
            if sample.said_size not in (None, sample.size):
                problems.append(_other_size(samples.tar, sample, sample.size))
    for names, what, kind in (
        (bare, "have no .json of the same key beside them, and are left out", "unused-files"),
        (samples.lonely, "have no picture of the same key beside them", "orphan-label"),
    ):
        if names:
            text = f"{plural(len(names), 'member')} {what} ({listed(list(names), _SHOWN)})"
            if len(names) == 1:
                text = text.replace("1 member have", "1 member has").replace(", and are left out", ", and is left out")
                text = text.replace(" beside them", " beside it")
            problems.append(Problem(str(samples.tar), text, kind))
    return usable


def _other_size(tar: Path, sample: ShardSample, size: tuple[int, int]) -> Problem:
    assert sample.said_size is not None
    path, (height, width) = tar / sample.name, sample.said_size
    what = (
        f"says that {path.name} has {width} x {height} pixels, the file has {size[1]} x {size[0]}; boxes may belong to "
        "another version of the picture"
    )
    return Problem(f"{tar}/{sample.described_by}", what, "wrong-size", str(path))


def _names(
    read: Sequence[ShardSamples], known: dict[int, str] | None, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], Mapping[int, str]]:
    """All class names in their order, and those of numbers."""
    texts: dict[str, str] = {}
    numbered: dict[int, str] = {}
    for samples in read:
        for label, member in samples.labels:
            if isinstance(label, str):
                texts.setdefault(label, f"{samples.tar}/{member}")
            else:
                numbered.setdefault(label, f"{samples.tar}/{member}")
    numbers = known if known is not None else dict(enumerate(classes or ())) if numbered else {}
    for number, where in numbered.items():
        if number not in numbers:
            have = f"{min(numbers)} to {max(numbers)} are known" if numbers else "no list of classes is there"
            raise DataError(
                f"{where}: has the class number {number}, but {have}; expected its name as 'category', a classes.txt "
                "beside the tars with a name per line from number 0, or a classes.json with 'id' and 'name'; a "
                "training takes data.classes"
            )
    if not numbers:
        return tuple(sorted(texts)), {}
    names = tuple(numbers.values())
    for name, where in texts.items():
        if name not in names:
            raise DataError(
                f"{where}: has the class '{name}', which is not in the list of classes ({listed(list(names), 10)}); "
                f"{did_you_mean(name, names) or 'expected one of these'}"
            )
    return names, numbers


def _records(
    samples: ShardSamples, usable: Sequence[ShardSample], index_of: Mapping[str | int, int]
) -> Iterator[Record]:
    """The records of a tar; their boxes are parts of the tar's."""
    table = np.array([index_of[label] for label, _ in samples.labels], np.int64)
    labels = table[samples.classes]
    for sample in usable:
        assert not isinstance(sample.size, DataError), "it is usable"
        path, own = samples.tar / sample.name, slice(sample.first, sample.last)
        yield Record(
            image_id=path.as_posix(),
            path=path,
            width=sample.size[1],
            height=sample.size[0],
            boxes=samples.boxes[own],
            labels=labels[own],
            crowd=samples.crowd[own],
            areas=samples.areas[own] if sample.has_areas else None,
            source=f"{samples.tar}/{sample.described_by}",
            box_keys=tuple(range(1, 1 + sample.last - sample.first)),
        )
