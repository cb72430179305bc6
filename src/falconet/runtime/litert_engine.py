"""Exported `.tflite` files in LiteRT, once TensorFlow Lite, on the CPU in float32."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from threading import local
from typing import Any

import ai_edge_litert  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional
import numpy as np
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found, import-untyped, unused-ignore]

from falconet.core.manifest import MANIFEST_FILE, read_manifest
from falconet.core.types import Pixels
from falconet.runtime.engines import check_file, failed, incomplete, named, run_fixed_batch
from falconet.runtime.signature import TensorInfo, read_signature
from falconet.runtime.tasks import TASKS, Outputs

LARGEST_MANIFEST = 16 << 20
"""Bytes of the description; a hundred thousand class names take a tenth of it."""

_TYPES = {np.uint8: "tensor(uint8)", np.float32: "tensor(float)"}


class LiteRtEngine:
    """An exported file in LiteRT.

    Args:
        path: written by `falconet export --to litert`.
        threads: for one image; None takes `default_threads()`, or one where there are several streams.
        streams: runs that may go on at once.

    Attributes:
        path, streams: as given.
        manifest: read from the file.
        batch: images per run: one.

    Raises:
        ModelError: no such file, half of one, one without a Falconet manifest, or one whose inputs and outputs are not
            those of its task.
        ConfigError: no number of threads or streams.
    """

    name = "litert"
    version = str(ai_edge_litert.__version__)

    def __init__(self, path: str | Path, *, threads: int | None = None, streams: int = 1) -> None:
        self.path, self.streams, self.batch = Path(path), streams, 1
        self._threads = check_file(self.path, threads, streams)
        self._own = local()
        text = _appended(self.path)
        manifest = read_manifest(text, str(self.path))
        inputs, outputs = self._interpreter().get_input_details(), self._interpreter().get_output_details()
        # The file numbers its outputs, in the order of the task.
        names = list(TASKS[manifest.task].outputs(manifest))
        described = [_describe(name, one) for name, one in zip(names, outputs, strict=False)]
        self.manifest, _, self._names, _ = read_signature(
            self.path, text, [_describe("pixels", one) for one in inputs], described
        )
        self._entry, self._places = inputs[0]["index"], [one["index"] for one in outputs]

    def _interpreter(self) -> Any:
        """What runs the file; each thread has one of its own."""
        if not hasattr(self._own, "interpreter"):
            try:
                found = Interpreter(model_path=str(self.path), num_threads=self._threads)
                found.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise incomplete(self.path, " ".join(str(error).split())) from error
            self._own.interpreter = found
        return self._own.interpreter

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `falconet.runtime.engines.Engine`."""
        return run_fixed_batch(self._run, pixels, self.batch)

    def _run(self, pixels: Pixels) -> Outputs:
        interpreter = self._interpreter()
        interpreter.set_tensor(self._entry, pixels)
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise failed(self.path, len(pixels), error) from error
        return named(self._names, [interpreter.get_tensor(place) for place in self._places])


def _appended(path: Path) -> str | None:
    """The manifest in the ZIP archive behind the network; None where there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(MANIFEST_FILE).file_size > LARGEST_MANIFEST:
                raise incomplete(path, f"its {MANIFEST_FILE} is too large")
            return archive.read(MANIFEST_FILE).decode()
    except KeyError:
        return None
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise incomplete(path, f"nothing is appended to it: {error}") from error


def _describe(name: str, tensor: Mapping[str, Any]) -> TensorInfo:
    kind = tensor["dtype"]
    return TensorInfo(name, _TYPES.get(kind, str(kind)), [int(side) for side in tensor["shape"]])
