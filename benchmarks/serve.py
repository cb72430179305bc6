"""HTTP against the same model in this process, and against LitServe with the same session.

    python benchmarks/serve.py [--model m.onnx] [--seconds 20] [--rounds 3] [--peer PYTHON] [--crowd 1000]

All programs run at once and are asked in turns, so that a drift of the machine's speed meets all alike:

* one client that keeps its connection, against `predict` of the same file with all CPUs: medians, and what HTTP adds;
* 64 clients, against the pipeline of `falconet predict` over the same files: pictures per second, 50th and 99th
  percentile of those that were answered. Client and service share the CPUs;
* 1,000 clients, each of which asks again as soon as it has its answer, and waits a second after a 429: requests by
  status, those without an answer, the most memory that the service took.

--peer names a Python with LitServe 0.2 and falconet; without it there is no row of it. Without a model an untrained
nanodet-plus-m-320 is exported, whose scores are all below any threshold; with a trained one selection has work to do.
"""

import argparse
import asyncio
import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import write
from detect import drawn, exported

import falconet
from falconet.core.cpus import usable_cpus
from falconet.runtime.pipeline import predict_frames
from falconet.runtime.stream import find_sources
from falconet.serving.server import allow_many_files

CLIENTS = 64
PAUSE = 1.0
"""Seconds that a client waits after a 429."""


@dataclass(frozen=True)
class Program:
    """A service that runs.

    Attributes:
        name: in results.
        process: its first process.
        port: at 127.0.0.1.
        requests: one for each picture, from request line to the last byte.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    requests: list[bytes]


@dataclass
class Tally:
    """What clients got."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    def per_second(self) -> float:
        return self.statuses["200"] / self.wall

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.seconds, share)) * 1e3 if self.seconds else float("nan")


class Client(asyncio.Protocol):
    """One connection: sends requests one after the other, and counts what comes back."""

    def __init__(self, requests: Iterator[bytes], tally: Tally, until: float) -> None:
        self._requests, self._tally, self._until = requests, tally, until
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._data, self._start, self._open, self._asked = bytearray(), 0.0, False, False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._asked and time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._open, self._asked, self._start = True, True, time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, mark, body = bytes(self._data).partition(b"\r\n\r\n")
        if not mark:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._data.clear()
        status = head[9:12].decode()
        self._tally.statuses[status] += 1
        if status == "200":
            self._tally.seconds.append(time.perf_counter() - self._start)
        self._open = False
        self._loop.call_later(PAUSE if status == "429" else 0, self._next)

    def connection_lost(self, _: Exception | None) -> None:
        if self._open:
            self._tally.statuses["no answer"] += 1
        if not self.done.done():
            self.done.set_result(None)


async def crowd(program: Program, clients: int, seconds: float) -> Tally:
    """So many clients for so long; the last requests are waited for."""
    tally, start = Tally(), time.perf_counter()
    turn = itertools.cycle(program.requests)
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: Client(turn, tally, start + seconds), "127.0.0.1", program.port)
            for _ in range(clients)
        )
    )
    await asyncio.wait([protocol.done for _, protocol in made], timeout=seconds + 60)
    tally.wall = time.perf_counter() - start
    for transport, protocol in made:
        if not protocol.done.done():  # waited for a minute
            tally.statuses["no answer"] += 1
            transport.abort()
    return tally


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def post(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def running(name: str, command: Sequence[str], port: int, requests: list[bytes]) -> Iterator[Program]:
    """A program once it answers."""
    process = subprocess.Popen(list(command), stdout=subprocess.DEVNULL, start_new_session=True)
    program = Program(name, process, port, requests)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                if asyncio.run(crowd(program, 1, 0.05)).statuses["200"]:
                    break
            except OSError:
                time.sleep(0.2)
        else:
            raise SystemExit(f"{name}: does not answer")
        yield program
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):  # LitServe's processes outlive their first
            os.killpg(process.pid, signal.SIGKILL)


