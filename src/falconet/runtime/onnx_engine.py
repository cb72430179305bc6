"""Exported files in ONNX Runtime, on the CPU, tuned for the latency of one image after the other."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from falconet.core.manifest import MANIFEST_KEY
from falconet.core.types import Pixels
from falconet.runtime.engines import NodeTimes, check_file, failed, incomplete, named, run_fixed_batch, time_calls
from falconet.runtime.signature import TensorInfo, read_signature
from falconet.runtime.tasks import Outputs

# ONNX Runtime's exceptions share no base class but Exception.
_LOAD_ERRORS = (
    onnxruntime_errors.EPFail,
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NoModel,
    onnxruntime_errors.NoSuchFile,
    onnxruntime_errors.NotImplemented,
    onnxruntime_errors.RuntimeException,
)


class OnnxEngine:
    """An exported file in ONNX Runtime.

    Args:
        path: written by `falconet export --to onnx`.
        threads: for one image or batch; None takes `default_threads()`, or one where there are several streams.
        streams: runs that may go on at once.

    Attributes:
        path, streams: as given.
        manifest: read from the file.
        batch: images per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: no such file, not an ONNX file (or half of one), one without a Falconet manifest, or one whose
            inputs and outputs are not those of its task.
    """

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, path: str | Path, *, threads: int | None = None, streams: int = 1) -> None:
        self.path, self.streams = Path(path), streams
        threads = check_file(self.path, threads, streams)
        # Runs of one thread stay on the thread that calls; those of several would share the threads of their session.
        first, *others = [open_session(self.path, threads) for _ in range(1 if threads == 1 else streams)]
        self._free: SimpleQueue[onnxruntime.InferenceSession] = SimpleQueue()
        for session in [first, *others] if threads > 1 else [first] * streams:
            self._free.put(session)
        text = first.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
        inputs, outputs = (
            [TensorInfo(one.name, one.type, one.shape) for one in entries]
            for entries in (first.get_inputs(), first.get_outputs())
        )
        self.manifest, self._input, self._outputs, self.batch = read_signature(self.path, text, inputs, outputs)

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `Engine`. Raises ModelError where the graph does not run."""
        return run_fixed_batch(self._run, pixels, self.batch)

    def _run(self, pixels: Pixels) -> Outputs:
        session = self._free.get()
        try:
            return named(self._outputs, session.run(self._outputs, {self._input: pixels}))
        except _LOAD_ERRORS as error:
            raise failed(self.path, len(pixels), error) from error
        finally:
            self._free.put(session)


def open_session(path: Path, threads: int, *, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """The file in ONNX Runtime, on the CPU, with `threads` threads.

    Args:
        profile: beginning of the name of a file that the times of all nodes are written to; None writes none.

    Raises:
        ModelError: not an ONNX file, or half of one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Planning which tensors share memory takes longer than all else in opening a session, and gains nothing
    # here: with a memory pattern, peak memory and speed are the same.
    options.enable_mem_reuse = False
    # Workers spin between two layers, which keeps latency low, and rest as soon as a run is over, which
    # leaves the cores to decoding and to other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        reason = str(error).rpartition("failed:")[2].strip() or str(error)
        raise incomplete(path, reason) from error


def time_nodes(path: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes:
    """Whole runs and nodes of an exported file on pixels uint8 [1, H, W, 3], opened as on the device."""
    plain = open_session(path, threads)
    name = plain.get_inputs()[0].name
    totals = time_calls(lambda: plain.run(None, {name: pixels}), warm_up=warm_up, calls=calls)
    with tempfile.TemporaryDirectory(prefix="falconet-profile-") as folder:
        session = open_session(path, threads, profile=Path(folder) / "run")
        for _ in range(warm_up + calls):
            session.run(None, {name: pixels})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return NodeTimes(totals, _node_means(events, skip=warm_up, runs=calls))


def _node_means(events: list[dict[str, Any]], *, skip: int, runs: int) -> dict[str, float]:
    """Mean seconds per run of each node, without its first `skip` runs."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            times[name.removesuffix("_kernel_time")].append(float(event["dur"]) * 1e-6)
    return {name: sum(seconds[skip : skip + runs]) / runs for name, seconds in times.items()}
