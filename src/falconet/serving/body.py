"""Bodies of requests: what is received is held in memory, counted, and never written to disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from falconet.serving.limits import Limits
from falconet.serving.problems import Problem

FIELD = "image"
"""Of a form: the name of each picture."""

LONGEST_NAME = 200

_HOW = (
    "send the bytes of a picture with its content type, as in image/jpeg or application/octet-stream, or a form of the "
    f"type multipart/form-data with one field '{FIELD}' per picture"
)


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture as it was sent.

    Attributes:
        file: its name in the form; None where it has none.
        data: the bytes of the file.
    """

    file: str | None
    data: bytes


class Room:
    """Bytes of one request that count among those of all."""

    def __init__(self, uploads: "Uploads") -> None:
        self._uploads, self._held = uploads, 0

    def add(self, count: int) -> None:
        """Hold so many bytes more. Raises Problem where the service holds too many."""
        limits = self._uploads.limits
        if self._held + count > limits.bytes:
            raise too_large(limits)
        if self._uploads.held + count > limits.memory:
            raise Problem(
                "queue-full",
                "The service holds as many requests as its memory is meant for; send this one again in a second",
                retry_after=1,
            )
        self._held += count
        self._uploads.held += count

    def leave(self) -> None:
        """Hold nothing any more."""
        self._uploads.held -= self._held
        self._held = 0


class Uploads:
    """The bodies of all requests that are being received or answered.

    Attributes:
        limits: as given.
        held: bytes of them.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        self._stopping = False
        self._receiving: set[asyncio.Timeout] = set()

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Room for a request, until it is answered."""
        room = Room(self)
        try:
            yield room
        finally:
            room.leave()

    def stop(self, grace: float) -> None:
        """Bodies that are not there after so many seconds are waited for no longer."""
        self._stopping = True
        latest = asyncio.get_running_loop().time() + grace
        for one in self._receiving:
            if not one.expired() and (when := one.when()) is not None and when > latest:
                one.reschedule(latest)

    async def receive(self, request: Request, room: Room) -> list[Upload]:
        """The pictures of a request.

        Raises:
            Problem: no picture, too many, too large, too slow, or a form that cannot be read.
            ClientDisconnect: the client is gone.
        """
        taker = _taker(request, self.limits)
        if (declared := request.headers.get("content-length", "")).isdecimal() and int(declared) > self.limits.bytes:
            raise too_large(self.limits)
        try:
            async with asyncio.timeout(self.limits.client) as timeout:
                self._receiving.add(timeout)
                try:
                    async for chunk in request.stream():
                        room.add(len(chunk))
                        taker.take(chunk)
                finally:
                    self._receiving.discard(timeout)
        except TimeoutError:
            if self._stopping:
                raise Problem("stopping", "The service is being stopped; send the request to its successor") from None
            raise Problem(
                "slow-client",
                f"The request did not arrive within {self.limits.client:g} seconds; send smaller pictures, or over a "
                "faster connection",
            ) from None
        uploads = taker.end()
        if not uploads:
            raise Problem("no-picture", f"The request holds no picture; {_HOW}")
        return uploads


def too_large(limits: Limits) -> Problem:
    """The refusal of a body."""
    return Problem(
        "too-large",
        f"The request has more than {limits.bytes / 10**6:g} MB; send fewer or smaller pictures, or start the service "
        "with a larger --max-bytes",
    )


class _Raw:
    """A body that is one picture."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def take(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def end(self) -> list[Upload]:
        data = b"".join(self._chunks)
        return [Upload(None, data)] if data else []


class _Form:
    """A body of the type multipart/form-data."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self._most = limits.most_pictures
        self._uploads: list[Upload] = []
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._file: str | None = None
        self._data: list[bytes] = []
        self._whole = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end_form,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _broken(str(error)) from error

    def take(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _broken(str(error)) from error

    def end(self) -> list[Upload]:
        if not self._whole:
            raise _broken("its closing boundary is missing: the request was cut off")
        return self._uploads

    def _begin(self) -> None:
        self._headers, self._data = {}, []
        if len(self._uploads) >= self._most:
            raise Problem(
                "too-many-pictures",
                f"The form has more than {self._most} pictures; send the others in a request of their own",
            )

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD:
            raise Problem(
                "no-picture",
                f"The form has a field '{field[:100]}'; expected '{FIELD}', once per picture; parameters belong into "
                "the address, as in /v1/detect?score=0.4",
            )
        name = options.get(b"filename", b"").decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
        self._file = name[-LONGEST_NAME:] or None

    def _end_part(self) -> None:
        self._uploads.append(Upload(self._file, b"".join(self._data)))
        self._data = []

    def _end_form(self) -> None:
        self._whole = True


def _taker(request: Request, limits: Limits) -> _Raw | _Form:
    """What takes the body apart, by its content type. Raises Problem for a type that is none of pictures."""
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise Problem(
            "wrong-type", f"Content-Encoding {encoding[:60]}: is not undone here; send the picture's file as it is"
        )
    given = request.headers.get("content-type", "")
    kind, options = parse_options_header(given)
    if kind == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise _broken("its content type names no boundary; leave the header to the client's library")
        return _Form(options[b"boundary"], limits)
    if not given or kind == b"application/octet-stream" or kind.startswith(b"image/"):
        return _Raw()
    curl = "; to curl it is -H 'Content-Type: image/jpeg'" if kind == b"application/x-www-form-urlencoded" else ""
    raise Problem("wrong-type", f"Content-Type {given[:100]}: is none of a picture; {_HOW}{curl}")


def _broken(reason: str) -> Problem:
    return Problem("bad-request", f"The form cannot be read: {reason}")


__all__ = ["ClientDisconnect", "Room", "Upload", "Uploads", "too_large"]
