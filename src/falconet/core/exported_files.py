"""What an exported model consists of: the file that stands for it, and those that lie beside it."""

from pathlib import Path

BESIDE = {".onnx": (), ".param": (".bin", ".falconet.json"), ".xml": (".bin",), ".tflite": (), ".pte": ()}
"""By the ending of the file that stands for the model: ONNX, ncnn, OpenVINO, LiteRT, ExecuTorch."""


def model_files(model: Path) -> tuple[Path, ...]:
    """All files of an exported model, the one that stands for it first, what describes them last."""
    return model, *(model.with_suffix(ending) for ending in BESIDE.get(model.suffix, ()))


def is_exported(path: Path) -> bool:
    """Whether a path looks like an exported model: its ending, and all that belongs beside it."""
    return path.suffix in BESIDE and all(file.is_file() for file in model_files(path)[1:])
