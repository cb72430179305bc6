"""Backbones against the implementations of torchvision and timm, and exported against eager.

Eager: the forward pass of each classifier in inference, ours in turn with the peer's, both channels-last, at batch 1.
It needs torchvision or timm in the same environment; where these are installed elsewhere, beside what our networks
import (numpy, opencv, onnxruntime, pydantic, ruamel.yaml, safetensors, torch, jaxtyping), name its interpreter:

    python benchmarks/backbones.py [--python other/bin/python] [--only mobilenet-v2-1.0,...] [--threads 1]

Exported: ONNX Runtime in turn with our eager forward, in this environment.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import in_turns, milliseconds, write

PEERS = {
    "shufflenet-v2-0.5": ("torchvision", "shufflenet_v2_x0_5"),
    "shufflenet-v2-1.0": ("torchvision", "shufflenet_v2_x1_0"),
    "shufflenet-v2-1.5": ("torchvision", "shufflenet_v2_x1_5"),
    "ghostnet-1.0": ("timm", "ghostnet_100"),
    "mobilenet-v2-1.0": ("torchvision", "mobilenet_v2"),
    "mobilenet-v3-large": ("torchvision", "mobilenet_v3_large"),
    "mobilenet-v3-small": ("torchvision", "mobilenet_v3_small"),
    "mobilenet-v4-conv-s": ("timm", "mobilenetv4_conv_small"),
    "mnasnet-1.0": ("torchvision", "mnasnet1_0"),
    "efficientnet-b0": ("torchvision", "efficientnet_b0"),
    "efficientnet-lite0": ("timm", "efficientnet_lite0"),
    "lcnet-1.0": ("timm", "lcnet_100"),
    "cspresnet-50": ("timm", "cspresnet50"),
    "darknet53": ("timm", "darknet53"),
}
"""Ours, and the package and name of the peer's."""


def peer(name: str) -> Callable[[Any], Any] | None:
    """The peer's network in eval mode, channels-last; None where its package is not installed."""
    import torch

    package, model = PEERS[name]
    if importlib.util.find_spec(package) is None:
        return None
    if package == "timm":
        import timm

        network = timm.create_model(model, pretrained=False)
    else:
        import torchvision

        network = getattr(torchvision.models, model)(weights=None)
    return network.eval().to(memory_format=torch.channels_last)


def ours(name: str) -> Any:
    """Our network in eval mode, channels-last; as it trains, nothing folded."""
    import torch

    from falconet.models import CLASSIFIERS, build

    torch.manual_seed(0)
    return build(CLASSIFIERS[name], 1000).eval().to(memory_format=torch.channels_last)


def images(name: str) -> Any:
    import torch

    from falconet.models import CLASSIFIERS

    size = CLASSIFIERS[name].input
    return torch.rand(1, 3, size.height, size.width).contiguous(memory_format=torch.channels_last)


def eager_rows(names: list[str], *, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Our forward pass against the peer's; a row says so where the peer is not installed."""
    import torch

    torch.set_num_threads(threads)
    rows = []
    for name in names:
        other = peer(name)
        package, model = PEERS[name]
        if other is None:
            rows.append({"model": name, "peer": f"{package} {model}", "note": f"{package} is not installed"})
            continue
        network, pixels = ours(name), images(name)
        with torch.inference_mode():
            seconds = in_turns(
                {"ours": lambda run=network, x=pixels: run(x), "peer": lambda run=other, x=pixels: run(x)},
                rounds=rounds,
                warm_up=10,
            )
        mine, theirs = milliseconds(seconds["ours"]), milliseconds(seconds["peer"])
        ratio = round(theirs["p50_ms"] / mine["p50_ms"], 3)
        rows.append(
            {
                "model": name,
                "peer": f"{package} {importlib.import_module(package).__version__} {model}",
                "ours_p50_ms": mine["p50_ms"],
                "peer_p50_ms": theirs["p50_ms"],
                "peer_over_ours": ratio,
            }
        )
    return rows


def exported_rows(names: list[str], *, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Our exported file against our eager forward pass, with equal threads, from the same uint8 pixels' size."""
    import numpy as np
    import torch

    from falconet.exporting.onnx import export_onnx
    from falconet.models import CLASSIFIERS
    from falconet.models.weights import ModelCard, save_weights
    from falconet.runtime.onnx_engine import OnnxEngine

    torch.set_num_threads(threads)
    rows = []
    for name in names:
        network, pixels = ours(name), images(name)
        config = CLASSIFIERS[name]
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "w.safetensors"
            save_weights(weights, network, ModelCard(model=config, classes=tuple(f"class {i}" for i in range(1000))))
            engine = OnnxEngine(export_onnx(weights, Path(folder) / "m.onnx", batch=1), threads=threads)
        picture = np.random.default_rng(0).integers(
            0, 256, (1, config.input.height, config.input.width, 3), dtype=np.uint8
        )
        with torch.inference_mode():
            calls = {"eager": lambda run=network, x=pixels: run(x), "file": lambda run=engine, x=picture: run(x)}
            seconds = in_turns(calls, rounds=rounds, warm_up=10)
        eager, file = milliseconds(seconds["eager"]), milliseconds(seconds["file"])
        rows.append(
            {
                "model": name,
                "eager_p50_ms": eager["p50_ms"],
                "exported_p50_ms": file["p50_ms"],
                "eager_over_exported": round(eager["p50_ms"] / file["p50_ms"], 2),
            }
        )
    return rows


def eager_elsewhere(python: str, arguments: list[str]) -> list[dict[str, Any]]:
    """The eager rows from another interpreter, which sees this checkout's source."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [python, str(Path(__file__).resolve()), *arguments, "--rows-only"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of an environment with torchvision and timm")
    parser.add_argument("--only", default=",".join(PEERS), help="some of the classifiers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--rows-only", action="store_true", help="print the eager rows as one line of JSON")
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(",")]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"{unknown[0]} has no peer; expected some of {', '.join(PEERS)}")
    if options.rows_only:
        print(json.dumps(eager_rows(names, rounds=options.rounds, threads=options.threads)))
        return
    shared = ["--only", ",".join(names), "--threads", str(options.threads), "--rounds", str(options.rounds)]
    if options.python:
        eager = eager_elsewhere(options.python, shared)
    else:
        eager = eager_rows(names, rounds=options.rounds, threads=options.threads)
    exported = {row["model"]: row for row in exported_rows(names, rounds=options.rounds, threads=options.threads)}
    rows = [row | {key: value for key, value in exported[row["model"]].items() if key != "model"} for row in eager]
    write(
        "backbones",
        "Backbones: eager against torchvision and timm, exported against eager",
        " ".join(["python benchmarks/backbones.py", *(["--python PYTHON"] if options.python else []), *shared]),
        rows,
        f"Forward pass of the classifier of 1000 classes in inference, batch 1, float32, channels-last, "
        f"{options.threads} thread(s), in turns. Above 1: ours is faster than the peer's, the file than eager. "
        "The file also normalises its uint8 pixels.",
    )


if __name__ == "__main__":
    main()
