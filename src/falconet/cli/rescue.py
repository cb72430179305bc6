"""`falconet import`, `falconet import-config`: foreign weights and their YAML brought here, with a report."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.api.require import require
from falconet.cli.options import parse_size, words
from falconet.core.config import plain, read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.files import replace_file
from falconet.core.manifest import Preprocess
from falconet.core.terminal import argument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from falconet.models import ModelConfig
    from falconet.training.run_config import Data
    from falconet.zoo.formats.foreign_yaml import Translation
    from falconet.zoo.imported import Imported

_BASE_HELP = "PaddleDetection's YAML: a file or folder where its _BASE_ files lie, if not where it says. Repeatable."

MOST_PICTURES = 300
"""Enough to measure batch norms on; more take longer and change nothing."""


def import_weights(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A .param with its .bin (ncnn), one .ckpt, .pth, .pt or .onnx of NanoDet, a .pdparams of PP-YOLOE, or "
            "a .weights (with its .cfg, or without) or .pth of YOLOv3."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Weights file to write (.safetensors); of an ncnn pair also an .onnx.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The original's YAML: class names, input, architecture.", show_default=False),
    ] = None,
    base: Annotated[list[Path] | None, typer.Option(help=_BASE_HELP, show_default=False)] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Class names in the order of training: a,b,c, a file with one a line, coco or voc."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Network input, as in 416 or 320x416 (height x width) [default: the file's; else 416, PP-YOLOE 640]."
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures on which folded batch norms are measured, for training elsewhere."),
    ] = None,
    source: Annotated[str, typer.Option(help="Where the weights come from, for the file's description.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the file's description.")] = "",
) -> None:
    """Turn foreign weights into ours, and report what matched, what was left over, and whether both compute the same.

    Files are read with an allow-list: nothing inside of them is ever run.
    """
    model, names = (None, None) if config is None else _read_config(config, base or [])
    chosen = _class_names(classes) if classes is not None else names
    preprocess = _preprocess(size, model)
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another name with --out, or remove it")
    if out.suffix == ".onnx":
        _to_onnx(files, out, preprocess, chosen, source, licence)
        return
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: expected a name that ends in .safetensors (or .onnx, of an ncnn pair)")
    require(["torch", "onnx"], extra="train", purpose="importing weights")
    from falconet.zoo.imported import ImportOptions
    from falconet.zoo.importing import import_files

    options = ImportOptions(preprocess=preprocess, config=model, classes=chosen, source=source, licence=licence)
    imported = import_files(files, options)
    lines = imported.report()
    if pictures is not None:
        lines.append(f"batch norms   measured on {_measure(imported, pictures)} pictures")
    imported.save(out)
    for line in lines:
        print(line)
    print(f"written       {out}")
    print(f"next: falconet export {argument(out)} --images PICTURES --out exported")


def import_config(
    path: Annotated[Path, typer.Argument(help="YAML of RangiLyu/nanodet, or of PaddleDetection's PP-YOLOE.")],
    out: Annotated[Path | None, typer.Option(help="Write the run file here.", show_default=False)] = None,
    base: Annotated[list[Path] | None, typer.Option(help=_BASE_HELP, show_default=False)] = None,
) -> None:
    """Translate a YAML of NanoDet or PP-YOLOE into a run file, and list key by key what has no counterpart."""
    require(["torch"], extra="train", purpose="checking a run file")
    from falconet.training.run_config import RunConfig

    if out is not None and out.exists():
        raise ConfigError(f"{out}: exists already; choose another name with --out, or remove it")
    translation = _translate(path, base or [])
    run = validate(RunConfig, translation.run, name=f"{path}, translated")
    _check_channels(path, run.model, translation)
    text = write_yaml(run)
    refusals = list(translation.todo) or _refusals(run.data)
    missing = _missing(run.data)
    if out is not None and refusals and not missing:
        raise ConfigError(
            f"{out}: is not written, because 'falconet train' would refuse it:\n"
            + "\n".join(f"  {line}" for line in refusals)
            + "\nexpected a YAML whose data can be read; without --out the run file is printed, for you to correct"
        )
    if out is None:
        print(text, end="")
    else:
        replace_file(out, text)
        print(out)
    typer.echo(f"{len(translation.dropped)} keys of {path} have no counterpart:", err=True)
    for line in translation.lines():
        typer.echo(f"  {line}", err=True)
    if todo := [*missing, *refusals]:
        typer.echo("to do before 'falconet train' takes it:", err=True)
        for line in todo:
            typer.echo(f"  {line}", err=True)


def _check_channels(path: Path, model: "ModelConfig", translation: "Translation") -> None:
    """Refuse a YAML whose neck expects other channels than the backbone returns.

    Raises:
        ConfigError: another network was meant.
    """
    import torch

    if translation.in_channels is None:
        return
    with torch.device("meta"):
        channels = tuple(model.backbone.build().channels)
    if channels != translation.in_channels:
        raise ConfigError(
            f"{path}: model.arch.fpn.in_channels: is {list(translation.in_channels)}, but the backbone "
            f"{model.backbone.name} returns {list(channels)} here, so it is another network; correct the YAML, or give "
            "the backbone's width and out_stages as they were trained"
        )


def _missing(data: "Data") -> list[str]:
    """The files and folders of a run that are not there."""
    parts = {"data.train": data.train} | ({} if data.val is None else {"data.val": data.val})
    return [
        f"{name}.{key}: {place} is not there; correct it in the run file"
        for name, part in parts.items()
        for key, place in (("annotations", part.annotations), ("images", part.images))
        if place is not None and not place.exists()
    ]


def _refusals(data: "Data") -> list[str]:
    """What a training would say of data that are there. COCO's files are not read: they are large, and fit."""
    from falconet.training.run_data import load_data

    if _missing(data) or data.train.place.suffix == ".json":
        return []
    try:
        load_data(data)
    except (ConfigError, DataError) as error:
        return [f"data: {error}"]
    return []


