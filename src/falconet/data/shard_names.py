"""Which tars are meant: a tar, a folder of tars, braces as in `train-{000000..000099}.tar`, globs; lists of these."""

import glob
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.files import exists, is_folder
from falconet.core.tar_members import PACKED, tar_members
from falconet.data.listing import files_in

ENDING = ".tar"

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_PEEKED = 20
"""Members of a tar that are looked at to find out whether it holds samples."""

_MOST = 1_000_000
"""Tars that a pattern may stand for."""


def are_shards(path: Path) -> bool:
    """Whether a path names tars: one that is there, or braces or a glob that end in .tar."""
    return path.suffix.lower() == ENDING and (exists(path) or _is_pattern(str(path)))


def shard_groups(folder: Path) -> dict[str, Path]:
    """Patterns of the tars of a folder by what their names begin with, "train" for `train-000000.tar`.

    Tars that hold no samples, as a data set that was downloaded and lies beside its files, do not count.
    """
    groups: dict[str, Path] = {}
    for file in files_in(folder):
        if file.suffix.lower() == ENDING:
            groups.setdefault(re.sub(r"\d+$", "#", file.stem), file)
    start, patterns = glob.escape(str(folder)), {}
    for name, first in groups.items():
        if _has_samples(first):
            begin = name.removesuffix("#")
            short = begin.rstrip("-_.") if begin != name else name
            numbers = "[0-9]*" if begin != name else ""
            # Of "train.tar" beside "train-0.tar", each is a group of its own.
            patterns[short if short not in patterns else name] = Path(start) / f"{glob.escape(begin)}{numbers}{ENDING}"
    return patterns


def shard_files(patterns: Sequence[str | Path]) -> list[Path]:
    """The tars that the patterns stand for, each once, in the order of the patterns and then of their names.

    Raises:
        DataError: one is not there, a pattern stands for none, or a tar is compressed.
    """
    found: dict[Path, None] = {}
    for pattern in map(str, patterns):
        if "://" in pattern:
            raise DataError(
                f"{pattern}: is not on this machine; training reads shards from a file system. Copy them, or mount the "
                "storage as a folder"
            )
        found.update(dict.fromkeys(_files(pattern)))
    if not found:
        raise DataError("no shards are named; expected tars, as in 'shards/train-{000000..000099}.tar'")
    return list(found)


def _files(pattern: str) -> list[Path]:
    if pattern.lower().endswith(PACKED):
        raise DataError(f"{pattern}: is compressed, so no picture of it can be read by itself; unpack it to .tar")
    if exists(Path(pattern)):
        return [Path(pattern)]
    if is_folder(Path(pattern)):
        files = [file for file in files_in(Path(pattern)) if file.suffix.lower() == ENDING]
        if not files:
            raise DataError(f"{pattern}: holds no tars; expected shards such as train-000000.tar")
        return files
    names = list(_expanded(pattern))
    files, missing = [], []
    for name in names:
        # pathlib's own glob takes no absolute patterns.
        matching = sorted(glob.glob(name)) if glob.has_magic(name) else [name]  # noqa: PTH207
        there = [Path(one) for one in matching if exists(Path(one))]
        files += there
        if not there:
            missing.append(name)
    if not missing:
        return files
    what = "no such file" if len(names) == 1 else f"{len(missing)} of its {plural(len(names), 'tar')} are not there"
    first = "" if missing == [pattern] else f", the first of them {missing[0]}"
    raise DataError(f"{pattern}: {what}{first}; expected tars, as in 'shards/train-{{000000..000099}}.tar'")


def _has_samples(tar: Path) -> bool:
    """Whether a `.json` is among the first members of a tar."""
    try:
        with tar.open("rb") as stream:
            return any(one.name.lower().endswith(".json") for one in islice(tar_members(stream, str(tar)), _PEEKED))
    except (OSError, DataError):
        return False


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) or _RANGE.search(text) is not None or _CHOICE.search(text) is not None


def _expanded(pattern: str) -> Iterator[str]:
    """The names that the braces of a pattern stand for, in their order; each as a shell would write it."""
    waiting, done = [pattern], 0
    while waiting:
        text = waiting.pop()
        if (found := _RANGE.search(text)) is not None:
            first, last = int(found[1]), int(found[2])
            width = max(len(found[1]), len(found[2])) if "0" in (found[1][0], found[2][0]) else 0
            if abs(last - first) >= _MOST:
                raise DataError(f"{pattern}: stands for more than {_MOST:,} tars")
            step = 1 if first <= last else -1
            parts = [f"{number:0{width}d}" for number in range(first, last + step, step)]
        elif (found := _CHOICE.search(text)) is not None:
            parts = found[1].split(",")
        else:
            done += 1
            yield text
            continue
        if done + len(waiting) + len(parts) > _MOST:
            raise DataError(f"{pattern}: stands for more than {_MOST:,} tars")
        waiting += [text[: found.start()] + part + text[found.end() :] for part in reversed(parts)]
