"""What a large run of `falconet batch` meets, simulated on one machine: slow storage, long lists, many blocks.

    python benchmarks/batch_simulated.py [--model m.onnx] [--pictures 150] [--rounds 2] [--names 1000000 ...] [--ray]

* Storage: the same pictures from files, and from an S3 server (moto) at the loopback address, behind a line that holds
  each request back by 0, 20 and 100 ms; as objects, as a tar, and as objects with one request at a time. The server
  computes on the same CPUs: what counts is how the rates at 20 and 100 ms compare with that at 0.
* Planning: lists of so many names, without pictures; seconds, memory, and how evenly 64 parts share the blocks.
* Scheduling, with --ray: what a block costs on a Ray cluster of this machine beside its pictures: the slope of seconds
  over blocks of one tiny picture, against the same without Ray.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from batch import files
from common import write
from detect import exported

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the server and the line that tests use, too
from tests.bulk.line import Line, environment, start_server
from tests.runtime import tiny_model

DELAYS = (0, 20, 100)
"""Milliseconds."""

NODES = 64

RUN = """
import runpy, sys
import falconet.bulk.run as run
if sys.argv[1] == "one": run.AT_ONCE, run.EACH = 1, 0
sys.argv = ["falconet", *sys.argv[2:]]
runpy.run_module("falconet", run_name="__main__")
"""

PLAN = """
import json, resource, sys, time
from falconet.bulk.blocks import Part
from falconet.bulk.listing import Sources
from falconet.bulk.plan import Plan
nodes, start, plan = int(sys.argv[2]), time.perf_counter(), Plan()
shares, blocks, names = [0] * nodes, 0, 0
parts = [Part(number, nodes) for number in range(1, nodes + 1)]
for block in Sources([sys.argv[1]]).blocks():
    plan.put(block)
    blocks, names = blocks + 1, names + block.count
    shares[next(one.number for one in parts if one.has(block)) - 1] += block.count
listed = time.perf_counter() - start
start = time.perf_counter()
assert sum(block.count for block in plan.blocks()) == names
print(json.dumps({"list": listed, "again": time.perf_counter() - start, "blocks": blocks, "size": plan._file.tell(),
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "most": max(shares) * nodes / names}))
"""


def rate(model: Path, source: str, *words: str, how: str = "many", env: dict[str, str] | None = None) -> float:
    """Pictures per second of a run."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", RUN, how, "batch", source, "--model", str(model), "--out", f"{out}/out"]
        done = subprocess.run(
            [*command, "--threads", "1", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
    found = re.search(r"([\d.]+) a second", done.stdout)
    if done.returncode or found is None or "could not be read" in done.stdout:
        raise SystemExit(done.stdout + done.stderr)
    return float(found[1])


def storage(model: Path, folder: Path, rounds: int) -> list[dict[str, object]]:
    """Rates from files and from slow storage."""
    from pyarrow import fs

    server, port = start_server()
    line = Line(port)
    env = environment(line.port)
    try:
        system = fs.S3FileSystem(
            allow_bucket_creation=True,
            scheme="http",
            endpoint_override=f"127.0.0.1:{port}",
            access_key=env["AWS_ACCESS_KEY_ID"],
            secret_key=env["AWS_SECRET_ACCESS_KEY"],
            region=env["AWS_DEFAULT_REGION"],
        )
        system.create_dir("archive")
        system.create_dir("shards")
        with tarfile.open(folder.parent / "all.tar", "w") as shard:
            for path in sorted(folder.rglob("*.jpg")):
                shard.add(path, arcname=path.name)
                with system.open_output_stream(f"archive/{path.name}") as stream:
                    stream.write(path.read_bytes())
        with system.open_output_stream("shards/all.tar") as stream:
            stream.write((folder.parent / "all.tar").read_bytes())
        cases: list[tuple[str, int, str, str]] = [("files", 0, str(folder), "many")]
        cases += [("objects", delay, "s3://archive", "many") for delay in DELAYS]
        cases += [("objects, one request at a time", DELAYS[-1], "s3://archive", "one")]
        cases += [("a tar", delay, "s3://shards/all.tar", "many") for delay in DELAYS]
        rates: dict[tuple[str, int], list[float]] = {}
        requests = {}
        for turn in range(rounds):
            for name, delay, source, how in cases:
                if how == "one" and turn:  # it takes as long as all others together
                    continue
                line.delay, line.requests = delay / 1000, 0
                rates.setdefault((name, delay), []).append(rate(model, source, how=how, env=env))
                requests[name, delay] = line.requests
                print(f"{name}, {delay} ms: {rates[name, delay][-1]:.1f} a second", flush=True)
    finally:
        line.close()
        server.kill()
        server.communicate()
    median = {key: float(np.median(values)) for key, values in rates.items()}
    return [
        {
            "what": name,
            "ms of latency": delay,
            "of files": round(median[name, delay] / median["files", 0], 2),
            "of 0 ms": round(median[name, delay] / median[name.partition(",")[0], 0], 2),
            "requests": requests[name, delay],
        }
        for name, delay in median
    ]


def planning(folder: Path, count: int) -> dict[str, object]:
    """A list of so many names, planned."""
    path = folder / "list.txt"
    with path.open("w", encoding="utf-8") as stream:
        for index in range(count):
            stream.write(f"/archive/{index // 1000:06}/{index:010}.jpg\n")
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(path), str(NODES)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout)
    path.unlink()
    return {
        "what": f"plan of {count:,} names",
        "s": round(told["list"], 1),
        "s to read it again": round(told["again"], 1),
        "names/s": round(count / told["list"]),
        "blocks": told["blocks"],
        "MB on disk": round(told["size"] / 2**20, 1),
        "MB at most": round(told["peak"] / 1024),
        f"longest of {NODES} parts": f"{told['most']:.2f} of the mean",
    }


def scheduling(folder: Path, *words: str) -> float:
    """Milliseconds that a block costs in addition: from a short run and a long one."""
    tiny_model.write(folder / "tiny.onnx")
    seconds = []
    for count in (200, 1000):
        below = folder / f"blocks-{count}"
        for index in range(count):
            tiny_model.save(below / f"{index:04}.png", tiny_model.picture((0, index % 4, "red")))
        start = time.perf_counter()
        rate(folder / "tiny.onnx", str(below), "--block", "1", *words)
        seconds.append(time.perf_counter() - start)
    return 1e3 * (seconds[1] - seconds[0]) / 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--names", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = given.model or exported(work)
        rows = storage(model, files(work / "pictures", given.pictures, distinct=50), given.rounds)
        rows += [planning(work, count) for count in given.names]
        rows.append({"what": "a block of one tiny picture, without Ray", "ms": round(scheduling(work), 1)})
        if given.ray:
            milliseconds = scheduling(work, "--cluster", "local")
            rows.append({"what": "a block of one tiny picture, --cluster local", "ms": round(milliseconds, 1)})
    write(
        "batch_simulated",
        "Batch: slow storage, long lists, many blocks",
        "python benchmarks/batch_simulated.py"
        + (f" --model {given.model.name}" if given.model else "")
        + f" --pictures {given.pictures} --rounds {given.rounds} --names {' '.join(map(str, given.names))}"
        + (" --ray" if given.ray else ""),
        rows,
        f"{model.name}; medians of the rounds. Latency is added to each request by a line in front of moto's S3, which "
        "computes on the same CPUs. 'of files': pictures per second against the same from files; 'of 0 ms': against "
        "the same without added latency.",
    )


if __name__ == "__main__":
    main()
