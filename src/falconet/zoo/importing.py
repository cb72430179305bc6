"""One entry for every kind of foreign weights: which reader a set of files needs. Needs torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from falconet.core.errors import ModelError
from falconet.zoo.class_lists import assumed
from falconet.zoo.formats.paddle_files import BESIDE
from falconet.zoo.formats.torch_files import choose_weights, read_checkpoint
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.nanodet.from_checkpoint import import_nanodet
from falconet.zoo.nanodet.from_ncnn import import_ncnn
from falconet.zoo.nanodet.from_onnx import import_onnx
from falconet.zoo.ppyoloe.from_checkpoint import import_paddle
from falconet.zoo.yolov3.from_checkpoint import import_yolov3, is_yolov3
from falconet.zoo.yolov3.from_darknet import import_darknet, is_first_layers

KINDS = (
    "a .param with its .bin (ncnn), a .ckpt, .pth or .pt (NanoDet, or yolo3-pytorch), an .onnx (NanoDet's export), a "
    ".pdparams (PaddleDetection's PP-YOLOE), or a .weights or .conv.N, perhaps with its .cfg (darknet's YOLOv3)"
)


def import_files(files: Sequence[Path], options: ImportOptions = NO_OPTIONS) -> Imported:
    """The detector in foreign files; says so where names of classes were taken for as many of a known list.

    Arguments and errors as `_import_files`.
    """
    imported = _import_files(files, options)
    if options.classes is not None or any(is_first_layers(path) for path in files):
        return imported
    return replace(imported, notes=(*imported.notes, assumed(imported.card.classes)))


def _import_files(files: Sequence[Path], options: ImportOptions) -> Imported:
    """The detector in foreign files, of a kind told from their endings.

    Args:
        files: one file, or an ncnn pair in any order; of a pair one is enough where the other lies beside it. What
            Paddle writes beside a `.pdparams` may be given with it and is left out. Darknet's `.cfg` may be given with
            the `.weights`.
        options: what the files may not say of themselves.

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
        return import_darknet(darknet[0], options, cfg=cfg)
    endings = sorted({path.suffix.lower() for path in files})
    if len(files) == 1 and endings[0] in (".ckpt", ".pth", ".pt"):
        return import_checkpoint(files[0], options)
    if len(files) == 1 and endings == [".onnx"]:
        return import_onnx(files[0], options)
    if endings in ([".bin"], [".param"], [".bin", ".param"]) and len(files) == len(endings):
        graph, weights = ncnn_pair(files[0])
        if len(files) == 2:
            graph, weights = sorted(files, key=lambda path: path.suffix.lower(), reverse=True)
        return import_ncnn(graph, weights, options)
    beside = [path for path in files if path.suffix.lower() in BESIDE]
    weights_of_paddle = [path for path in files if path.suffix.lower() == ".pdparams"]
    if beside and len(beside) == len(files):
        raise ModelError(
            f"{beside[0]}: holds {BESIDE[beside[0].suffix.lower()]}, not a model; expected {beside[0].stem}.pdparams"
        )
    if len(weights_of_paddle) == 1 and len(files) == 1 + len(beside):
        imported = import_paddle(weights_of_paddle[0], options)
        ignored = tuple(f"{path.name} was left out: {BESIDE[path.suffix.lower()]}" for path in beside)
        return replace(imported, notes=(*imported.notes, *ignored))
    raise ModelError(f"{', '.join(str(path) for path in files)}: is not a kind of weights known here; expected {KINDS}")


def import_checkpoint(path: Path, options: ImportOptions = NO_OPTIONS) -> Imported:
    """The detector in a checkpoint written by torch, of RangiLyu/nanodet or of bubbliiiing/yolo3-pytorch.

    Args:
        path: `.ckpt` of Lightning or `.pth`, with or without a `state_dict` around the weights.
        options: what the file may not say of itself.

    Raises:
        ModelError: the file cannot be read, asks for more than tensors, or is of another architecture.
    """
    chosen = choose_weights(read_checkpoint(path), str(path), limit=4 * path.stat().st_size + 4096)
    if is_yolov3(chosen.state):
        return import_yolov3(chosen.state, path, options)
    return import_nanodet(chosen, path, options)


def ncnn_pair(path: Path) -> tuple[Path, Path]:
    """The `.param` and the `.bin` of an ncnn pair, of which `path` is one."""
    return path.with_suffix(".param"), path.with_suffix(".bin")
