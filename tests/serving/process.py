"""The service as a process of its own, on a free port of the loopback address."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60
"""To wait for anything, on a busy machine."""


class Served:
    """A process that serves.

    Attributes:
        port: at 127.0.0.1.
        process: as started.
        told: what it printed until it took requests.
    """

    def __init__(self, process: "subprocess.Popen[str]", port: int, told: str) -> None:
        self.process, self.port, self.told = process, port, told

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def send(self, data: bytes) -> bytes:
        """What comes back until the service closes the connection."""
        with self.connect() as client:
            client.sendall(data)
            return read(client)

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def rest(self) -> str:
        """What it printed since it told its address; after its end."""
        assert self.process.stdout
        return self.process.stdout.read()


def read(client: socket.socket) -> bytes:
    """Everything until the connection ends."""
    data = b""
    while chunk := client.recv(65536):
        data += chunk
    return data


@contextmanager
def served(
    folder: Path, *words: str, code: str = "from falconet.cli import main; main()", environment: dict | None = None
) -> Iterator[Served]:
    """`falconet serve WORDS` in a folder, once it takes requests."""
    command = [sys.executable, "-c", code, "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        told = _told(process)
        found = re.search(r":(\d+)", told[-1])
        assert found
        yield Served(process, int(found[1]), "".join(told))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)
        assert process.stdout
        process.stdout.close()


def _told(process: "subprocess.Popen[str]") -> list[str]:
    """What it prints until it tells its address, which is in the last line."""
    assert process.stdout
    told: list[str] = []
    late = threading.Timer(SECONDS, process.kill)
    late.start()
    try:
        while "serving at http" not in "".join(told[-1:]):
            line = process.stdout.readline()
            if not line:
                raise AssertionError("".join(told))
            told.append(line)
    finally:
        late.cancel()
    return told
