"""Times of a model's nodes, as a runtime reports them, and of whole runs without that reporting."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from falconet.core.errors import ConfigError
from falconet.core.types import Pixels
from falconet.runtime.session import open_session

EngineName = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True, slots=True)
class NodeTimes:
    """What a model took.

    Attributes:
        totals: seconds of each whole run.
        nodes: name of each node and its mean seconds per run; measured in other runs, where reporting costs time.
    """

    totals: list[float]
    nodes: dict[str, float]


def time_nodes(
    model: Path, pixels: Pixels, *, engine: EngineName, threads: int, warm_up: int = 10, calls: int = 50
) -> NodeTimes:
    """Whole runs and nodes of an exported model on one picture.

    Args:
        model: .onnx file.
        pixels: uint8 [1, H, W, 3] of its input's size.
        engine: what runs it.
        threads: for the network.
        warm_up, calls: runs that do not count, and runs that do.

    Raises:
        ConfigError: the engine is not installed.
    """
    if engine == "openvino":
        return _openvino(model, pixels, threads=threads, warm_up=warm_up, calls=calls)
    # Opened as on the device: what is measured is what is shipped.
    plain = open_session(model, threads)
    name = plain.get_inputs()[0].name
    totals = _time(lambda: plain.run(None, {name: pixels}), warm_up=warm_up, calls=calls)
    with tempfile.TemporaryDirectory(prefix="falconet-profile-") as folder:
        session = open_session(model, threads, profile=Path(folder) / "run")
        for _ in range(warm_up + calls):
            session.run(None, {name: pixels})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return NodeTimes(totals, _node_means(events, skip=warm_up, runs=calls))


def require_engine(engine: EngineName) -> None:
    """Raise ConfigError with the install command where an engine is not installed."""
    if engine == "openvino" and find_spec("openvino") is None:
        raise ConfigError("--engine openvino: OpenVINO is not installed; install it by: pip install openvino")


def _node_means(events: list[dict[str, Any]], *, skip: int, runs: int) -> dict[str, float]:
    """Mean seconds per run of each node, without its first `skip` runs."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            times[name.removesuffix("_kernel_time")].append(float(event["dur"]) * 1e-6)
    return {name: sum(seconds[skip : skip + runs]) / runs for name, seconds in times.items()}


def _openvino(model: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes:
    require_engine("openvino")
    import openvino  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional

    core = openvino.Core()
    network = core.read_model(str(model))
    network.reshape(list(pixels.shape))
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    plain = core.compile_model(network, "CPU", hints).create_infer_request()
    totals = _time(lambda: plain.infer([pixels]), warm_up=warm_up, calls=calls)
    watched = core.compile_model(network, "CPU", {**hints, "PERF_COUNT": True}).create_infer_request()
    nodes: dict[str, float] = defaultdict(float)
    for run in range(warm_up + calls):
        watched.infer([pixels])
        if run < warm_up:
            continue
        for node in watched.get_profiling_info():
            seconds = node.real_time.total_seconds()
            if seconds:
                nodes[node.node_name] += seconds / calls
    return NodeTimes(totals, dict(nodes))


def _time(call: Callable[[], object], *, warm_up: int, calls: int) -> list[float]:
    for _ in range(warm_up):
        call()
    seconds = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter()
        call()
        seconds[index] = time.perf_counter() - start
    return [float(value) for value in seconds]
