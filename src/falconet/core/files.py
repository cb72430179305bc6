"""Writing files so that nobody ever sees half of one."""

import os
import tempfile
from pathlib import Path

from falconet.core.errors import DataError


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