def most_memory(program: Program) -> float:
    """Megabytes that its processes took at most, together."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) != program.process.pid:
                continue
            lines = (folder / "status").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024


def one_client(program: Program, model: Path, pictures: list[Path], calls: int) -> dict[str, float]:
    """Milliseconds at the median of `predict` and of a request, in turns, and what HTTP adds."""
    predictor = falconet.load(model)
    client = socket.create_connection(("127.0.0.1", program.port))
    inside, outside = [], []
    for turn in range(calls + 10):
        picture = turn % len(pictures)
        start = time.perf_counter()
        predictor.predict(pictures[picture])
        middle = time.perf_counter()
        client.sendall(program.requests[picture])
        data = b""
        while not whole(data):
            data += client.recv(65536)
        end = time.perf_counter()
        if turn >= 10:
            inside.append(middle - start)
            outside.append(end - middle)
    client.close()
    medians = [float(np.median(one)) * 1e3 for one in (inside, outside)]
    return {"predict_p50_ms": medians[0], "http_p50_ms": medians[1], "added_ms": medians[1] - medians[0]}


def whole(data: bytes) -> bool:
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    assert head.startswith(b"HTTP/1.1 200"), data[:500]
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return len(body) >= length


def pipeline(model: Path, pictures: list[Path], seconds: float) -> float:
    """Pictures per second in this process, as `falconet predict` of a folder."""
    predictor = falconet.load(model, streams=usable_cpus())
    sources = find_sources([str(path) for path in pictures] * 4)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += sum(1 for _ in predict_frames(predictor, sources))
    return done / (time.perf_counter() - start)


def many_clients(
    programs: list[Program], model: Path, pictures: list[Path], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Rows of the pipeline and of each program, in turns."""
    inside: list[float] = []
    tallies: dict[str, list[Tally]] = {one.name: [] for one in programs}
    for _ in range(rounds):
        inside.append(pipeline(model, pictures, seconds))
        for one in programs:
            tallies[one.name].append(asyncio.run(crowd(one, CLIENTS, seconds)))
    base = float(np.median(inside))
    rows: list[dict[str, Any]] = [{"what": "pipeline in one process", "pictures/s": round(base, 1), "ratio": 1.0}]
    for name, found in tallies.items():
        speed = float(np.median([one.per_second() for one in found]))
        statuses = sum((one.statuses for one in found), Counter[str]())
        rows.append(
            {
                "what": f"{name}, {CLIENTS} clients",
                "pictures/s": round(speed, 1),
                "ratio": round(speed / base, 3),
                "p50_ms": round(float(np.median([one.percentile(50) for one in found])), 1),
                "p99_ms": round(float(np.median([one.percentile(99) for one in found])), 1),
                "answers": told(statuses),
            }
        )
    return rows


def told(statuses: Counter[str]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--crowd", type=int, default=1000)
    parser.add_argument("--peer", help="a Python with LitServe")
    given = parser.parse_args()
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # programs end with this one
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = given.model or exported(folder)
        pictures = drawn(folder / "pictures", 16)
        rows = measured(given, model.resolve(), pictures)
    write(
        "serve",
        "HTTP against the model in one process",
        f"python benchmarks/serve.py --seconds {given.seconds:g} --rounds {given.rounds}"
        + (f" --model {given.model.name}" if given.model else "")
        + (" --peer PYTHON" if given.peer else ""),
        rows,
        f"{model.name}, drawn JPEGs of 640 x 480; clients run on the same {usable_cpus()} CPUs. Ratios are of pictures "
        "per second against the pipeline; medians of the rounds. Memory is the most that all processes of a program "
        "took.",
    )


def measured(given: argparse.Namespace, model: Path, pictures: list[Path]) -> list[dict[str, Any]]:
    """All rows."""
    data = [path.read_bytes() for path in pictures]
    port, other = free_port(), free_port()
    ours = [post("/v1/detect", "image/jpeg", one) for one in data]
    theirs = [
        post("/predict", "application/json", json.dumps({"image": base64.b64encode(one).decode()}).encode())
        for one in data
    ]
    command = [sys.executable, "-m", "falconet", "serve", str(model), "--port", str(port)]
    with running("falconet serve", command, port, ours) as service:
        row = one_client(service, model, pictures, given.calls)
        rows: list[dict[str, Any]] = [
            {"what": "falconet serve, 1 client", **{name: round(value, 2) for name, value in row.items()}}
        ]
        if given.peer:
            script = str(Path(__file__).with_name("serve_peer.py"))
            peer_command = [given.peer, script, str(model), str(other), str(usable_cpus())]
            with running("LitServe", peer_command, other, theirs) as peer:
                rows += many_clients([service, peer], model, pictures, given.rounds, given.seconds)
                rows.append({"what": "LitServe, in all", "MB": round(most_memory(peer))})
        else:
            rows += many_clients([service], model, pictures, given.rounds, given.seconds)
        tally = asyncio.run(crowd(service, given.crowd, given.seconds))
        rows.append(
            {
                "what": f"falconet serve, {given.crowd} clients",
                "pictures/s": round(tally.per_second(), 1),
                "p50_ms": round(tally.percentile(50), 1),
                "p99_ms": round(tally.percentile(99), 1),
                "answers": told(tally.statuses),
                "MB": round(most_memory(service)),
            }
        )
    return rows


if __name__ == "__main__":
    main()
