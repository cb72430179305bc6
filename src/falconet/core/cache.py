"""Where files are kept that can be made or fetched again, and what was once found out about a file."""

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import DataError
from falconet.core.files import replace_file

Arrays = Mapping[str, NDArray[Any]]

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where fetched and converted files are kept, by the platform's convention."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("falconet", appauthor=False))


def read_notes(path: Path) -> dict[str, Any]:
    """What a JSON file of the cache remembers; nothing where it is missing or damaged: all of it can be found anew."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def write_notes(path: Path, known: Mapping[str, Any]) -> None:
    """Remember. Raises DataError where the file cannot be written."""
    replace_file(path, json.dumps(known, indent=2) + "\n")


def kept_arrays(file: Path, kind: str, make: Callable[[], Arrays]) -> Arrays:
    """What follows from the content of a file: made once, and kept until size or time of change of the file differ.

    Where the cache cannot be written, it is made each time.

    Args:
        file: exists.
        kind: folder within the cache; another name for another content of the arrays.
        make: the arrays, of numbers or texts.
    """
    from zipfile import BadZipFile  # which nobody needs who reads no tars

    state = file.stat()
    stamp = np.array([state.st_size, state.st_mtime_ns], np.int64)
    digest = hashlib.blake2b(os.path.realpath(file).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    kept = cache_folder() / kind / f"{digest}.npz"
    try:
        with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if np.array_equal(arrays.pop("stamp"), stamp):
            return arrays
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # not there yet, or not whole
    made = make()
    whole = io.BytesIO()
    np.savez(whole, stamp=stamp, **made)  # type: ignore[arg-type]  # numpy takes its own options for arrays' names
    try:
        replace_file(kept, whole.getvalue())
    except DataError as error:
        _log.debug("%s", error)
    return made
