"""All engines: those of the device side, and those that need torch."""

from collections.abc import Mapping
from pathlib import Path

from falconet.runtime.engines import ENGINES as DEVICE_ENGINES
from falconet.runtime.engines import Engine, EngineRow, Use


def open_torch(path: Path, use: Use, size: tuple[int, int] | None = None) -> Engine:
    """A weights file in torch.

    Args:
        size: (height, width) of the input; None: that of the training.
    """
    import torch

    from falconet.exporting.torch_engine import TorchEngine

    if use.threads is not None:
        torch.set_num_threads(use.threads)
    return TorchEngine(path, size=size)


def _open_executorch(path: Path, use: Use) -> Engine:
    from falconet.exporting.executorch_engine import ExecuTorchEngine

    return ExecuTorchEngine(path, threads=use.threads)


ENGINES: Mapping[str, EngineRow] = {
    **DEVICE_ENGINES,
    "executorch": EngineRow(
        suffixes=(".pte",), open=_open_executorch, module="executorch", install="pip install 'falconet[executorch]'"
    ),
    "torch": EngineRow(
        suffixes=(".safetensors",), open=open_torch, module="torch", install="pip install 'falconet[train]'"
    ),
}
"""By name, in the order in which `auto` takes them."""
