"""What a search has found out so far, one line per finding, so that it goes on where it stopped and decides alike."""

import json
import os
from pathlib import Path
from typing import Any

from falconet.core.errors import DataError


class Journal:
    """Findings in the order in which they were made.

    Args:
        path: of the file (JSON lines), which is read where it is there; None keeps them in memory alone.

    Raises:
        DataError: a file that is no journal, or one that cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._events: list[dict[str, Any]] = [] if path is None or not path.is_file() else _read(path)

    def write(self, kind: str, **values: Any) -> None:
        """Add a finding; it is on the disk when this returns."""
        event = {"kind": kind, **values}
        self._events.append(event)
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Findings of one kind."""
        return [event for event in self._events if event["kind"] == kind]

    def first(self, kind: str) -> dict[str, Any] | None:
        """The first finding of one kind."""
        return next(iter(self.all(kind)), None)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    whole, _, broken = data.rpartition(b"\n")
    if broken:  # the machine stopped while it was written: what follows begins on a line of its own
        path.write_bytes(whole + b"\n" if whole else b"")
    events = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: is not JSON; expected the journal of 'falconet fit'") from error
        if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
            raise DataError(f"{path}:{number}: names no kind; expected the journal of 'falconet fit'")
        events.append(event)
    return events
