"""Files of a copy of a data set: their names, which are those of the original below one folder, and their bytes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from falconet.core.tar_index import copy_file
from falconet.data.check import Progress


def relative_names(paths: Sequence[Path]) -> list[str]:
    """The paths below the folder that all of them share, with `/` between folders."""
    if not paths:
        return []
    # Links are not followed: many pictures may be links to one.
    whole = [Path(os.path.normpath(path.absolute())) for path in paths]
    shared = os.path.commonpath([path.parent for path in whole])
    return [path.relative_to(shared).as_posix() for path in whole]


def is_below(name: str) -> bool:
    """Whether a name of another file means one below the folder it is looked for in, on every system."""
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and ":" not in name


def by_name(path: PurePosixPath) -> str:
    """What must differ between pictures: there are file systems without case."""
    return str(path).lower()


def by_stem(path: PurePosixPath) -> str:
    """What must differ between pictures with label files, whose names are those of the pictures without ending."""
    return str(path.with_suffix("")).lower()


def once(names: Sequence[str], key: Callable[[PurePosixPath], str]) -> list[str]:
    """The names, of which the later of two with the same key gets a number."""
    taken: set[str] = set()
    result = []
    for name in names:
        path = own = PurePosixPath(name)
        number = 1
        while key(own) in taken:
            number += 1
            own = path.with_name(f"{path.stem}_{number}{path.suffix}")
        taken.add(key(own))
        result.append(str(own))
    return result


class Copier:
    """Copies pictures byte by byte, and tells how many are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._done, self._progress = total, 0, progress

    def __call__(self, source: Path, target: Path) -> None:
        """Copy a picture; folders are created.

        Raises:
            OSError: it cannot be read or written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(source, target)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def all(self, sources: Sequence[Path], targets: Sequence[str], folder: Path) -> None:
        """Copy pictures into a folder, which is there in any case."""
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(sources, targets, strict=True):
            self(source, folder / target)
