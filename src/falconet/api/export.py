"""`falconet.export`: weights to a file that devices run, which is compared with torch before it is handed over."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from falconet.api.find import FoundModel, find_model, tell_unfinished
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.exported_files import model_files
from falconet.core.figures import plural
from falconet.core.manifest import Manifest
from falconet.core.types import Pixels

if TYPE_CHECKING:
    from falconet.api.ground_truth import GroundTruth
    from falconet.exporting.receipt import Receipt

_log = logging.getLogger(__name__)


def _to_onnx(weights: Path, out: Path, **options: Any) -> None:
    from falconet.exporting.onnx import export_onnx

    export_onnx(weights, out, **options)


def _to_openvino(weights: Path, out: Path, **options: Any) -> None:
    from falconet.exporting.openvino import export_openvino

    export_openvino(weights, out, **options)


def _to_ncnn(weights: Path, out: Path, **options: Any) -> None:
    from falconet.exporting.ncnn import export_ncnn

    export_ncnn(weights, out, **options)


def _to_litert(weights: Path, out: Path, **options: Any) -> None:
    from falconet.exporting.litert import export_litert

    export_litert(weights, out, **options)


def _to_executorch(weights: Path, out: Path, **options: Any) -> None:
    from falconet.exporting.executorch import export_executorch

    export_executorch(weights, out, **options)


@dataclass(frozen=True, slots=True)
class Format:
    """What a model can be exported to.

    Attributes:
        suffix: of the file that stands for the model.
        engines: that run it, the usual one first.
        convert: (weights, file to write, **options) writes it; every format takes the options `size` and `score`.
        options: others that it takes.
        modules: that converting it takes, beside torch.
        extra: brings them.
        note: what to know before installing these.
        slow: converting takes a minute or two.
    """

    suffix: str
    engines: tuple[str, ...]
    convert: Callable[..., None]
    options: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    extra: str = ""
    note: str = ""
    slow: bool = False


FORMATS = {
    "onnx": Format(".onnx", ("onnxruntime",), _to_onnx, frozenset({"nms", "batch", "opset"})),
    "openvino": Format(
        ".openvino.xml", ("openvino",), _to_openvino, frozenset({"nms", "batch"}), ("openvino",), "openvino"
    ),
    "ncnn": Format(".param", ("ncnn",), _to_ncnn, modules=("ncnn", "pnnx"), extra="ncnn"),
    "litert": Format(
        ".tflite",
        ("litert",),
        _to_litert,
        modules=("litert_torch", "ai_edge_litert"),
        extra="litert-export",
        note="that is 1.1 GB beside torch and takes older versions of other packages, so give it and falconet[train] a "
        "virtual environment of their own",
        slow=True,
    ),
    "executorch": Format(
        ".pte", ("executorch",), _to_executorch, modules=("executorch",), extra="executorch", slow=True
    ),
}

ALIASES = {
    "tflite": "litert", "tensorflow-lite": "litert", "ov": "openvino", "ort": "onnx", "pte": "executorch",
}  # fmt: skip
"""What formats are called elsewhere."""

WORDS = {"nms": "--nms", "batch": "--static-batch", "opset": "--opset"}
"""Options of some formats, as the command calls them."""

LEVELS = 32
"""Pixels of the input for each cell of the coarsest usual level; what is left over is filled up."""

LOOKED_AT = 4
"""Images on which the first layer that differs is looked for."""

SELECTED = 50
"""Images on which the selection inside of a file is compared with ours."""

Progress = Callable[[str], AbstractContextManager[Callable[[Sequence[Any]], Iterable[Any]]]]
"""A title -> what wraps the images, to show how far a comparison is."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file that does what torch does.

    Attributes:
        path: the file.
        receipts: what was compared, one per engine; their files lie beside `path`.
        written: (JSON, text) of each receipt.
    """

    path: Path
    receipts: "tuple[Receipt, ...]"
    written: tuple[tuple[Path, Path], ...]

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return "\n".join([*(receipt.text().rstrip() for receipt in self.receipts), f"{'model':<20} {self.path}"])


def export(
    model: "str | os.PathLike[str]",
    out: str | Path = "export",
    *,
    to: Literal["onnx", "openvino", "ncnn", "litert", "executorch"] = "onnx",
    name: str | None = None,
    data: str | Path | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    pictures: int = 200,
    engines: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    score: float | None = None,
    nms: bool = False,
    opset: int | None = None,
    batch: int | None = None,
    progress: Progress = lambda _: nullcontext(iter),
) -> Exported:
    """Export a model and prove that the file does what torch does, as `falconet export` does.

    Args:
        model: run folder, weights file or published name.
        out: folder for NAME.onnx (of openvino NAME.openvino.xml and .bin, of ncnn NAME.param, NAME.bin and
            NAME.falconet.json, of litert NAME.tflite, of executorch NAME.pte) and
            the receipts.
        to: the format.
        name: of the file, without ending; None takes that of the run or the weights file.
        data: pictures with truth for the comparison; None takes what the model was validated on.
        images: folder of the pictures; without `data`, any pictures, compared without truth.
        split: part of the data.
        pictures: compare on at most so many.
        engines: that the file is compared in; none: the first of the format.
        size: (height, width) of the input; None: that of the training.
        score: threshold that the file of a detector carries; None: that of the weights.
        nms: the file of a detector selects its boxes itself: a further output `detections` [N, 6].
        opset: version of ONNX's operators; None: 18.
        batch: pictures per run, fixed in the file; None: any number; of ncnn, litert and executorch one.
        progress: shows how far a comparison is.

    Raises:
        ModelError: a file that differs from torch is not kept; weights that are none, or an opset that is not known.
        ConfigError, DataError: nothing to compare on, a folder that cannot be written, or an option that means nothing
            for the format.
    """
    from falconet.api.require import require

    given = {name: value for name, value in {"nms": nms or None, "batch": batch, "opset": opset}.items() if value}
    require(["torch", "onnx", "onnxscript", "hotcoco"], extra="train", purpose="export")
    row = check_format(to, given)
    from falconet.exporting.engines import ENGINES
    from falconet.exporting.receipt import write_receipt
    from falconet.exporting.torch_engine import manifest_of
    from falconet.models.weights import read_card
    from falconet.runtime.engines import choose_engine

    found, folder = find_model(os.fspath(model), weights=True), Path(out)
    tell_unfinished(found)
    target = folder / f"{name or found.name}{row.suffix}"
    chosen = [choose_engine(target, one, engines=ENGINES) for one in engines or row.engines]
    manifest = manifest_of(read_card(found.path))
    truth = _truth(found, data, images, split, task=manifest.task)
    compare = _comparison(found, manifest, truth, pictures, progress)
    _make(folder)
    _tell_odd_sides(size)
    _log.info("exporting %s to %s%s", found.path, to, row.slow * ", which takes a minute or two")
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as beside:
        draft = Path(beside) / target.name
        row.convert(found.path, draft, size=size, score=score, **given)
        convert = partial(row.convert, found.path, size=size, layers=True)
        where = partial(_first_difference, found.path, convert, draft.with_name(f"layers{row.suffix}"), truth, size)
        receipts = tuple(_same(compare(draft, one), target, partial(where, one)) for one in chosen)
        if nms:
            _check_selection(draft, truth)
        for file in reversed(model_files(draft)):
            file.replace(folder / file.name)
    if any(one.key == "matched detections" and one.text.startswith("0 of 0 ") for one in receipts[0].findings):
        _log.warning(
            "%s: neither torch nor the file finds anything in these pictures; was it trained long enough?", target
        )
    return Exported(target, receipts, tuple(write_receipt(receipt, target) for receipt in receipts))


def _tell_odd_sides(size: tuple[int, int] | None) -> None:
    """Say where a side of the input costs as much as the next larger one that fits the network's levels."""
    for side in dict.fromkeys(size or ()):
        if side % LEVELS:
            low, high = side // LEVELS * LEVELS, -(-side // LEVELS) * LEVELS
            text = "--size: %d is no multiple of %d and takes as long as %d; nearby are %d and %d"
            _log.info(text, side, LEVELS, high, low, high)


