"""All engines: those of the device side, and torch, which runs weights files."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from falconet.core.errors import ConfigError, ModelError
from falconet.runtime.engines import ENGINES as DEVICE_ENGINES
from falconet.runtime.engines import Engine, EngineRow, choose_engine


def _open_torch(path: Path, threads: int | None, size: tuple[int, int] | None = None) -> Engine:
    import torch

    from falconet.exporting.torch_engine import TorchEngine

    if threads is not None:
        torch.set_num_threads(threads)
    return TorchEngine(path, size=size)


ENGINES: Mapping[str, EngineRow] = {
    **DEVICE_ENGINES,
    "torch": EngineRow(
        suffixes=(".safetensors",), open=_open_torch, module="torch", install="pip install 'falconet[train]'"
    ),
}
"""By name, in the order in which `auto` takes them."""


def open_engine(
    path: Path, *, engine: str = "auto", threads: int | None = None, size: tuple[int, int] | None = None
) -> Engine:
    """An engine with the model of an exported file or a weights file.

    Args:
        engine: a name in `ENGINES`; `auto` takes the first that runs files of this ending.
        threads: for the network; None takes the CPUs this process may use, at most four.
        size: (height, width) of the input of a weights file; None: that of the training.

    Raises:
        ModelError: not a model of ours, damaged, or an engine that does not run it.
        ConfigError: an engine that is not known, or not installed; a size for an exported file, whose own is fixed.
    """
    if path.suffix in ENGINES["torch"].suffixes and engine in ("auto", "torch") and find_spec("torch") is None:
        raise ModelError(
            f"{path}: running weights needs torch, which is not installed; export them where it is, with "
            f"'falconet export {path} --to onnx --out FOLDER', and pass the .onnx file, or "
            f"{ENGINES['torch'].install}"
        )
    chosen = choose_engine(path, engine, engines=ENGINES)
    if size is None:
        return ENGINES[chosen].open(path, threads)
    if chosen != "torch":
        raise ConfigError(f"--size: the input of {path} is fixed; pass the weights it was exported from")
    return _open_torch(path, threads, size)
