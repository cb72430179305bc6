"""A JSON object whose lists are too long for memory, entry by entry.

The entries are parsed by Python's own `json`, exactly as `falconet.data.json_files.read_json` parses whole files: the
same numbers, texts and errors. Streaming parsers that can be installed (ijson) differ in these, and hand on every key
as an event, which takes several times as long.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from falconet.core.errors import DataError
from falconet.core.files import regular
from falconet.data.json_files import single_keys

CHUNK = 1 << 22
"""Bytes that are read at a time."""

_BLANK = re.compile(r"[ \t\n\r]*")
_BEHIND = tuple(" \t\n\r,]}:")
"""What stands behind a value."""
_NEAR = 16
"""Characters before the end of what has been read in which an error may vanish once more is read: the longest thing
that is not a text, `-Infinity` or `\\uD800\\uDC00`, is shorter."""

Told = Callable[[int, int], object]
"""Is told (bytes read, bytes in all)."""


def entries(path: Path, *, hook: Callable[[dict[str, Any]], Any], told: Told) -> Iterator[tuple[str, int, Any]]:
    """What stands under each key of the object that a JSON file holds.

    Args:
        hook: sees each object as soon as it is read, and returns what stands for it.
        told: after each piece of the file.

    Yields:
        (key, -1, value) for each key; of a list the value is empty, and (key, position, entry) follow. Where the file
        holds no object: ("", -1, what it holds), or an empty list for a list.

    Raises:
        DataError: as `read_json`, except that a value that is no list may be of any size.
    """
    stream = _Stream(path, hook, told)
    try:
        yield from stream.top()
    except json.JSONDecodeError as error:
        line, column = stream.where(error.pos)
        raise DataError(f"{path}:{line}:{column}: is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: is not valid JSON for annotations: its lists and objects nest too deep") from error
    except UnicodeDecodeError as error:
        at = stream.decoded + error.start
        raise DataError(f"{path}: is not UTF-8 text (byte {at}); expected an annotation file") from error
    except ValueError as error:
        raise DataError(f"{path}: is not valid JSON: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        stream.close()


class _Stream:
    """The text of a file, of which a window is held.

    Attributes:
        decoded: bytes that the window and what was before it came from.
    """

    def __init__(self, path: Path, hook: Callable[[dict[str, Any]], Any], told: Told) -> None:
        self._path, self._told = path, told
        self._scan = json.JSONDecoder(object_pairs_hook=single_keys(path, hook)).raw_decode
        try:
            self._file = regular(path).open("rb")
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        self._size = path.stat().st_size
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self._lines, self._columns = 0, 0
        self._read, self.decoded = 0, 0

    def close(self) -> None:
        self._file.close()

    def where(self, position: int) -> tuple[int, int]:
        """(line, column), both from 1, of a position in the window."""
        line, last = self._text.count("\n", 0, position), self._text.rfind("\n", 0, position)
        return self._lines + line + 1, position - last + (self._columns if line == 0 else 0)

    def top(self) -> Iterator[tuple[str, int, Any]]:
        """What `entries` yields."""
        first = self._next()
        if not first:
            raise DataError(f"{self._path}: is empty; expected JSON")
        if first == "{":
            self._at += 1
            yield from self._object()
        else:
            yield "", -1, self._all_of_it(first)
        if self._next():
            raise self._error("Extra data")

    def _all_of_it(self, first: str) -> Any:
        """What the file holds where that is no object, but nothing of a list."""
        if first != "[":
            return self._value()
        self._at += 1
        for _ in self._list(""):
            pass
        return []

    def _object(self) -> Iterator[tuple[str, int, Any]]:
        keys: set[str] = set()
        if self._next() == "}":
            self._at += 1
            return
        while True:
            if self._next() != '"':
                raise self._error("Expecting property name enclosed in double quotes")
            key = self._value()
            if key in keys:
                raise DataError(
                    f"{self._path}: an object has the key {key[:60]!r} twice; expected each once, as one would be lost"
                )
            keys.add(key)
            if self._next() != ":":
                raise self._error("Expecting ':' delimiter")
            self._at += 1
            if self._next() == "[":
                self._at += 1
                yield key, -1, []
                yield from self._list(key)
            else:
                yield key, -1, self._value()
            if self._next() == "}":
                self._at += 1
                return
            self._comma()

    def _list(self, key: str) -> Iterator[tuple[str, int, Any]]:
        position = 0
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield key, position, self._value()
            position += 1
            if self._text.startswith(",", self._at):
                self._at += 1  # as is usual
                continue
            if self._next() == "]":
                self._at += 1
                return
            self._comma()

    def _comma(self) -> None:
        if self._next() != ",":
            raise self._error("Expecting ',' delimiter")
        self._at += 1

    def _next(self) -> str:
        """The next character that is not blank, where the window stands then; empty at the end."""
        while True:
            match = _BLANK.match(self._text, self._at)
            assert match is not None, "it may be empty"
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> Any:
        """The value at the next character that is not blank."""
        if self._text[self._at : self._at + 1] != "{":
            self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - _NEAR or error.msg.startswith("Unterminated string")
                if not cut or not self._more():
                    raise
            else:
                # A number that ends near the end of the window may go on behind it, as "1." and "1e-" do.
                whole = end < len(self._text) - _NEAR or self._text[end : end + 1] in _BEHIND
                if whole or not self._more():
                    self._at = end
                    return value

    def _more(self) -> bool:
        """Read on, as much as the window holds, so that a long value is not looked at too often."""
        if self._ended:
            return False
        while not self._ended:
            data = self._file.read(max(CHUNK, len(self._text) - self._at))
            self._ended = not data
            self.decoded = self._read - len(self._decoder.getstate()[0])
            text = self._decoder.decode(data, final=self._ended)
            self._read += len(data)
            if not text:
                continue
            self._lines, self._columns = (part - one for part, one in zip(self.where(self._at), (1, 1), strict=True))
            self._text, self._at = self._text[self._at :] + text, 0
            self._told(self._read, self._size)
            return True
        return False

    def _error(self, what: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(what, self._text, self._at)
