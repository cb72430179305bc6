"""Weights to one LiteRT file (.tflite), for Android and other devices that run LiteRT, once TensorFlow Lite.

litert-torch, LiteRT's own converter, writes it. Inputs and outputs are those of the .onnx file, one picture per
run; the manifest is appended as a ZIP archive, which is how such files carry what belongs to them.
"""

import zipfile
from pathlib import Path

from torch import Tensor

from falconet.core.files import replace_file
from falconet.core.manifest import MANIFEST_FILE
from falconet.exporting.apart import convert_apart, run_converter
from falconet.exporting.torch_engine import Plain, load_at


def export_litert(
    weights: Path, out: Path, *, size: tuple[int, int] | None = None, score: float | None = None, layers: bool = False
) -> Path:
    """Write the model of `weights` to `out`, in a minute or two. Whoever ships it compares it first.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .tflite.
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.
        layers: see `falconet.exporting.torch_engine.shipped`.

    Raises:
        ConfigError: a threshold of a classifier.
        ModelError: no weights there, or a network that litert-torch does not convert.
        DataError: `out` cannot be written.
    """
    load_at(weights, size, score=score)  # what is wrong with these is told before another process starts
    options = {"size": size, "score": score, "layers": layers}
    replace_file(out, convert_apart(__name__, weights, program="litert-torch", **options))
    return out


def convert(network: Plain, pixels: Tensor, manifest: str, file: Path) -> None:
    """Have litert-torch write a network; see `falconet.exporting.apart.Convert`."""
    import litert_torch  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional

    litert_torch.convert(network, (pixels,)).export(str(file))
    with zipfile.ZipFile(file, "a") as appended:
        appended.writestr(MANIFEST_FILE, manifest)


if __name__ == "__main__":
    run_converter(convert)