def _translate(path: Path, bases: list[Path]) -> "Translation":
    """A YAML of NanoDet, or of PP-YOLOE over its bases, as a run file."""
    from falconet.zoo.nanodet import from_yaml as nanodet_yaml
    from falconet.zoo.ppyoloe import from_yaml as paddle_yaml

    tree = read_yaml(path)
    if paddle_yaml.is_paddle(tree):
        return paddle_yaml.translate(paddle_yaml.read_chain(path, others=bases), str(path))
    return nanodet_yaml.translate(plain(tree), str(path))


def _read_config(path: Path, bases: list[Path]) -> "tuple[ModelConfig, tuple[str, ...] | None]":
    """The model and the class names that a YAML describes."""
    require(["torch"], extra="train", purpose="importing weights")
    from pydantic import TypeAdapter, ValidationError

    from falconet.models import ModelConfig

    translation = _translate(path, bases)
    try:
        model: ModelConfig = TypeAdapter(ModelConfig).validate_python(translation.run["model"])
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{path}: its model cannot be built here: {where}: {problem['msg']}") from error
    _check_channels(path, model, translation)
    return model, translation.class_names or None


def _class_names(text: str) -> list[str]:
    from falconet.zoo.class_lists import CLASS_LISTS

    path = Path(text)
    if text in CLASS_LISTS and not path.exists():
        return list(CLASS_LISTS[text])
    if path.suffix in (".txt", ".names") or path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--classes {text}: cannot be read: {error}") from error
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = words(text)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--classes {text}: expected class names that differ from each other")
    return names


def _preprocess(size: str | None, model: Any) -> Preprocess | None:
    """The input of --size, or of the YAML's model; None where neither says."""
    known: Preprocess | None = None if model is None else model.input
    if size is None:
        return known
    height, width = parse_size(size)
    if known is not None and (known.height, known.width) != (height, width):
        raise ConfigError(f"--size {size}: the YAML says {known.height}x{known.width}; leave one of both out")
    return known or Preprocess(height=height, width=width)


