"""Engines: what runs a model file. Pixels go in, the task's outputs come out, the same for every architecture."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from falconet.core.cpus import usable_cpus
from falconet.core.errors import ConfigError, ModelError
from falconet.core.exported_files import model_files
from falconet.core.manifest import Manifest
from falconet.core.types import Floats, Pixels
from falconet.runtime.tasks import Outputs

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs one model.

    Attributes:
        name, version: of the program that runs it.
        manifest: what the model file says about itself.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...

    def __call__(self, pixels: Pixels) -> Outputs:
        """The outputs of a batch, by name; see `falconet.runtime.tasks` for those of each task.

        Args:
            pixels: uint8 [B, H, W, 3], channels blue, green, red, of the manifest's input size; any B from 1.
        """
        ...


class NodeTimes(NamedTuple):
    """What a model took."""

    totals: list[float]
    """Seconds of each whole run."""
    nodes: dict[str, float]
    """Name of each node and its mean seconds per run; measured in other runs, where reporting costs time."""


class TimeNodes(Protocol):
    """Times whole runs and nodes of a model file on pixels uint8 [1, H, W, 3] of its input's size."""

    def __call__(self, path: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes: ...


@dataclass(frozen=True, slots=True)
class Use:
    """How a model is to be run.

    Attributes:
        threads: of each run; None takes `default_threads()`, one where several runs go on at once.
        streams: runs that may go on at once.
        precision: float32 or bfloat16; "auto" is float32.
    """

    threads: int | None = None
    streams: int = 1
    precision: str = "auto"


DEFAULT_USE = Use()
"""One run at a time, in float32, with `default_threads()`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRow:
    """One engine.

    Attributes:
        suffixes: endings of the files it runs. Of several engines for an ending, the first in the table is the default.
        open: (path, how it is used) -> engine.
        module: must be installed.
        install: how.
        time_nodes: measures node by node; None where the engine cannot.
        precisions: in which it computes files of float32; the first is what it takes by itself.
        computes: those of them that this processor has, too.
        streams: whether several of its runs may go on at once.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Path, Use], Engine]
    module: str
    install: str
    time_nodes: TimeNodes | None = None
    precisions: tuple[str, ...] = ("float32",)
    computes: Callable[[], tuple[str, ...]] = lambda: ("float32",)
    streams: bool = False


def _open_onnxruntime(path: Path, use: Use) -> Engine:
    from falconet.runtime.onnx_engine import OnnxEngine

    return OnnxEngine(path, threads=use.threads, streams=use.streams)


