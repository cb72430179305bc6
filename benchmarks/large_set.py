"""A COCO JSON of very many pictures without pixels: converted into a table, opened, read by loader workers.

    python benchmarks/large_set.py [--pictures 1000000] [--boxes 10000000] [--folder FOLDER]

Every step is a process of its own, so that its memory is its own. Printed are seconds, which depend on what else the
machine does, and megabytes, which do not: "resident" counts pages of the mapped table as often as processes hold them,
"share" (PSS) divides each page among those that hold it, "private" is what no other process holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKERS = 2
SEED = 0
PIECE = 50_000
CLASSES = 80

OPEN = """
from falconet.data.formats import open_dataset
dataset = open_dataset({path!r}, {images!r})
"""

LOAD = """
import multiprocessing, pickle
import numpy as np
from falconet.data.formats import open_dataset

def work(records, number, done):
    before = usage()
    order = np.random.default_rng(number).permutation(len(records))[:{reads}]
    boxes = 0
    for place in order.tolist():
        boxes += len(records[place].boxes)
    done.put((number, boxes, before, usage()))
    wait.wait()

if __name__ == "__main__":
    records = open_dataset({path!r}, {images!r}).records
    print("a pickled data set has", len(pickle.dumps(records)), "bytes")
    context = multiprocessing.get_context("fork")
    done, wait = context.Queue(), context.Event()
    workers = [context.Process(target=work, args=(records, number, done)) for number in range({workers})]
    for worker in workers:
        worker.start()
    for _ in workers:
        number, boxes, before, after = done.get()
        print(f"worker {{number}}: read {reads} records with {{boxes}} boxes; at its start {{before}}, then {{after}}")
    print("the process that opened it:", usage())
    wait.set()
    for worker in workers:
        worker.join()
"""

HEAD = """
import resource, sys, time
started = time.perf_counter()

def usage():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    parts = {"resident": kilobytes["Rss"], "share": kilobytes["Pss"], "private": private}
    return ", ".join(f"{name} {size / 1024:.0f} MB" for name, size in parts.items())
"""

FOOT = """
print(f"{time.perf_counter() - started:.1f} s, imports included; {usage()}; "
      f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
"""


def write_json(path: Path, pictures: int, boxes: int) -> None:
    """Annotations in random order before the pictures they refer to: the worst order for a reader."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    labels = (rng.integers(CLASSES, size=PIECE) + 1).tolist()
    sides = (rng.integers(4, 400, size=(PIECE, 4)) / 2).tolist()
    # Ids alone differ from piece to piece: one text is filled in, which is many times faster than making each entry.
    drawn = [
        f'{{"id":%d,"image_id":%d,"category_id":{label},"bbox":{box},"area":{box[2] * box[3]},"iscrowd":0}}'
        for label, box in zip(labels, sides, strict=True)
    ]
    with path.open("w", encoding="utf-8") as stream:
        stream.write('{"info": {"description": "drawn"}, "annotations": [')
        for start in range(0, boxes, PIECE):
            count = min(PIECE, boxes - start)
            ids = np.stack([np.arange(count) + start + 1, rng.integers(pictures, size=count) + 1], 1)
            stream.write(("," if start else "") + ",".join(drawn[:count]) % tuple(ids.reshape(-1).tolist()))
        stream.write('], "images": [')
        for start in range(0, pictures, PIECE):
            entries = [
                f'{{"id":{key},"file_name":"{key // 1000:05}/{key:09}.jpg","width":640,"height":480}}'
                for key in range(start + 1, min(start + PIECE, pictures) + 1)
            ]
            stream.write(("," if start else "") + ",".join(entries))
        names = [{"id": key, "name": f"class {key}"} for key in range(1, CLASSES + 1)]
        stream.write(f'], "categories": {json.dumps(names)}}}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=10_000_000)
    parser.add_argument("--reads", type=int, default=100_000, help="records that each worker reads")
    parser.add_argument("--folder", type=Path, help="for all files; removed afterwards unless given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-set-") as drawn:
        folder = given.folder or Path(drawn)
        path, images = folder / "train.json", folder / "pictures"
        images.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            started = time.perf_counter()
            write_json(path, given.pictures, given.boxes)
            print(f"written in {time.perf_counter() - started:.0f} s: {path.stat().st_size / 2**20:.0f} MB", flush=True)
        names = {"path": str(path), "images": str(images), "reads": given.reads, "workers": WORKERS}
        environment = os.environ | {"FALCONET_TABLES": str(folder / "tables")}
        tell = "import logging; logging.basicConfig(level=logging.INFO, format='  %(message)s')\n"
        for title, program in (
            ("convert and open", tell + OPEN.format(**names) + FOOT),
            ("open", OPEN.format(**names) + FOOT),
            ("load", LOAD.format(**names)),
        ):
            print(f"{title}:", flush=True)
            step = folder / f"{title.partition(' ')[0]}_step.py"
            step.write_text(HEAD + program, encoding="utf-8")
            subprocess.run([sys.executable, str(step)], check=True, env=environment)


if __name__ == "__main__":
    main()
