"""A connection that waits for no client longer than it should: uvicorn's, with limits on the head of a request, on what
comes after an early answer, and on answers that nobody takes."""

import asyncio
from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from falconet.serving.limits import Limits
from falconet.serving.problems import MEDIA_TYPE, Problem

MOST_HEAD = 32 * 1024
"""Bytes of the request line and the headers."""

LINGER = 1.0
"""Seconds in which the rest of a request is read and thrown away that was answered early; a connection that is closed
while the client sends loses the answer."""


class Connection(HttpToolsProtocol):
    """One client."""

    limits = Limits()
    """Of the service; see `connection_for`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._message_open = False
        self._timers: dict[str, TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._after("head", self.limits.client, self._slow_head)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._cancel(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._idle and "head" not in self._timers:  # line ends alone begin no request
            self._after("head", self.limits.client, self._slow_head)
        if self._in_head and self._head_bytes > MOST_HEAD:
            self._refuse(
                Problem(
                    "head-too-large",
                    f"The address and the headers have more than {MOST_HEAD} bytes; pictures belong into the body",
                )
            )

    def on_message_begin(self) -> None:
        self._in_head = self._message_open = True
        self._head_bytes = 0
        if "head" not in self._timers:
            self._after("head", self.limits.client, self._slow_head)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel("head")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._message_open = False
        self._in_head = True
        self._head_bytes = 0
        self._cancel("linger")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._message_open:
            self._after("linger", LINGER, self.transport.close)
        if self.transport.get_write_buffer_size():
            self._after("unread", self.limits.client, self._unread)

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("bad-request", f"{msg.rstrip('.')}; expected HTTP/1.1"))

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _slow_head(self) -> None:
        self._timers.pop("head", None)
        if not self._message_open:  # browsers open connections that they may need
            self.transport.close()
            return
        self._refuse(
            Problem(
                "slow-client", f"The headers did not arrive within {self.limits.client:g} seconds; send them at once"
            )
        )

    def _unread(self) -> None:
        """End a connection whose client takes nothing of its answer."""
        self._timers.pop("unread", None)
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self, problem: Problem) -> None:
        body = problem.body()
        lines = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if self._idle:
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()

    def _after(self, name: str, seconds: float, call: Any) -> None:
        self._cancel(name)
        self._timers[name] = self.loop.call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()


def connection_for(limits: Limits) -> type[Connection]:
    """The class of connections with these limits; uvicorn makes its objects by itself."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
