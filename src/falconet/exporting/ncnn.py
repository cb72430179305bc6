"""Weights to ncnn's pair of files, for phones and small boards: pixels in, boxes and scores or probabilities out.

pnnx, ncnn's own converter, writes NAME.param and NAME.bin; NAME.falconet.json beside them holds the manifest and the
checksums of both. Input `in0` is float32 [3, H, W], blue, green, red from 0 to 255, as ncnn::Mat::from_pixels makes it;
the mean is subtracted inside. Outputs are `out0` and `out1`, boxes [P, 4] and scores [P, C] of every point, or `out0`,
probabilities [C].
"""

import hashlib
import json
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.core.exported_files import model_files
from falconet.core.files import replace_file
from falconet.core.manifest import MANIFEST_KEY
from falconet.exporting.layers import Layers
from falconet.exporting.torch_engine import ALL_POINTS, shipped
from falconet.models.deployable import Deployable, DeployableClassifier, SubtractMean
from falconet.runtime.ncnn_engine import FORMAT


class _Planar(nn.Module):
    """A deployable network on pixels as ncnn has them: float32 [1, 3, H, W]."""

    def __init__(self, whole: Deployable | DeployableClassifier | Layers) -> None:
        super().__init__()
        assert isinstance(whole.normalize, SubtractMean), "the input is folded"
        self.mean = nn.Parameter(whole.normalize.mean[None], requires_grad=False)
        self.whole = whole

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        images, whole = pixels - self.mean, self.whole
        if isinstance(whole, Layers):
            return whole.of_images(images)
        if isinstance(whole, DeployableClassifier):
            return torch.softmax(whole.classifier(images), -1)
        boxes, scores = whole.detector.decode(whole.detector(images))
        return boxes, scores


def export_ncnn(
    weights: Path, out: Path, *, size: tuple[int, int] | None = None, score: float | None = None, layers: bool = False
) -> Path:
    """Write the model of `weights` to `out` and the two files beside it. Whoever ships it compares it first.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .param.
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.
        layers: see `falconet.exporting.torch_engine.shipped`.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there, or a network that pnnx does not convert.
        DataError: `out` cannot be written.
    """
    whole, manifest = shipped(weights, size=size, score=score, max_points=ALL_POINTS, layers=layers)
    planar = _Planar(whole).eval()
    height, width = manifest.preprocess.height, manifest.preprocess.width
    with tempfile.TemporaryDirectory(prefix="falconet-ncnn-") as folder:
        param, weights_file = _convert(planar, (height, width), Path(folder))
    graph, binary, described = model_files(out)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in (("param", param), ("bin", weights_file))}
    about = {"format": FORMAT, MANIFEST_KEY: json.loads(manifest.to_json()), "sha256": sums}
    replace_file(binary, weights_file)
    replace_file(described, json.dumps(about, indent=2) + "\n")
    replace_file(graph, param)
    return graph


def _convert(module: nn.Module, size: tuple[int, int], folder: Path) -> tuple[bytes, bytes]:
    """Graph and weights as pnnx writes them, in float32."""
    from pnnx import EXEC_PATH  # type: ignore[import-not-found, import-untyped, unused-ignore]

    pixels = torch.zeros(1, 3, *size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, but what pnnx reads; shapes are constants here
        torch.jit.trace(module, pixels, check_trace=False).save(str(folder / "m.pt"))
    shape = f"inputshape=[1,3,{size[0]},{size[1]}]f32"
    done = subprocess.run(
        [EXEC_PATH, "m.pt", shape, "fp16=0"], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    graph, binary = folder / "m.ncnn.param", folder / "m.ncnn.bin"
    if done.returncode or not graph.is_file() or not binary.is_file():
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ModelError(f"pnnx does not convert this network: {last[0]}")
    content = graph.read_text(encoding="utf-8")
    foreign = {line.split()[0] for line in content.splitlines()[2:] if line.strip()}
    if unknown := sorted(name for name in foreign if "." in name or "::" in name):
        raise ModelError(f"ncnn has no layer for {', '.join(unknown)} of this network")
    return content.encode(), binary.read_bytes()
