"""What a processor could do at best, measured here and now: products per second, bytes per second."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime

SIDE = 1024
"""Side of the square matrices that are multiplied: enough work to hide every start, and they stay in the caches."""

COPIED = 64 << 20
"""Bytes that are copied, far more than any cache holds."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The roof of a machine with a number of threads.

    Attributes:
        threads: that took part.
        macs: multiply-adds per second, of a float32 matrix product.
        bandwidth: bytes read and written per second, of a copy in memory.
    """

    threads: int
    macs: float
    bandwidth: float

    def milliseconds(self, *, macs: float, moved: float) -> float:
        """The least time for so many multiply-adds and bytes: whichever takes longer decides."""
        return max(macs / self.macs, moved / self.bandwidth) * 1e3


def measure_peak(threads: int, *, side: int = SIDE, copied: int = COPIED, repeats: int = 8) -> Peak:
    """The best of `repeats` matrix products and copies with `threads` threads."""
    session = _product(side, threads)
    values = {name: np.random.default_rng(0).random((side, side), np.float32) for name in ("a", "b")}
    seconds = _best(lambda: session.run(None, values), repeats)
    source, target = np.ones(copied, np.uint8), np.zeros(copied, np.uint8)
    parts = [slice(copied * part // threads, copied * (part + 1) // threads) for part in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        copying = _best(copy, repeats)
    return Peak(threads, side**3 / seconds, 2 * copied / copying)


def _product(side: int, threads: int) -> onnxruntime.InferenceSession:
    from onnx import TensorProto, helper  # not with the module: what detects does without it

    shape = [side, side]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b")],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _best(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