def check_format(to: str, given: Mapping[str, Any]) -> Format:
    """The row of a format that takes these options, all that it needs being installed.

    Raises:
        ConfigError: there is none, or something is missing.
    """
    from falconet.api.require import require

    if to not in FORMATS:
        meant = ALIASES.get(to.lower())
        hint = f"did you mean {meant}? " if meant else ""
        raise ConfigError(f"--to {to}: is not known; {hint}Expected some of {', '.join(FORMATS)}, or web by itself")
    for option in given:
        if option not in FORMATS[to].options:
            able = " and ".join(name for name, row in FORMATS.items() if option in row.options)
            raise ConfigError(f"--to {to}: {WORDS[option]} is for {able}; leave it out")
    row = FORMATS[to]
    require(row.modules, extra=row.extra, purpose=f"export to {to}", note=row.note)
    return row


def _same(receipt: "Receipt", target: Path, where: Callable[[], str]) -> "Receipt":
    """The receipt of a file that does what torch does.

    Args:
        where: says in which layer another one differs first.

    Raises:
        ModelError: of another one.
    """
    if receipt.problems:
        raise ModelError(
            f"{target}: not written, the exported file in {receipt.exported.name} differs from torch: "
            f"{'; '.join(receipt.problems)}\n{where()}\n{receipt.text().rstrip()}"
        )
    return receipt


