"""The service for half an hour, one request of a hundred bad: memory and latency by the minute, an answer to each.

    python benchmarks/serve_soak.py [--model m.onnx] [--minutes 30] [--clients 4]

Clients that keep their connections ask for drawn JPEGs of 640 x 480, one picture after the other. One request of a
hundred is bad, of each kind in turn: half a JPEG, a PNG whose header claims 30,000 x 30,000 pixels, a text, a model
that is not there, a request whose body comes too slowly, one that is cut off in the middle. A bad one has to be
answered with a problem in JSON whose detail is a sentence; who cuts off waits for none. Clients and
service share the CPUs.
"""

import argparse
import itertools
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import write
from detect import drawn, exported
from serve import free_port, post, running
from serve import told as counted

BAD = 0.01
SLOW = 2.0
"""Seconds that the service gives a client for its request, here."""

WAIT = 60


@dataclass
class Minute:
    """What happened in it."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass
class Soak:
    """All of it, for all clients.

    Attributes:
        minutes: by number.
        bad: by kind, how it was answered.
        faults: what should not have been.
    """

    start: float
    minutes: dict[int, Minute] = field(default_factory=dict)
    bad: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> Minute:
        return self.minutes.setdefault(int((time.perf_counter() - self.start) // 60), Minute())


def answer(client: socket.socket) -> tuple[int, bytes]:
    """(status, body) of one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            raise ConnectionError("no answer")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += client.recv(65536)
    return int(head[9:12]), body


def bomb() -> bytes:
    """A PNG of a few bytes that claims 900 megapixels."""
    ihdr = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", ihdr), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def kinds(jpeg: bytes) -> dict[str, Callable[[socket.socket], bool]]:
    """By name what a bad client does; whether it waits for an answer."""
    whole = post("/v1/detect", "image/jpeg", jpeg)

    def sends(data: bytes) -> Callable[[socket.socket], bool]:
        def send(client: socket.socket) -> bool:
            client.sendall(data)
            return True

        return send

    def slowly(client: socket.socket) -> bool:
        client.sendall(whole[: len(whole) // 2])
        time.sleep(SLOW + 1)
        return True

    def cut(client: socket.socket) -> bool:
        client.sendall(whole[: len(whole) // 2])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return {
        "truncated": sends(post("/v1/detect", "image/jpeg", jpeg[: len(jpeg) // 2])),
        "bomb": sends(post("/v1/detect", "image/png", bomb())),
        "a text": sends(post("/v1/detect", "image/jpeg", b"this is no picture " * 50)),
        "no such model": sends(post("/v1/detect?model=absent", "image/jpeg", jpeg)),
        "slow": slowly,
        "cut off": cut,
    }


def bad(soak: Soak, port: int, name: str, act: Callable[[socket.socket], bool]) -> None:
    """One bad request, on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
        if not act(client):
            with soak.lock:
                soak.bad[name, "waits for none"] += 1
            return
        try:
            status, body = answer(client)
            tree = json.loads(body)
            told = f"{status}"
            if not 400 <= status < 500 or not str(tree.get("detail", "")).strip():
                raise ValueError(body[:200])
        except (OSError, ValueError, StopIteration) as error:
            told = "no answer"
            with soak.lock:
                soak.faults.append(f"{name}: {error!r}")
    with soak.lock:
        soak.bad[name, told] += 1


def work(soak: Soak, port: int, requests: Iterator[bytes], jpeg: bytes, seed: int, until: float) -> None:
    """One client."""
    generator, turn = random.Random(seed), itertools.cycle(kinds(jpeg).items())
    client = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    while time.perf_counter() < until:
        if generator.random() < BAD:
            bad(soak, port, *next(turn))
            continue
        start = time.perf_counter()
        try:
            client.sendall(next(requests))
            status, _ = answer(client)
        except (OSError, StopIteration) as error:
            with soak.lock:
                soak.faults.append(f"good request: {error!r}")
            client = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
            continue
        took = time.perf_counter() - start
        with soak.lock:
            now = soak.now()
            now.statuses[str(status)] += 1
            now.seconds.append(took)
    client.close()


def memory(process: "subprocess.Popen[bytes]") -> float:
    """Megabytes that it holds now."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--clients", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = given.model or exported(Path(scratch))
        pictures = [path.read_bytes() for path in drawn(Path(scratch) / "pictures", 16)]
        port = free_port()
        requests = [post("/v1/detect", "image/jpeg", one) for one in pictures]
        command = [sys.executable, "-m", "falconet", "serve", str(model), "--port", str(port)]
        command += ["--client-seconds", str(SLOW)]
        with running("falconet serve", command, port, requests[:1]) as program:
            rows, soak = run(program.process, port, requests, pictures[0], given)
    for fault in soak.faults[:20]:
        print(fault, file=sys.stderr)
    write(
        "serve_soak",
        "The service under a steady load, one request of a hundred bad",
        f"python benchmarks/serve_soak.py --minutes {given.minutes} --clients {given.clients}"
        + (f" --model {given.model.name}" if given.model else ""),
        rows,
        f"{model.name}; clients run on the same CPUs. Memory is what the service holds at the end of the minute.",
    )


def run(
    process: "subprocess.Popen[bytes]", port: int, requests: list[bytes], jpeg: bytes, given: argparse.Namespace
) -> tuple[list[dict[str, Any]], Soak]:
    """A row for the first minutes, the last, and some between; then the bad requests by kind."""
    soak = Soak(time.perf_counter())
    until = soak.start + 60 * given.minutes
    clients = [
        threading.Thread(target=work, args=(soak, port, itertools.cycle(requests), jpeg, seed, until))
        for seed in range(given.clients)
    ]
    for one in clients:
        one.start()
    held: list[float] = []
    for minute in range(given.minutes):
        time.sleep(max(0.0, soak.start + 60 * (minute + 1) - 0.5 - time.perf_counter()))
        held.append(memory(process))
        print(f"minute {minute}: {held[-1]:.1f} MB", file=sys.stderr, flush=True)
    for one in clients:
        one.join()
    shown = sorted({0, 1, *range(0, given.minutes, 5), given.minutes - 1})
    rows: list[dict[str, Any]] = []
    for minute in shown:
        now = soak.minutes.get(minute, Minute())
        quantiles = np.percentile(now.seconds, [50, 99]) * 1e3 if now.seconds else (0.0, 0.0)
        rows.append(
            {
                "what": f"minute {minute + 1}",
                "requests": sum(now.statuses.values()),
                "p50_ms": round(float(quantiles[0]), 1),
                "p99_ms": round(float(quantiles[1]), 1),
                "MB": round(held[minute], 1),
            }
        )
    statuses = sum((one.statuses for one in soak.minutes.values()), Counter[str]())
    rows.append({"what": "good requests", "answers": counted(statuses)})
    rows += [
        {"what": f"bad: {name}", "answers": f"{count} x {told}"} for (name, told), count in sorted(soak.bad.items())
    ]
    rows.append({"what": "faults", "requests": len(soak.faults)})
    return rows, soak


if __name__ == "__main__":
    main()
