"""Text of foreign files on the screen: shown, never obeyed."""

import os
import re
import shlex
from typing import IO, Any

from falconet.core.errors import DataError

# Control characters but line ends and tabs, what turns the direction of text or ends a line, halves of characters.
_OBEYED = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def printable(text: str) -> str:
    """`text` with characters that a terminal would obey, or could not show, as `\\x1b` or `\\u202e`.

    JSON stays JSON: it has no characters below 32, and above them takes the second form for an escape of its own.
    """
    return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] < " " else f"\\u{ord(found[0]):04x}", text)


def one_line(text: str, *, longest: int | None = None) -> str:
    """A foreign name as part of a line: printable, line ends and tabs as `\\n`, `\\t`; cut to `longest` characters."""
    shown = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return shown if longest is None or len(shown) <= longest else f"{shown[: longest - 3]}..."


def argument(value: object) -> str:
    """A path or name as one argument of a command that somebody may paste into a shell."""
    text = str(value)
    if re.fullmatch(r"[\w@%+=:,./\\~-]+", text):
        return text
    return f'"{text}"' if os.name == "nt" else shlex.quote(text)


class SafeStream:
    """A text stream whose text is printable.

    Args:
        stream: standard output or standard error, to which all else is handed on.
        name: for people.
    """

    def __init__(self, stream: IO[str], name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Write the printable form. Raises DataError on a full disk; a closed pipe is left to the caller."""
        try:
            return self._stream.write(printable(text))
        except OSError as error:
            raise self._broken(error) from error

    def flush(self) -> None:
        """As the stream's; raises as `write`."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._broken(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _broken(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        # What is still in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return DataError(f"{self._name} cannot be written: {error.strerror or error}")


def beneath(stream: IO[str]) -> IO[str]:
    """The stream itself beneath a `SafeStream`: for a progress bar, which moves the cursor."""
    return stream._stream if isinstance(stream, SafeStream) else stream
