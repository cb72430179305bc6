"""A server of object storage on this machine, and a line to it that can be as slow and as poor as real ones."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

METHODS = (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE")
REFUSAL = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Line:
    """Carries connections to a server; refuses some of them as a busy storage does, and cuts some off.

    Attributes:
        port: where it is reached.
        refusals, cuts: how many more connections are treated so.
        delay: seconds that each request takes longer.
        requests: that were carried.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.refusals = self.cuts = 0
        self.delay = 0.0
        self.requests = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def hang_up(self) -> None:
        """End all connections."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.cuts:
                self.cuts -= 1
                return
            if self.refusals:
                self.refusals -= 1
                client.recv(65536)
                client.sendall(
                    b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(REFUSAL)
                )
                client.sendall(REFUSAL)
                client.shutdown(socket.SHUT_RDWR)
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                self._open += [client, server]
                back = threading.Thread(target=_relay, args=(server, client), daemon=True)
                back.start()
                _relay(client, server, self)
                back.join()


def _relay(source: socket.socket, target: socket.socket, line: Line | None = None) -> None:
    """Carry what is said one way; a request is held back as long as the line is."""
    with suppress(OSError):
        while data := source.recv(65536):
            if line is not None and data.split(b" ", 1)[0] in METHODS:
                line.requests += 1
                time.sleep(line.delay)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def start_server() -> tuple[subprocess.Popen, int]:
    """An S3 server in a process of its own, and its port at the loopback address."""
    code = (
        "from moto.server import ThreadedMotoServer as S; s = S('127.0.0.1', 0, verbose=False); s.start(); "
        "print(s.get_host_and_port()[1], flush=True); input()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def environment(port: int) -> dict[str, str]:
    """What tells programs where such a server is."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