def _to_onnx(
    files: list[Path], out: Path, preprocess: Preprocess | None, classes: Any, source: str, licence: str
) -> None:
    """An ncnn pair as an ONNX file, which takes no torch; where it is installed, it proves what was written."""
    if not {path.suffix for path in files} <= {".param", ".bin"} or len(files) > 2:
        raise ConfigError(
            f"{out}: only an ncnn pair becomes .onnx directly; import to a .safetensors file, then 'falconet export' it"
        )
    require(["onnx"], extra="train", purpose="writing ONNX")
    from falconet.zoo.class_lists import COCO_NAMES, assumed
    from falconet.zoo.formats.ncnn_files import read_ncnn
    from falconet.zoo.nanodet.ncnn_to_onnx import convert, network_input

    graph, weights = files[0].with_suffix(".param"), files[0].with_suffix(".bin")
    if len(files) == 2:
        graph, weights = sorted(files, key=lambda path: path.suffix, reverse=True)
    model = convert(graph, weights, preprocess=preprocess, classes=classes, source=source, licence=licence)
    lines = _rebuilt(files, preprocess, classes, source, licence)
    if lines is None:
        lines = [f"note          {note}" for note in network_input(read_ncnn(graph, weights), preprocess)[1]]
        if classes is None:
            lines.append(f"note          {assumed(COCO_NAMES)}")
        lines.append(
            "parity        not measured: it takes torch (falconet[train]) and a network that can be rebuilt in it"
        )
    replace_file(out, model.SerializeToString())
    for line in lines:
        print(line)
    print(f"written       {out}")
    print(f"next: falconet predict PICTURES --model {argument(out)} --out found")


def _rebuilt(
    files: list[Path], preprocess: Preprocess | None, classes: Any, source: str, licence: str
) -> list[str] | None:
    """The report of the same files as a detector in torch; None without torch, or for a network it does not know."""
    if find_spec("torch") is None:
        return None
    from falconet.zoo.imported import ImportOptions
    from falconet.zoo.importing import import_files
    from falconet.zoo.nanodet.folded import FOLDED

    options = ImportOptions(preprocess=preprocess, classes=classes, source=source, licence=licence)
    try:
        imported = import_files(files, options)
        return replace(imported, notes=tuple(note for note in imported.notes if note != FOLDED)).report()
    except ModelError:  # `convert` took the files already: this network is only not among ours
        return None


def _measure(imported: "Imported", folder: Path) -> int:
    """Set the statistics of the batch norms to those on the folder's pictures; returns how many were used."""
    from falconet.core.images import is_picture
    from falconet.data.listing import unused, walk
    from falconet.models.norms import measure_norms, unmeasured

    if not unmeasured(imported.detector):
        raise ModelError("the weights carry statistics of their batch norms; leave --pictures out")
    files = walk(folder)
    paths = [path for path in files if is_picture(path)]
    for problem in unused(folder, (path for path in files if not is_picture(path))):
        typer.echo(str(problem), err=True)
    if not paths:
        raise DataError(f"{folder}: holds no pictures; expected .jpg or .png files to measure batch norms on")
    step = -(-len(paths) // MOST_PICTURES)
    return measure_norms(imported.detector, _inputs(paths[::step], imported.card.model.input))


def _inputs(paths: list[Path], preprocess: Preprocess) -> "Iterator[Tensor]":
    """Network inputs [1, 3, H, W] of pictures."""
    import torch

    from falconet.core.images import read_image
    from falconet.core.resize import resize
    from falconet.models.deployable import Normalize

    normalize = Normalize(preprocess)
    for path in paths:
        image, original = read_image(path, at_least=(preprocess.height, preprocess.width))
        pixels, _ = resize(image, preprocess, original=original)
        yield normalize(torch.from_numpy(pixels)[None])
