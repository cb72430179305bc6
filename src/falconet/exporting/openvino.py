"""Weights to OpenVINO's own pair of files, NAME.openvino.xml and .bin, for programs that read no ONNX.

The network is the one of the .onnx file, in float32, with the same inputs and outputs. The manifest lies in the graph's
`rt_info` under framework / falconet, where OpenVINO keeps what an ONNX file says about itself; beside it lies the
checksum of the .bin.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from falconet.core.files import replace_file
from falconet.exporting.onnx import export_onnx
from falconet.runtime.openvino_engine import WEIGHTS_SUM
from falconet.runtime.openvino_import import openvino


def export_openvino(
    weights: Path,
    out: Path,
    *,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    score: float | None = None,
    nms: bool = False,
    layers: bool = False,
) -> Path:
    """Write the model of `weights` to `out` and its .bin beside it. Whoever ships it compares it first.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .xml.
        batch, size, score, nms, layers: as of `falconet.exporting.onnx.export_onnx`.

    Raises:
        ConfigError, ModelError, DataError: as `export_onnx`.
    """
    with tempfile.TemporaryDirectory(prefix="falconet-openvino-") as folder:
        options: dict[str, Any] = {"batch": batch, "size": size, "score": score, "nms": nms, "layers": layers}
        whole = export_onnx(weights, Path(folder) / "m.onnx", **options)
        network = openvino.Core().read_model(str(whole))
        graph = Path(folder) / "m.xml"
        openvino.save_model(network, str(graph), compress_to_fp16=False)
        content = graph.with_suffix(".bin").read_bytes()
        network.set_rt_info(hashlib.sha256(content).hexdigest(), list(WEIGHTS_SUM))
        openvino.save_model(network, str(graph), compress_to_fp16=False)
        replace_file(out.with_suffix(".bin"), content)
        replace_file(out, graph.read_bytes())
    return out
