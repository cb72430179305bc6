"""Files that count as data; writing files so that nobody ever sees half of one."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from falconet.core.errors import DataError

_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})
_ABOUT = frozenset({"readme", "license", "licence", "notice", "copying"})


def is_data(name: str) -> bool:
    """Whether a file or folder counts as data: not hidden, not put there by a system, not a text about the data."""
    first, _, ending = name.lower().partition(".")
    about = first in _ABOUT and ending.rpartition(".")[2] in ("", "txt", "md", "rst")
    return bool(first) and name.lower() not in _SYSTEM and not about


def exists(path: Path) -> bool:
    """Whether there is a file, or a member of a tar; False also for names that no file can have."""
    try:
        return path.is_file() or (".tar" in path.as_posix().lower() and _in_tar(path))
    except (OSError, ValueError):
        return False


def _in_tar(path: Path) -> bool:
    from falconet.core.tar_index import has_member  # which writes files

    return has_member(path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False also for names that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def regular(path: Path) -> Path:
    """`path`; raises OSError where it is a pipe, a socket or a device, which may never come to an end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "is a pipe, a socket or a device; expected a file", str(path))
    return path


def replace_file(path: Path, data: bytes | str, *, sync: bool = False) -> None:
    """Write `data` (text as UTF-8) beside `path` and move it into place; folders are created.

    Args:
        sync: wait until the disk has it, so that a power failure leaves one of both contents.

    Raises:
        DataError: the file cannot be written (no permission, full disk); what was there before survives.
    """
    content = data.encode() if isinstance(data, str) else data
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            if sync:
                stream.flush()
                os.fsync(handle)
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except BaseException as error:  # Ctrl-C, too, leaves nothing beside
        if part is not None:
            part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill beside `path`, which appears under that name when all went well, and else goes again.

    Args:
        path: nothing is there yet, or an empty folder.

    Raises:
        DataError: a file cannot be written (no permission, full disk).
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent))
        yield part
        part.chmod(0o755)
        if path.exists():
            path.rmdir()
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
