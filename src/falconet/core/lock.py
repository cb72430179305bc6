"""One program at a time writes into a folder."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from falconet.core.errors import DataError

LOCK = ".falconet.lock"

_log = logging.getLogger(__name__)


class HeldError(DataError):
    """Another process holds the folder."""


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold `folder` (created if need be) by a file that names process and machine.

    The lock of a process of this machine that is dead is taken over, and that is logged.

    Args:
        name: of that file; processes that may write into a folder beside one another hold one each.

    Raises:
        HeldError: another process holds it.
        DataError: the folder cannot be written.
    """
    path, new = folder / name, not folder.exists()
    if not new and not folder.is_dir():
        raise DataError(f"{folder}: is a file; expected a folder, or a name that nothing has yet")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _clear(path)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            raise HeldError(f"{folder}: another process writes there just now; choose another folder") from error
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()} {socket.gethostname()}\n")
        yield
    finally:
        path.unlink(missing_ok=True)
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def refuse_if_locked(folder: Path) -> None:
    """Raise DataError where another process holds `folder`; changes nothing but the lock of a dead process."""
    if (folder / LOCK).exists():
        _clear(folder / LOCK)


def _clear(path: Path) -> None:
    """Remove the lock of a dead process; raise DataError where it may be alive."""
    words = path.read_text(encoding="utf-8", errors="replace").split()
    process, machine = (words[0], words[1]) if len(words) == 2 else ("?", "?")
    if machine == socket.gethostname() and process.isdecimal() and not _lives(int(process)):
        _log.warning("%s: taken over from process %s, which ended without tidying up", path.parent, process)
        path.unlink(missing_ok=True)
        return
    raise HeldError(
        f"{path.parent}: process {process} on {machine} writes there just now; wait for it or choose another folder. "
        f"If it is long gone, remove {path}"
    )


def _lives(process: int) -> bool:
    if process == os.getpid():  # a container counts from the same number each time it starts
        return False
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
