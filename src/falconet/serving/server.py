"""Runs the service until it is asked to end, and then ends what is under way."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn

from falconet.core.errors import ConfigError
from falconet.serving.connection import connection_for
from falconet.serving.service import Service

BACKLOG = 2048
"""Connections that the system holds while the service is busy."""

KEEP_ALIVE = 30
"""Seconds that an idle connection stays open."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address; nobody can connect until the service runs.

    Raises:
        ConfigError: no such address, a port that is taken, or that needs rights.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host}: is no address of this machine ({getattr(error, 'strerror', error)})"
        ) from error
    listener = socket.socket(family, kind, number)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"--host {host} --port {port}: cannot be taken ({error.strerror}); name another --port, or 0 for any "
            "that is free"
        ) from error
    return listener


def allow_many_files() -> None:
    """Let this process have as many connections as the system allows; many shells begin with 1,024."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(app: Any, service: Service, listener: socket.socket, *, started: Callable[[], None]) -> int:
    """Answer requests until SIGINT or SIGTERM; those that are under way are answered, as far as the limits allow.

    Args:
        app: of `create_app`, for this service.
        listener: of `bind`.
        started: called once requests are taken.

    Returns:
        The exit code: 0, or that of a second signal, which waits for nothing.
    """
    allow_many_files()
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=connection_for(service.limits),
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(service.limits.stop)),
    )
    server = _Server(config, service, started)
    service.start()
    try:
        server.run(sockets=[listener])
    finally:
        service.close()
    return server.code


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with 0 when it was asked to end, instead of by the signal that asked it."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._told = service, started
        self.code = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._loop = asyncio.get_running_loop()
        self._told()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.should_exit:
            self.force_exit, self.code = True, 128 + sig
            return
        self.should_exit = True
        if loop := getattr(self, "_loop", None):
            loop.call_soon_threadsafe(self._service.refuse)