def _time_onnxruntime(path: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes:
    from falconet.runtime.onnx_engine import time_nodes

    return time_nodes(path, pixels, threads=threads, warm_up=warm_up, calls=calls)


def _open_openvino(path: Path, use: Use) -> Engine:
    from falconet.runtime.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(path, threads=use.threads, streams=use.streams, precision=use.precision)


def _time_openvino(path: Path, pixels: Pixels, *, threads: int, warm_up: int, calls: int) -> NodeTimes:
    from falconet.runtime.openvino_engine import time_nodes

    return time_nodes(path, pixels, threads=threads, warm_up=warm_up, calls=calls)


def _open_ncnn(path: Path, use: Use) -> Engine:
    from falconet.runtime.ncnn_engine import NcnnEngine

    return NcnnEngine(path, threads=use.threads, streams=use.streams)


def _open_litert(path: Path, use: Use) -> Engine:
    from falconet.runtime.litert_engine import LiteRtEngine

    return LiteRtEngine(path, threads=use.threads, streams=use.streams)


def _openvino_precisions() -> tuple[str, ...]:
    from falconet.runtime.openvino_engine import precisions

    return precisions()


ENGINES: Mapping[str, EngineRow] = {
    "onnxruntime": EngineRow(
        suffixes=(".onnx",),
        open=_open_onnxruntime,
        module="onnxruntime",
        install="pip install onnxruntime",
        time_nodes=_time_onnxruntime,
        streams=True,
    ),
    "openvino": EngineRow(
        suffixes=(".onnx", ".xml"),
        open=_open_openvino,
        module="openvino",
        install="pip install 'falconet[openvino]'",
        time_nodes=_time_openvino,
        precisions=("float32", "bfloat16"),
        computes=_openvino_precisions,
        streams=True,
    ),
    "ncnn": EngineRow(
        suffixes=(".param",),
        open=_open_ncnn,
        module="ncnn",
        install="pip install 'falconet[ncnn]'",
        streams=True,
    ),
    "litert": EngineRow(
        suffixes=(".tflite",),
        open=_open_litert,
        module="ai_edge_litert",
        install="pip install 'falconet[litert]'",
        streams=True,
    ),
}
"""The engines that need no torch, by name. `falconet.api.engines` adds torch, which runs weights files."""

MOST_THREADS = 4
"""Light models gain little from more threads than this, and lose when other work wants the cores."""

DEFAULT = "onnxruntime"
"""It also gets the files whose ending no engine names, and says what is wrong with them."""


def choose_engine(path: Path, engine: str, *, engines: Mapping[str, EngineRow] = ENGINES) -> str:
    """The name of the engine for a file; `auto` takes the first that runs files of its ending.

    Raises:
        ConfigError: an unknown engine, or one that is not installed.
        ModelError: an engine that does not run such a file.
    """
    able = [name for name, row in engines.items() if path.suffix in row.suffixes]
    name = (able or [DEFAULT])[0] if engine == "auto" else engine
    if name not in engines:
        raise ConfigError(f"engine '{name}' is not known; expected auto or one of {', '.join(engines)}")
    if able and name not in able:
        raise ModelError(f"{path}: engine {name} does not run it; expected {' or '.join(able)}, or leave engine out")
    if path.suffix == ".param" and path.is_file():
        check_described(path)
    require_engine(name, engines=engines)
    return name


def check_described(path: Path) -> None:
    """Raise ModelError for a pair of ncnn's that another program wrote; whoever has one needs no engine for it."""
    about = model_files(path)[-1]
    if not about.is_file():
        raise ModelError(
            f"{path}: {about.name} is not beside it; expected the three files that 'falconet export --to ncnn' writes. "
            "A pair of other programs is brought over by 'falconet import'"
        )


def require_engine(name: str, *, engines: Mapping[str, EngineRow] = ENGINES) -> None:
    """Raise ConfigError with the install command where an engine is not installed."""
    row = engines[name]
    if find_spec(row.module) is None:
        raise ConfigError(f"engine {name}: {row.module} is not installed; install it with: {row.install}")


def default_threads() -> int:
    """Threads for one model: the CPUs this process may use, at most `MOST_THREADS`."""
    return max(1, min(usable_cpus(), MOST_THREADS))


def time_calls(call: Callable[[], object], *, warm_up: int, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, after `warm_up` that do not count."""
    for _ in range(warm_up):
        call()
    seconds = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter()
        call()
        seconds[index] = time.perf_counter() - start
    return [float(value) for value in seconds]


FOREIGN = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".tar"), "torch"),
    **dict.fromkeys((".pdparams", ".pdmodel"), "Paddle"),
    **dict.fromkeys((".weights", ".cfg"), "darknet"),
    **dict.fromkeys((".param", ".bin"), "ncnn"),
    ".engine": "TensorRT",
}
"""Programs that write files of these endings."""


def check_numbers(threads: int | None, streams: int) -> None:
    """Raise ConfigError for what is no number to run with."""
    for name, count in (("threads", threads), ("streams", streams)):
        if count is None and name == "threads":
            continue
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ConfigError(f"{name}: expected a whole number from 1, but got {count!r}")


def check_cpus(threads: int | None, streams: int) -> None:
    """As `check_numbers`; and warn of more than there are CPUs."""
    check_numbers(threads, streams)
    for name, count in (("threads", threads), ("streams", streams)):
        if count is not None and count > usable_cpus():
            _log.warning("%s %d: only %s usable here, and more %s than that are slower", name, count, _cpus(), name)


def _cpus() -> str:
    return "1 CPU is" if usable_cpus() == 1 else f"{usable_cpus()} CPUs are"


def check_file(path: Path, threads: int | None, streams: int = 1) -> int:
    """The number of threads of each run of an exported file; None takes what `Use` says.

    Raises:
        ModelError: what cannot be an exported model, before anything is opened.
        ConfigError: no number of threads or streams.
    """
    check_cpus(threads, streams)
    if path.is_dir() or path.suffix == ".safetensors":
        kind = "a folder" if path.is_dir() else "a weights file"
        raise ModelError(
            f"{path}: is {kind}, not an exported model; expected a .onnx file: write one with "
            f"'falconet export {path} --to onnx --out FOLDER'"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a model written by 'falconet export --to onnx'")
    if (program := FOREIGN.get(path.suffix.lower())) is not None:
        raise ModelError(
            f"{path}: is a file of {program}, not an exported model; 'falconet import' brings over those of NanoDet, "
            "PP-YOLOE and YOLOv3, anything else has to be exported where it was trained"
        )
    return threads or (default_threads() if streams == 1 else 1)


KINDS = {
    ".onnx": ("ONNX", "onnx"),
    ".xml": ("OpenVINO", "openvino"),
    ".tflite": ("LiteRT", "litert"),
    ".pte": ("ExecuTorch", "executorch"),
}
"""By the ending: what a file is a model of, and the name of that format."""


def incomplete(path: Path, reason: str) -> ModelError:
    """The error for a file that an engine cannot read."""
    kind, wanted = KINDS.get(path.suffix, KINDS[".onnx"])
    return ModelError(
        f"{path}: is not a complete {kind} model ({reason}); "
        f"expected a file written by 'falconet export --to {wanted}': copy or export it again"
    )


def failed(path: Path, count: int, error: Exception) -> ModelError:
    """The error for a graph that does not run, whatever its engine says."""
    reason = " ".join(str(error).split())[:300]
    images = f" on {count} images at once; export it without --batch, or predict with a batch of 1" if count > 1 else ""
    return ModelError(f"{path}: the model cannot be run{images} ({reason})")


def run_fixed_batch(run: Callable[[Pixels], Outputs], pixels: Pixels, batch: int | None) -> Outputs:
    """The outputs of pixels [B, H, W, 3]; with a fixed batch by as many runs as needed, the last one filled up."""
    pixels = np.ascontiguousarray(pixels)
    if batch is None or len(pixels) == batch:
        return run(pixels)
    filled = np.concatenate([pixels, np.zeros((-len(pixels) % batch, *pixels.shape[1:]), np.uint8)])
    parts = [run(filled[start : start + batch]) for start in range(0, len(filled), batch)]
    return {name: np.concatenate([part[name] for part in parts])[: len(pixels)] for name in parts[0]}


def named(names: Sequence[str], arrays: Sequence[Floats]) -> Outputs:
    """Outputs by name."""
    return dict(zip(names, arrays, strict=True))
