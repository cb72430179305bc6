"""JPEG file to boxes against the bare session: what reading, resizing and selecting add to the network.

The peer of each row is the same model's `InferenceSession.run` on ready pixels, measured in turn with it.

    python benchmarks/detect.py [--model m.onnx --images FOLDER]

Without a model, an untrained nanodet-plus-m-320 is exported and drawn 640 x 480 JPEGs are used; with a trained
one and photographs the selection has real work to do.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import in_turns, milliseconds, untrained, write

from falconet.runtime.onnx_engine import OnnxEngine, open_session
from falconet.runtime.predictor import Predictor


def exported(folder: Path) -> Path:
    """An untrained NanoDet-Plus-m of 80 classes as ONNX."""
    from falconet.exporting.onnx import export_onnx

    return export_onnx(untrained("nanodet-plus-m-320", folder), folder / "model.onnx")


def drawn(folder: Path, count: int) -> list[Path]:
    """640 x 480 JPEGs of the size photographs of a phone's preview have."""
    from falconet.data.drawn import write_drawn_dataset

    write_drawn_dataset(folder, train=1, val=count, size=(480, 640))
    return sorted((folder / "val").glob("*.jpg"))


def rows(model: Path, pictures: list[Path], *, threads: int, rounds: int) -> list[dict[str, object]]:
    """One row per stage, with its share of the bare session."""
    engine = OnnxEngine(model, threads=threads)
    predictor = Predictor(engine)
    # Of the engine's own options: threads of a default session spin on after each run and would slow its neighbours.
    bare = open_session(model, threads)
    ready = [predictor.prepare(path) for path in pictures]
    outputs = [predictor.run([one]) for one in ready]
    turn = {name: itertools.cycle(range(len(pictures))) for name in ("bare", "whole", "read", "select")}

    def bare_run() -> object:
        return bare.run(None, {"pixels": ready[next(turn["bare"])].pixels[None]})

    def whole() -> object:
        return predictor.predict(pictures[next(turn["whole"])])

    def read() -> object:
        return predictor.prepare(pictures[next(turn["read"])])

    def choose() -> object:
        index = next(turn["select"])
        return predictor.task.answer(outputs[index], 0, ready[index].placement)

    calls = {"bare session.run": bare_run, "file to boxes": whole, "read and resize": read, "select": choose}
    seconds = in_turns(calls, rounds=rounds, warm_up=10)
    base = float(np.median(seconds["bare session.run"]))
    return [
        {"threads": threads, "stage": name, **milliseconds(values), "x bare": f"{np.median(values) / base:.2f}"}
        for name, values in seconds.items()
    ]


def main() -> None:
    """Measure with one thread and with all usable cores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--name", default="detect")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or exported(Path(folder))
        pictures = sorted(arguments.images.glob("*.jpg"))[:40] if arguments.images else drawn(Path(folder), 40)
        table = [row for threads in (1, 2) for row in rows(model, pictures, threads=threads, rounds=arguments.rounds)]
    write(
        arguments.name,
        "JPEG file to boxes against the bare session",
        "python benchmarks/detect.py",
        table,
        "One picture at a time, score above 0.25. `x bare` is the ratio of medians, measured in turn.",
    )


if __name__ == "__main__":
    main()
