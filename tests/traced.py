"""Networks that are exported, traced by torch once for all tests and both workers: it takes seconds each.

What is kept is what torch's exporter returned for the same network (its modules, settings and weights, byte by byte),
input and options. All else that an export does is done anew, and a network that differs in anything is traced.
"""

import fcntl
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

Exporter = Callable[..., onnx.ModelProto]


class _Exactly(pickle.Pickler):
    """A network as bytes that are the same in each process: tensors by their values, not by their place in memory."""

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        if not isinstance(obj, torch.Tensor):
            return None
        values = obj.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return type(obj).__name__, str(obj.dtype), tuple(obj.shape), obj.stride(), hashlib.sha256(values).hexdigest()

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, nn.Module):
            return NotImplemented
        # Hooks are numbered through all that a process ever made.
        hooks = {name: one for name, one in vars(obj).items() if name.endswith(("_hooks", "_hooks_with_kwargs"))}
        rank = {number: place for place, number in enumerate(sorted({n for one in hooks.values() for n in one}))}
        ranked = {name: [(rank[number], what) for number, what in one.items()] for name, one in hooks.items()}
        return type(obj), (), vars(obj) | ranked


def key(module: nn.Module, entry: torch.Tensor, options: dict[str, Any]) -> str | None:
    """What a network, its input and the options of its export amount to; None where that cannot be told."""
    written = io.BytesIO()
    try:
        _Exactly(written).dump((module, entry, sorted(options.items())))
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


def traced_once(export: Exporter, folder: Path) -> Exporter:
    """`falconet.exporting.onnx.to_onnx` with a memory, which processes that are given the same folder share."""
    folder.mkdir(exist_ok=True)

    def to_onnx(module: nn.Module, entry: torch.Tensor, **options: Any) -> onnx.ModelProto:
        name = key(module, entry, options)
        if name is None:
            return export(module, entry, **options)
        path = folder / f"{name}.onnx"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second waits for the file
            if not path.exists():
                part = path.with_suffix(f".{os.getpid()}")
                part.write_bytes(export(module, entry, **options).SerializeToString())
                part.replace(path)
        return onnx.load(path)

    return to_onnx
