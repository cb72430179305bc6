"""One entry for every kind of foreign weights: which reader a set of files needs. Needs torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models import ModelConfig
from falconet.zoo.checkpoint_to_detector import import_checkpoint
from falconet.zoo.darknet_to_detector import import_darknet, is_first_layers
from falconet.zoo.imported import Imported
from falconet.zoo.ncnn_to_detector import import_ncnn
from falconet.zoo.onnx_to_detector import import_onnx
from falconet.zoo.paddle_files import BESIDE
from falconet.zoo.paddle_to_detector import import_paddle

KINDS = (
    "a .param with its .bin (ncnn), a .ckpt, .pth or .pt (NanoDet, or yolo3-pytorch), an .onnx (NanoDet's export), a "
    ".pdparams (PaddleDetection's PP-YOLOE), or a .weights or .conv.N, perhaps with its .cfg (darknet's YOLOv3)"
)


def import_files(
    files: Sequence[Path],
    *,
    preprocess: Preprocess | None = None,
    config: ModelConfig | None = None,
    classes: Sequence[str] | None = None,
    source: str = "",
    licence: str = "",
) -> Imported:
    """The detector in foreign files, of a kind told from their endings.

    Args:
        files: one file, or an ncnn pair in any order; of a pair one is enough where the other lies beside it. What
            Paddle writes beside a `.pdparams` may be given with it and is left out. Darknet's `.cfg` may be given with
            the `.weights`.
        config: of the model, where the original's YAML is known; checkpoints only.
        preprocess, classes, source, licence: see the importers.

    Raises:
        ModelError: not a kind that is known, missing, or as the importers say.
    """
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path}: no such file; expected {KINDS}")
    darknet = [path for path in files if path.suffix.lower() == ".weights" or is_first_layers(path)]
    others = [path for path in files if path not in darknet]
    if len(darknet) == 1 and all(path.suffix.lower() == ".cfg" for path in others) and len(others) <= 1:
        cfg = others[0] if others else None
        return import_darknet(
            darknet[0], cfg=cfg, preprocess=preprocess, classes=classes, source=source, licence=licence
        )
    endings = sorted({path.suffix.lower() for path in files})
    if len(files) == 1 and endings[0] in (".ckpt", ".pth", ".pt"):
        return import_checkpoint(
            files[0], preprocess=preprocess, config=config, classes=classes, source=source, licence=licence
        )
    if len(files) == 1 and endings == [".onnx"]:
        return import_onnx(files[0], preprocess=preprocess, classes=classes, source=source, licence=licence)
    if endings in ([".bin"], [".param"], [".bin", ".param"]) and len(files) == len(endings):
        graph, weights = ncnn_pair(files[0])
        if len(files) == 2:
            graph, weights = sorted(files, key=lambda path: path.suffix.lower(), reverse=True)
        return import_ncnn(graph, weights, preprocess=preprocess, classes=classes, source=source, licence=licence)
    beside = [path for path in files if path.suffix.lower() in BESIDE]
    weights_of_paddle = [path for path in files if path.suffix.lower() == ".pdparams"]
    if beside and len(beside) == len(files):
        raise ModelError(
            f"{beside[0]}: holds {BESIDE[beside[0].suffix.lower()]}, not a model; expected {beside[0].stem}.pdparams"
        )
    if len(weights_of_paddle) == 1 and len(files) == 1 + len(beside):
        imported = import_paddle(
            weights_of_paddle[0], preprocess=preprocess, config=config, classes=classes, source=source, licence=licence
        )
        ignored = tuple(f"{path.name} was left out: {BESIDE[path.suffix.lower()]}" for path in beside)
        return replace(imported, notes=(*imported.notes, *ignored))
    raise ModelError(f"{', '.join(str(path) for path in files)}: is not a kind of weights known here; expected {KINDS}")


def ncnn_pair(path: Path) -> tuple[Path, Path]:
    """The `.param` and the `.bin` of an ncnn pair, of which `path` is one."""
    return path.with_suffix(".param"), path.with_suffix(".bin")
