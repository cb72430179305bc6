"""Exported `.pte` programs in ExecuTorch, on the CPU in float32. Its Python interface takes torch's tensors, so this is
for comparing; devices run the same program from C++, Kotlin or Swift."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.extension.pybindings import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    portable_lib,
)
from executorch.runtime import Runtime, Verification  # type: ignore[import-not-found, import-untyped, unused-ignore]

from falconet.core.manifest import MANIFEST_KEY, read_manifest
from falconet.core.types import Pixels
from falconet.runtime.engines import check_file, failed, incomplete, named, run_fixed_batch
from falconet.runtime.signature import TensorInfo, read_signature
from falconet.runtime.tasks import TASKS, Outputs

METHOD = "forward"

_TYPES = {0: "tensor(uint8)", 6: "tensor(float)"}
"""By torch's number of the type."""


class ExecuTorchEngine:
    """An exported program in ExecuTorch.

    Args:
        path: written by `falconet export --to executorch`.
        threads: for one image; None takes `default_threads()`. They are the process's: the last engine decides.

    Attributes:
        path: as given.
        manifest: read from the program.
        batch: images per run: one.

    Raises:
        ModelError: no such file, half of one, one without a Falconet manifest, or one whose inputs and outputs are not
            those of its task.
        ConfigError: no number of threads.
    """

    name = "executorch"
    version = metadata.version("executorch")

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path, self.batch = Path(path), 1
        portable_lib._unsafe_reset_threadpool(check_file(self.path, threads))
        try:
            # The program lives as long as its methods.
            self._program = Runtime.get().load_program(str(self.path), verification=Verification.InternalConsistency)
            self._method = self._program.load_method(METHOD)
        except RuntimeError as error:
            raise incomplete(self.path, " ".join(str(error).split())) from error
        text = None
        if MANIFEST_KEY in self._program.method_names:
            text = str(self._program.load_method(MANIFEST_KEY).execute([])[0])
        names = list(TASKS[read_manifest(text, str(self.path)).task].outputs(read_manifest(text, str(self.path))))
        about = self._method.metadata
        inputs = [_describe("pixels", about.input_tensor_meta(place)) for place in range(about.num_inputs())]
        outputs = [_describe(name, about.output_tensor_meta(place)) for place, name in enumerate(names)]
        self.manifest, _, self._names, _ = read_signature(self.path, text, inputs, outputs)

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `falconet.runtime.engines.Engine`."""
        return run_fixed_batch(self._run, pixels, self.batch)

    def _run(self, pixels: Pixels) -> Outputs:
        try:
            found = self._method.execute([torch.from_numpy(np.ascontiguousarray(pixels))])
        except RuntimeError as error:
            raise failed(self.path, len(pixels), error) from error
        # The next run writes into the same memory.
        return named(self._names, [one.numpy().copy() for one in found])


def _describe(name: str, tensor: Any) -> TensorInfo:
    kind = int(tensor.dtype())
    return TensorInfo(name, _TYPES.get(kind, f"type {kind}"), list(tensor.sizes()))
