"""A model file opened in ONNX Runtime, tuned for the latency of one picture after the other."""

import os
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from falconet.core.errors import ModelError

MOST_THREADS = 4
"""Light models gain little from more threads than this, and lose when other work wants the cores."""

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


def default_threads() -> int:
    """Threads for one model: the CPUs this process may use, at most `MOST_THREADS`."""
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS do not restrict a process to CPUs
        usable = os.cpu_count() or 1
    return max(1, min(usable, MOST_THREADS))


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
        raise ModelError(
            f"{path}: is not a complete ONNX model ({reason}); "
            "expected a file written by 'falconet export --to onnx': copy or export it again"
        ) from error
