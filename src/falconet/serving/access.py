"""Who may ask: bearer tokens (RFC 6750), compared in constant time; headers that keep pages to themselves."""

import hmac
import logging
import os
import stat
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from falconet.core.errors import ConfigError
from falconet.serving.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

SHORTEST = 16
"""Characters of a token."""

GUARDED = ("/v1/", "/metrics")
"""Beginnings of addresses that need a token; pages are the same for everybody, and probes have none."""

PAGE_POLICY = (
    "default-src 'self'; connect-src 'self' blob:; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page may load: nothing from elsewhere."""


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in a file, one a line; empty lines and those that begin with # do not count.

    Raises:
        ConfigError: missing, empty, short or odd tokens, or a file that others may write.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file {path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if os.name == "posix":
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(
                f"--token-file {path}: others may write it, and so let themselves in; run: chmod 600 {path}"
            )
        if mode & stat.S_IROTH:
            _log.warning("--token-file %s: everybody on this machine may read it; to change that: chmod 600", path)
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not tokens:
        raise ConfigError(f"--token-file {path}: holds no token; expected one a line, as 'openssl rand -hex 32' writes")
    for place, token in enumerate(tokens, start=1):
        if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(
                f"--token-file {path}: token {place} is none; expected {SHORTEST} or more ASCII characters without "
                "blanks, as 'openssl rand -hex 32' writes"
            )
    return tokens


class Guard:
    """Lets requests through that carry one of the tokens, or need none.

    Args:
        app: behind it.
        tokens: the ones that are right.
    """

    def __init__(self, app: "ASGIApp", tokens: Sequence[str]) -> None:
        self._app = app
        self._right = [sha256(token.encode()).digest() for token in tokens]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """As ASGI has it."""
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED) or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        problem = Problem(
            "unauthorized", "The request carries no token that is known; send the header 'Authorization: Bearer TOKEN'"
        )
        body = problem.body()
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _knows(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        # All are compared, so that the time says nothing about which one was nearly right.
        same = [hmac.compare_digest(given, one) for one in self._right]
        return kind.lower() == "bearer" and any(same)


class SafeHeaders:
    """Adds to every answer what keeps a browser from loading, guessing or framing more than it should."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """As ASGI has it."""

        async def with_headers(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", PAGE_POLICY)
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("referrer-policy", "no-referrer")
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
