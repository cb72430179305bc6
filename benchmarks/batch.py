"""JPEG files to Parquet by `falconet batch`, against bare runs of the network by as many processes as there are CPUs.

    python benchmarks/batch.py [--model m.onnx] [--pictures 1000] [--rounds 3] [--many 100000] [--ray]

In each round, one after the other, so that a drift of the machine's speed meets all alike:

* bare: a process for each CPU, each with one thread, which runs the network on pixels that are resized already;
* `falconet batch` with all CPUs, and with one alone (where the system can tie a process to a CPU): pictures per second
  between the first and the last, without opening the model;
* with --ray the same with `--cluster local`, and the seconds until its first picture.

--many gives the most memory that a run over so many pictures takes, against one over 1,000; the pictures are links to
the same few files. Without a model an untrained nanodet-plus-m-320 is exported.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from common import write
from detect import exported

from falconet.core.cpus import usable_cpus

BEFORE = "ray, seconds before"

BARE = """
import sys, time
from pathlib import Path
import numpy as np
from falconet.api.engines import open_engine
from falconet.runtime.engines import Use
engine = open_engine(Path(sys.argv[1]), use=Use(threads=1))
rule, count = engine.manifest.preprocess, int(sys.argv[2])
pixels = np.random.default_rng(0).integers(0, 255, (1, rule.height, rule.width, 3), np.uint8)
for _ in range(10): engine(pixels)
print("ready", flush=True)
input()
start = time.perf_counter()
for _ in range(count): engine(pixels)
print(time.perf_counter() - start, flush=True)
"""

PEAK = """
import resource, runpy, sys
sys.argv = ["falconet", *sys.argv[1:]]
try:
    runpy.run_module("falconet", run_name="__main__")
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def files(folder: Path, count: int, *, distinct: int = 200) -> Path:
    """A folder with `count` JPEGs of 640 x 480: noise that is blurred, about 60 kB; after `distinct` they are links."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index // 1000:04}" / f"{index:07}.jpg"
        path.parent.mkdir(exist_ok=True)
        if index < distinct:
            small = generator.integers(0, 255, (60, 80, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC))
        else:
            os.link(folder / "0000" / f"{index % distinct:07}.jpg", path)
    return folder


def bare(model: Path, pictures: int) -> float:
    """Pictures per second of one process per CPU that do nothing but run the network."""
    cpus = usable_cpus()
    command = [sys.executable, "-c", BARE, str(model), str(pictures // cpus)]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(cpus)
    ]
    for one in programs:
        assert one.stdout is not None
        one.stdout.readline()
    for one in programs:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    seconds = [float(one.communicate()[0]) for one in programs]
    return pictures // cpus * cpus / max(seconds)


def batch(model: Path, folder: Path, *more: str, cpus: set[int] | None = None) -> dict[str, float]:
    """Pictures per second, seconds in all and peak memory of a run."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-c",
            PEAK,
            "batch",
            str(folder),
            "--model",
            str(model),
            "--out",
            out + "/out",
            *more,
        ]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=None if cpus is None else lambda: os.sched_setaffinity(0, cpus),
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    rate = re.search(r"([\d.]+) a second", done.stdout)
    peak = re.search(r"peak (\d+)", done.stderr)
    assert rate is not None
    assert peak is not None
    return {"rate": float(rate[1]), "seconds": seconds, "MB": int(peak[1]) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int)
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model = given.model or exported(work)
        folder = files(work / "pictures", given.pictures)
        rounds = []
        block = ("--block", str(max(1, given.pictures // 20)))  # so that a cluster has something to share out
        for _ in range(given.rounds):
            found = {"bare": bare(model, given.pictures), "batch": batch(model, folder, *block)["rate"]}
            if hasattr(os, "sched_setaffinity"):
                found["one CPU"] = batch(model, folder, *block, cpus={min(os.sched_getaffinity(0))})["rate"]
            if given.ray:
                with_ray = batch(model, folder, *block, "--cluster", "local")
                found["ray"] = with_ray["rate"]
                found[BEFORE] = with_ray["seconds"] - given.pictures / with_ray["rate"]
            rounds.append(found)
            print(", ".join(f"{key} {value:.1f}" for key, value in found.items()), flush=True)
        median = {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}
        rows = [{"what": key, "pictures/s": round(value, 1)} for key, value in median.items() if "seconds" not in key]
        rows.append({"what": "batch / bare", "ratio": round(median["batch"] / median["bare"], 3)})
        if "one CPU" in median:
            rows.append({"what": "all CPUs / one CPU", "ratio": round(median["batch"] / median["one CPU"], 3)})
        if given.ray:
            rows.append({"what": "ray / batch", "ratio": round(median["ray"] / median["batch"], 3)})
            rows.append({"what": "ray, before its first picture and after its last", "s": round(median[BEFORE], 1)})
        if given.many:
            for count in (1000, given.many):
                held = batch(model, files(work / f"many-{count}", count))["MB"]
                rows.append({"what": f"most memory, {count:,} pictures", "MB": round(held)})
        write(
            "batch",
            "JPEG files to Parquet",
            "python benchmarks/batch.py"
            + (f" --model {given.model.name}" if given.model else "")
            + f" --pictures {given.pictures} --rounds {given.rounds}"
            + (f" --many {given.many}" if given.many else "")
            + (" --ray" if given.ray else ""),
            rows,
            f"{model.name}, JPEGs of 640 x 480, {usable_cpus()} CPUs; medians of the rounds. Bare: the network alone, "
            "in a process for each CPU.",
        )


if __name__ == "__main__":
    main()
