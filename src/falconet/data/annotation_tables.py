"""Large annotation files, each converted once into a table in the user's cache folder.

Why there: data are often where nothing may be written or where several machines read, and what lies beside an
annotation file is taken for part of the data set; a run's folder would mean a table for every run. `FALCONET_TABLES`
names another folder. A table belongs to an annotation file and a folder of pictures; when the file changes, it is
converted anew, and the former table goes.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from falconet.core.cache import cache_folder
from falconet.core.errors import DataError
from falconet.core.figures import duration
from falconet.core.lock import HeldError, locked
from falconet.core.terminal import printable
from falconet.data.coco_table import convert_coco
from falconet.data.dataset import DataSet, Problem
from falconet.data.image_paths import find_place
from falconet.data.listing import impossible
from falconet.data.table import Table, TableRecords, open_table

VARIABLE = "FALCONET_TABLES"
"""Of the environment: the folder for tables."""

EVERY = 10.0
"""Seconds between lines that tell how far a conversion is."""

_FORM = 1
"""Counts changes of what a table holds; those of another one are converted anew."""
_WAIT = 0.5
_ENDING = ".arrow"
_PART = ".part"

_log = logging.getLogger(__name__)
_one_thread = threading.Lock()


def read_as_table(path: Path, images: Path | None) -> DataSet:
    """The data set of a COCO file, whose records lie in a mapped table.

    Args:
        images: folder of the pictures; None looks beside the file.

    Raises:
        DataError: as `falconet.data.coco.read_coco`, or the table cannot be written.
    """
    table = _table(path, images)
    place = find_place(path, table.head["probed"], images)
    if why := impossible(str(place.folder)):
        raise DataError(f"{printable(str(place.folder))}: the folder's name is not UTF-8 ({why}); rename it")
    source = table.head["source"]
    problems = tuple(
        Problem(str(path) + where.removeprefix(source) if where.startswith(source) else where, what, kind)
        for where, what, kind in table.head["problems"]
    )
    records = TableRecords(table, place.folder, str(path))
    return DataSet(tuple(table.head["names"]), records, str(path), "coco", problems, "annotation")


def tables_folder() -> Path:
    """Where tables are kept."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    return cache_folder() / "tables"


def _table(path: Path, images: Path | None) -> Table:
    """The table of a file as it is now; converts it, or waits for whoever does that."""
    folder = tables_folder() / _digest(os.path.realpath(path), "" if images is None else os.path.realpath(images))
    waiting = 0.0
    while True:
        file = folder / f"{_key(path)}{_ENDING}"
        if (table := _current(file, path, images)) is not None:
            return table
        try:
            with _one_thread, locked(folder):
                if _current(file, path, images) is None:
                    _convert(path, images, file)
        except HeldError as error:
            if time.monotonic() - waiting > EVERY:
                _log.info("%s: waiting for its table. %s", path, error)
                waiting = time.monotonic()
            time.sleep(_WAIT)


def _current(file: Path, path: Path, images: Path | None) -> Table | None:
    """The table in `file`, None where there is none, or its pictures are found in another way now."""
    if not file.exists():
        return None
    try:
        table = open_table(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: is no table (%s); %s is converted again", file, error, path)
        return None
    return table if find_place(path, table.head["probed"], images).cut == table.head["cut"] else None


def _convert(path: Path, images: Path | None, file: Path) -> None:
    """Write the table `file`, which appears when it is complete; tables of what was in `path` before go."""
    folder = file.parent
    _log.info(
        "%s: has %.0f MB; it is converted once into a table in %s (%s names another folder)",
        path,
        path.stat().st_size / 2**20,
        folder,
        VARIABLE,
    )
    for left in folder.glob(f"*{_PART}"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = None
    started = time.monotonic()
    try:
        work = Path(tempfile.mkdtemp(suffix=_PART, dir=folder))
        part = work / file.name
        convert_coco(path, images, part, work=work, told=_Told(path))
        open_table.cache_clear()
        for former in folder.glob(f"*{_ENDING}"):
            with suppress(OSError):  # Windows keeps files that a process has mapped
                former.unlink()
        part.replace(file)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}; {VARIABLE} names another folder for tables"
        ) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    size = file.stat().st_size / 2**20
    _log.info("%s: converted in %s, into %.0f MB", path, duration(time.monotonic() - started), size)


class _Told:
    """Tells from time to time how far a conversion is."""

    def __init__(self, path: Path) -> None:
        self._path, self._what = path, ""
        self._started = self._last = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._started = what, now
        if now - self._last < EVERY or not done:
            return
        self._last = now
        doing = {"read": "converting", "find": "finding its pictures", "write": "writing its table"}[what]
        left = duration((now - self._started) / done * (of - done))
        _log.info("%s: %s, %.0f%%, about %s left", self._path, doing, 100 * done / of, left)


def _key(path: Path) -> str:
    """Changes with the file."""
    state = path.stat()
    return _digest(str(_FORM), str(state.st_size), str(state.st_mtime_ns), str(state.st_ino))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogateescape"), digest_size=12).hexdigest()
