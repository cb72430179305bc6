"""Exported `.onnx` files, and OpenVINO's own pairs of `.xml` and `.bin`, in OpenVINO on the CPU: in float32 as ONNX
Runtime runs them, or in bfloat16 where asked."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, local
from typing import Any

from falconet.core.errors import ConfigError, ModelError
from falconet.core.manifest import MANIFEST_KEY
from falconet.core.types import Pixels
from falconet.runtime.engines import NodeTimes, check_file, failed, incomplete, named, run_fixed_batch, time_calls
from falconet.runtime.openvino_import import openvino
from falconet.runtime.openvino_rewrite import shuffles_to_convolutions
from falconet.runtime.signature import TensorInfo, read_signature
from falconet.runtime.tasks import Outputs

SUFFIX = ".xml"
"""Of the graph of OpenVINO's own pair."""

MANIFEST = ("framework", MANIFEST_KEY)

WEIGHTS_SUM = ("framework", "falconet_weights_sha256")
"""Where the graph of a pair says which .bin belongs to it."""

_TYPES = {"u8": "tensor(uint8)", "f32": "tensor(float)"}


class OpenVinoEngine:
    """An exported file in OpenVINO.

    The network is compiled for each number of images that is run together, which takes about a second the first time;
    a network of fixed sizes is faster than one for any number.

    Args:
        path: written by `falconet export --to onnx`, or the .xml of `--to openvino`, whose .bin lies beside it.
        threads: for one image or batch; None takes `default_threads()`, or one where there are several streams.
        streams: runs that may go on at once.
        precision: float32 or bfloat16; "auto" is float32.

    Attributes:
        path, streams: as given.
        manifest: read from the file.
        batch: images per run where the file fixes it, None where any number goes.

    Raises:
        ModelError: no such file, not an ONNX file (or half of one), one without a Falconet manifest, or one whose
            inputs and outputs are not those of its task; a .bin that is missing or belongs to another graph.
        ConfigError: bfloat16 on a processor that does not compute in it.
    """

    name = "openvino"
    version = str(openvino.__version__).partition("-")[0]

    def __init__(
        self, path: str | Path, *, threads: int | None = None, streams: int = 1, precision: str = "auto"
    ) -> None:
        self.path, self.streams = Path(path), streams
        threads = check_file(self.path, threads, streams)
        self._core = openvino.Core()
        if precision == "bfloat16" and precision not in precisions():
            raise ConfigError("precision bfloat16: this processor does not compute in it; expected float32")
        self._network = _read(self._core, self.path)
        inputs, outputs = ([_describe(one) for one in ports] for ports in (self._network.inputs, self._network.outputs))
        signature = read_signature(self.path, _said(self._network, MANIFEST), inputs, outputs)
        self.manifest, _, self._outputs, self.batch = signature
        self._hints, self._precision = _hints(threads, streams, precision), precision
        self._compiled: dict[int, Any] = {}
        self._compiling = Lock()
        self._own = local()
        self._request(self.batch or 1)

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `Engine`."""
        return run_fixed_batch(self._run, pixels, self.batch)

    def _run(self, pixels: Pixels) -> Outputs:
        try:
            found = self._request(len(pixels)).infer([pixels])
        except RuntimeError as error:
            raise failed(self.path, len(pixels), error) from error
        return named(self._outputs, [found[name] for name in self._outputs])

    def _request(self, count: int) -> Any:
        """What runs so many images; each thread has one of its own, of the same compiled network."""
        requests: dict[int, Any] = self._own.__dict__.setdefault("requests", {})
        if count not in requests:
            with self._compiling:
                if count not in self._compiled:
                    network = self._network.clone()
                    sides = [int(side.get_length()) for side in list(network.inputs[0].partial_shape)[1:]]
                    network.reshape([count, *sides])
                    if self._precision == "bfloat16":
                        shuffles_to_convolutions(network)
                    self._compiled[count] = self._core.compile_model(network, "CPU", self._hints)
            requests[count] = self._compiled[count].create_infer_request()
        return requests[count]


def precisions() -> tuple[str, ...]:
    """Those that OpenVINO computes in on this processor."""
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("float32", "bfloat16") if "BF16" in able else ("float32",)


def time_nodes(path: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes:
    """Whole runs and nodes of an exported file on pixels uint8 [1, H, W, 3], compiled as the engine does."""
    core = openvino.Core()
    network = _read(core, path)
    network.reshape(list(pixels.shape))
    plain = core.compile_model(network, "CPU", _hints(threads)).create_infer_request()
    totals = time_calls(lambda: plain.infer([pixels]), warm_up=warm_up, calls=calls)
    watched = core.compile_model(network, "CPU", _hints(threads) | {"PERF_COUNT": True}).create_infer_request()
    nodes: dict[str, float] = defaultdict(float)
    for run in range(warm_up + calls):
        watched.infer([pixels])
        if run < warm_up:
            continue
        for node in watched.get_profiling_info():
            if seconds := node.real_time.total_seconds():
                nodes[node.node_name] += seconds / calls
    return NodeTimes(totals, dict(nodes))


def _hints(threads: int, streams: int = 1, precision: str = "auto") -> dict[str, Any]:
    # By itself OpenVINO computes in bfloat16 where the processor can, which changes scores in the third digit.
    return {
        "INFERENCE_NUM_THREADS": threads * streams,
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }


def _read(core: Any, path: Path) -> Any:
    weights = path.with_suffix(".bin")
    if path.suffix == SUFFIX and not weights.is_file():
        raise ModelError(f"{path}: {weights.name} is not beside it; copy both files of the model")
    try:
        network = core.read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise incomplete(path, reason) from error
    wanted = _said(network, WEIGHTS_SUM)
    if wanted is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != wanted:
        raise ModelError(f"{weights}: is not the file that {path.name} was written with; copy both files again")
    return network


def _said(network: Any, key: Sequence[str]) -> str | None:
    """What a file says about itself; OpenVINO keeps the metadata of an ONNX file under "framework"."""
    path = list(key)
    return str(network.get_rt_info(path).astype(str)) if network.has_rt_info(path) else None


def _describe(port: Any) -> TensorInfo:
    shape = [side.get_length() if side.is_static else None for side in port.partial_shape]
    kind = port.element_type.get_type_name()
    return TensorInfo(port.any_name if port.names else "", _TYPES.get(kind, kind), shape)


def open_any(path: Path, inputs: list[Any], *, threads: int, precision: str) -> Callable[[], object]:
    """A call of anybody's ONNX file on these inputs, compiled for their shapes as an exported file is for its own."""
    core = openvino.Core()
    network = _read(core, path)
    network.reshape({port.any_name: list(value.shape) for port, value in zip(network.inputs, inputs, strict=True)})
    request = core.compile_model(network, "CPU", _hints(threads, 1, precision)).create_infer_request()
    return lambda: request.infer(inputs)


def open_outputs(path: Path, names: Sequence[str]) -> Callable[[Pixels], list[Any]]:
    """A call of a file that gives the outputs of these names, whether its task has them or not."""
    core = openvino.Core()
    request = core.compile_model(_read(core, path), "CPU", _hints(1)).create_infer_request()

    def run(pixels: Pixels) -> list[Any]:
        found = request.infer([pixels])
        return [found[name] for name in names]

    return run
