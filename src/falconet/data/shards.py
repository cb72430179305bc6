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
from typing import NamedTuple

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.files import exists
from falconet.core.suggest import did_you_mean, listed
from falconet.core.types import Record
from falconet.data.dataset import DataSet, Problem, make_record
from falconet.data.shard_json import LARGEST, Described, describe, read_classes
from falconet.data.shard_names import shard_files
from falconet.data.shard_samples import CLASS_LISTS, ShardSample, ShardSamples, shard_samples

_log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds after which it is told how many tars were counted."""

_SHOWN = 3


class _Read(NamedTuple):
    """A sample whose description was understood."""

    path: Path
    size: tuple[int, int]
    source: str
    described: Described


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
    read: list[_Read] = []
    listed_names: dict[int, str] | None = None
    for samples in _counted(files):
        listed_names = _one_list(listed_names, _lists_of(samples))
        read += _understood(samples, problems)
    source = ", ".join(map(str, patterns))
    if not read:
        why = f"; the first problem: {problems[0]}" if problems else ""
        raise DataError(
            f"{source}: has no sample; expected a picture and a .json with the same key, as 000123.jpg and "
            f"000123.json{why}"
        )
    names, numbers = _names(read, listed_names, classes)
    index_of = {name: index for index, name in enumerate(names)}
    records = [_record(one, index_of, numbers) for one in read]
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


def _understood(samples: ShardSamples, problems: list[Problem]) -> Iterator[_Read]:
    """The samples that can be used; those that cannot are told."""
    bare: list[str] = []
    for sample in samples:
        path = samples.tar / sample.name
        if not sample.described_by:
            bare.append(sample.name)
        elif isinstance(sample.size, DataError):
            problems.append(Problem(str(path), f"{sample.size} (picture left out)", "broken-file", str(path)))
        else:
            yield _one(samples.tar, sample, sample.size, problems)
    for names, what, kind in (
        (bare, "have no .json of the same key beside them, and are left out", "unused-files"),
        (samples.lonely, "have no picture of the same key beside them", "orphan-label"),
    ):
        if names:
            text = f"{plural(len(names), 'member')} {what} ({listed(list(names), _SHOWN)})"
            problems.append(Problem(str(samples.tar), text.replace("1 member have", "1 member has"), kind))


def _one(tar: Path, sample: ShardSample, size: tuple[int, int], problems: list[Problem]) -> _Read:
    source, path = f"{tar}/{sample.described_by}", tar / sample.name
    described = describe(sample.text, source, size)
    if described.size not in (None, size):
        assert described.size is not None
        what = (
            f"says that {path.name} has {described.size[1]} x {described.size[0]} pixels, the file has {size[1]} x "
            f"{size[0]}; boxes may belong to another version of the picture"
        )
        problems.append(Problem(source, what, "wrong-size", str(path)))
    return _Read(path, size, source, described)


def _names(
    read: Sequence[_Read], known: dict[int, str] | None, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], Mapping[int, str]]:
    """All class names in their order, and those of numbers."""
    texts: dict[str, str] = {}
    numbered: dict[int, str] = {}
    for one in read:
        for label in one.described.classes:
            if isinstance(label, str):
                texts.setdefault(label, one.source)
            else:
                numbered.setdefault(label, one.source)
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


def _record(one: _Read, index_of: Mapping[str, int], numbers: Mapping[int, str]) -> Record:
    described = one.described
    labels = [index_of[label if isinstance(label, str) else numbers[label]] for label in described.classes]
    return make_record(
        one.path.as_posix(),
        one.path,
        one.size,
        boxes=described.boxes,
        labels=labels,
        crowd=described.crowd,
        areas=described.areas,
        source=one.source,
        box_keys=list(range(1, len(labels) + 1)),
    )
