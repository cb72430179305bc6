"""What lies in folders: pictures, files found by name, and files that nothing uses.

Hidden files, what systems put beside pictures (`Thumbs.db`, `__MACOSX`, ...), and texts about the data (`README`,
`LICENSE`) do not count. Links to folders are followed.
"""

import os
import unicodedata
from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from falconet.core.files import exists, is_data, is_folder
from falconet.core.images import is_any_picture
from falconet.core.suggest import counted_files
from falconet.data.dataset import Problem


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return [
        folder / name for name in sorted(one.name for one in os.scandir(folder) if is_data(one.name) and _is_file(one))
    ]


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether there is a file; a link that leads back to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def walk(folder: Path) -> list[Path]:
    """All files below `folder`, sorted by their parts."""
    # Sorting texts is many times faster than sorting paths.
    return [Path(file) for file in sorted(_walk(folder), key=lambda file: file.replace(os.sep, "\0"))]


def first_below(folder: Path, suffixes: Iterable[str]) -> Path | None:
    """Any file below `folder` with one of the endings, None where there is none."""
    wanted = tuple(suffixes)
    return next((Path(file) for file in _walk(folder) if file.lower().endswith(wanted)), None)


def impossible(name: str) -> str | None:
    """Why no file can have this name, None where one can."""
    if "\0" in name:
        return "holds a NUL character"
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError:
        return "holds half of a character (a lone surrogate)"
    if max(map(len, parts)) > 255 or len(name) > 2000:
        return "is too long"
    return None


def composed(name: str) -> str:
    """The name with accents composed (NFC): macOS and others write the same letters differently."""
    return unicodedata.normalize("NFC", name)


class Names:
    """Files found by name, where accents may be composed differently and the ending may be in capitals.

    Each folder is listed once, and only when a name in it is not there as it is written.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, path: Path) -> Path | None:
        """The file that `path` means, None where there is none."""
        if exists(path):
            return path
        folder = self._folder(path.parent)
        return None if folder is None else self._listed(folder).get(_key(path))

    def _folder(self, path: Path) -> Path | None:
        if is_folder(path):
            return path
        if path.parent == path:
            return None
        parent = self._folder(path.parent)
        if parent is None:
            return None
        found = self._listed(parent).get(_key(path))
        return found if found is not None and found.is_dir() else None

    def _listed(self, folder: Path) -> dict[str, Path]:
        if folder not in self._folders:
            self._folders[folder] = {_key(path): path for path in sorted(folder.iterdir())}
        return self._folders[folder]


def unused(folder: Path, files: Iterable[Path], why: str = "") -> list[Problem]:
    """At most one problem, which counts and names the `files` in `folder` that nothing uses.

    Args:
        why: joins the sentence, as in " because no annotation file belongs to them".
    """
    names = [file.relative_to(folder).as_posix() for file in sorted(files)]
    if not names:
        return []
    are = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return [Problem(str(folder), f"{are} not used{why}{counted_files(names)}", "unused-files")]


def unused_beside(
    folders: AbstractSet[Path],
    used: AbstractSet[Path],
    own: Path,
    why: str = "",
    *,
    others: Container[str] = frozenset(),
) -> Iterator[Problem]:
    """What is not used in the folders of pictures, one problem for each.

    In a folder that holds pictures only, every other file counts, at any depth; in one where `own`, the data set's
    description, lies as well, other pictures do, and at any depth where `own` is a folder.

    Args:
        others: composed names of files that other data sets use.
    """
    yield from unused_among(folders, {os.path.normpath(file) for file in used}, own, why, others=others)


def unused_among(
    folders: AbstractSet[Path], taken: Container[str], own: Path, why: str = "", *, others: Container[str] = frozenset()
) -> Iterator[Problem]:
    """As `unused_beside`, where `taken` knows the used files by their normalised paths, whatever it is."""
    folders = {Path(os.path.normpath(folder)) for folder in folders}
    own = Path(os.path.normpath(own))
    only_pictures = {folder for folder in folders if folder.is_dir() and not _holds(folder, own)}
    if own.is_dir():
        only_pictures = {folder for folder in only_pictures if own not in folder.parents}
        folders = {own} | {folder for folder in folders if own not in folder.parents}
    for folder in sorted(folders):
        if folder in only_pictures:
            if only_pictures.intersection(folder.parents):
                continue
            found: Iterable[Path] = map(Path, _walk(folder))
        elif folder == own:
            found = filter(is_any_picture, map(Path, _walk(own)))
        else:
            found = filter(is_any_picture, files_in(folder))
        rest = (file for file in found if os.path.normpath(file) not in taken and composed(file.name) not in others)
        yield from unused(folder, rest, why)


def _holds(folder: Path, own: Path) -> bool:
    real = Path(os.path.realpath(own))
    return Path(os.path.realpath(folder)) in (real, *real.parents)


def _key(path: Path) -> str:
    return composed(path.stem) + path.suffix.lower()


def _walk(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            # A link back to where the walk has been.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(filter(is_data, folders))
        for name in files:
            if is_data(name):
                yield f"{root.rstrip(os.sep)}{os.sep}{name}"