def _first_difference(
    weights: Path,
    convert: Callable[[Path], None],
    file: Path,
    truth: "GroundTruth",
    size: tuple[int, int] | None,
    engine: str,
) -> str:
    """In words, the first layer of the file in `engine` whose output differs from torch's."""
    from falconet.exporting.engines import ENGINES
    from falconet.exporting.layers import first_difference
    from falconet.exporting.torch_engine import TorchEngine
    from falconet.runtime.engines import DEFAULT_USE
    from falconet.runtime.predictor import Predictor

    _log.info("looking for the first layer that differs")
    ours = TorchEngine(weights, size=size, layers=True)
    predictor: Predictor[Any] = Predictor(ours)
    pictures = []
    for record in truth.spread(LOOKED_AT):
        with suppress(DataError):  # it was told already
            pictures.append(predictor.prepare(record.path).pixels)
    return first_difference(convert, lambda path: ENGINES[engine].open(path, DEFAULT_USE), ours, file, pictures)


def _truth(
    found: FoundModel, data: str | Path | None, images: str | Path | None, split: str | None, *, task: str
) -> "GroundTruth":
    """The images that a comparison was asked for, with their truth where there is one."""
    from falconet.api.evaluation import tell
    from falconet.api.ground_truth import open_ground_truth, open_images

    if data is None and images is not None and split is None:
        truth = open_images(Path(images))
        tell(truth.notes)
        return truth
    paths = [None if path is None else Path(path) for path in (data, images)]
    try:
        return open_ground_truth(found, paths[0], paths[1], split, task=task)
    except ConfigError as error:
        if data is not None or images is not None:
            raise
        raise ConfigError(f"{error}; any pictures are enough to compare on: --images FOLDER alone") from error


def _comparison(
    found: FoundModel, manifest: Manifest, truth: "GroundTruth", count: int, progress: Progress
) -> "Callable[[Path, str], Receipt]":
    """(exported file, engine) -> receipt, on `count` of the images."""
    from falconet.api.evaluation import EVALUATIONS
    from falconet.exporting.verify import verify

    match = None
    if truth.names:
        translate = EVALUATIONS[manifest.task].match
        match = translate(truth.names, manifest.classes, data=truth.source, model=str(found.path))

    chosen = truth.spread(count)

    def compare(file: Path, engine: str) -> "Receipt":
        _log.info("comparing %s with torch, on %s and in milliseconds", engine, plural(len(chosen), "picture"))
        with progress(f"comparing {engine} with torch") as bar:
            return verify(found.path, file, chosen, match=match, engine=engine, progress=bar)

    return compare


def _check_selection(file: Path, truth: "GroundTruth") -> None:
    """Whether the file selects as we do, on some of the images."""
    from falconet.exporting.nms import check_selection
    from falconet.runtime.engines import DEFAULT_USE, ENGINES, choose_engine
    from falconet.runtime.predictor import Predictor

    predictor: Predictor[Any] = Predictor(ENGINES[choose_engine(file, "auto")].open(file, DEFAULT_USE))

    def pixels() -> Iterator[Pixels]:
        for record in truth.spread(SELECTED):
            with suppress(DataError):  # it was told already
                yield predictor.prepare(record.path).pixels

    count = check_selection(file, predictor.manifest.selection, pixels())
    _log.info("selection inside of the file: the same %s as ours", plural(count, "detection"))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
