"""Exported pairs of ncnn, NAME.param and NAME.bin, on the CPU in float32."""

import hashlib
import json
from pathlib import Path
from threading import local
from typing import Any

import ncnn  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional
import numpy as np

from falconet.core.errors import ModelError
from falconet.core.exported_files import model_files
from falconet.core.manifest import MANIFEST_KEY, read_manifest
from falconet.core.types import Pixels
from falconet.runtime.engines import check_cpus, check_described, default_threads, named
from falconet.runtime.tasks import TASKS, Outputs

FORMAT = 1
"""Of NAME.falconet.json."""


class NcnnEngine:
    """An exported pair in ncnn.

    Args:
        path: the .param of a pair written by `falconet export --to ncnn`; the other two files lie beside it.
        threads: for one image; None takes `default_threads()`, or one where there are several streams.
        streams: runs that may go on at once.

    Attributes:
        path, streams: as given.
        manifest: read from NAME.falconet.json.
        batch: images per run: one.

    Raises:
        ModelError: a file is missing, is not what its checksum says, or was not written by `falconet export`.
        ConfigError: no number of threads or streams.
    """

    name = "ncnn"
    version = str(ncnn.__version__)

    def __init__(self, path: str | Path, *, threads: int | None = None, streams: int = 1) -> None:
        self.path, self.streams, self.batch = Path(path), streams, 1
        check_cpus(threads, streams)
        graph, binary = _checked(self.path)
        self.manifest = read_manifest(_described(self.path)[MANIFEST_KEY], str(model_files(self.path)[2]))
        self._outputs = tuple(TASKS[self.manifest.task].outputs(self.manifest))
        self._graph, self._binary = str(graph), str(binary)
        self._threads = threads or (default_threads() if streams == 1 else 1)
        self._own = local()
        self._net()

    def _net(self) -> Any:
        """The network; each thread has one of its own, whose memory it can reuse."""
        if not hasattr(self._own, "net"):
            net = ncnn.Net()
            net.opt.num_threads = self._threads
            net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
            net.opt.use_bf16_storage = False
            if net.load_param(self._graph) or net.load_model(self._binary):
                raise ModelError(f"{self.path}: ncnn {self.version} cannot read it; export it again with this version")
            self._own.net = net
        return self._own.net

    def __call__(self, pixels: Pixels) -> Outputs:
        """See `falconet.runtime.engines.Engine`."""
        parts = [self._run(one) for one in pixels]
        return named(self._outputs, [np.stack(values) for values in zip(*parts, strict=True)])

    def _run(self, pixels: Pixels) -> list[Any]:
        height, width = pixels.shape[:2]
        entry = ncnn.Mat.from_pixels(np.ascontiguousarray(pixels), ncnn.Mat.PixelType.PIXEL_BGR, width, height)
        run = self._net().create_extractor()
        run.input("in0", entry)
        found = []
        for number, name in enumerate(self._outputs):
            failed, value = run.extract(f"out{number}")
            if failed:
                raise ModelError(f"{self.path}: the model cannot be run: ncnn gives no output {name}")
            found.append(np.array(value))
        if self._outputs[0] == "boxes":
            found[0] = np.clip(found[0], 0, np.array([width, height] * 2, np.float32))
        return found


def _described(path: Path) -> dict[str, Any]:
    check_described(path)
    about = model_files(path)[2]
    try:
        found = json.loads(about.read_text(encoding="utf-8"))
        text, sums = json.dumps(found[MANIFEST_KEY]), dict(found["sha256"])
        kind = found["format"]
    except OSError as error:
        raise ModelError(f"{about}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{about}: does not describe an exported pair; export the model again") from error
    if kind != FORMAT:
        raise ModelError(f"{about}: has format {kind}; expected {FORMAT}: export the model again")
    return {MANIFEST_KEY: text, "sha256": sums}


def _checked(path: Path) -> tuple[Path, Path]:
    """Graph and weights, which are what their description says."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a .param written by 'falconet export --to ncnn'")
    sums, (graph, binary, about) = _described(path)["sha256"], model_files(path)
    for name, file in (("param", graph), ("bin", binary)):
        if not file.is_file():
            raise ModelError(f"{path}: {file.name} is not beside it; copy all three files of the model")
        if hashlib.sha256(file.read_bytes()).hexdigest() != sums.get(name):
            raise ModelError(f"{file}: is not the file that {about.name} describes; copy all three files again")
    return graph, binary
