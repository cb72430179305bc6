"""`falconet export`: weights to a file that devices run, compared with torch before it is handed over."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from falconet.cli.truth import Truth, open_truth, progress, require
from falconet.core.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from falconet.export.receipt import ClassReceipt, Receipt

PICTURES = 200
"""Pictures of the data that the file and torch are compared on, unless told otherwise."""


def export(
    weights: Annotated[Path, typer.Argument(help="Run folder, weights file (.safetensors) or published name.")],
    to: Annotated[Literal["onnx"], typer.Option(help="Format.")] = "onnx",
    out: Annotated[Path, typer.Option(help="Folder for the model and its receipt.")] = Path("export"),
    name: Annotated[
        str | None, typer.Option(help="Of the file, without ending [default: of the run or weights file].")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures with truth for the comparison [default: validation data of the run]."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; without --data, any pictures, compared without truth.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Compare on at most so many.")] = PICTURES,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators.")] = 18,
    static_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures per run, fixed in the file [default: any number].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Export a model and prove that the file does what torch does.

    Writes NAME.onnx and NAME.receipt.json / .txt. A file that differs from torch is not kept, and the exit code is 2.
    """
    require(["torch", "onnx", "onnxscript", "hotcoco"], extra="train", purpose="export")
    from falconet.export.onnx import export_onnx
    from falconet.export.receipt import write_receipt
    from falconet.models.weights import find_weights
    from falconet.zoo import imagenet, pretrained, published

    if published.is_published(weights):
        published.check_detects(str(weights))
        name = name or str(weights)
        weights = published.fetch_weights(str(weights))
    elif pretrained.is_pretrained(weights) and str(weights) != imagenet.ANY:
        name = name or str(weights)
        weights = pretrained.fetch_classifier(str(weights))
    found = find_weights(weights)
    target = out / f"{name or _name(weights)}.{to}"
    truth = _truth(weights, data, images, split)
    _make(out)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as beside:
        draft = export_onnx(found, Path(beside) / target.name, opset=opset, batch=static_batch)
        receipt = _receipt(weights, draft, truth, pictures)
        if receipt.problems:
            raise ModelError(
                f"{target}: not written, the exported file differs from torch: {'; '.join(receipt.problems)}\n"
                f"{receipt.text().rstrip()}"
            )
        draft.replace(target)
    as_json_path, as_text = write_receipt(receipt, target)
    if as_json:
        print(receipt.model_dump_json(indent=2))
    else:
        print(receipt.text().rstrip())
        print(f"model                {target}\nreceipt              {as_json_path}, {as_text.name}")


def _truth(weights: Path, data: Path | None, images: Path | None, split: str | None) -> Truth:
    """The pictures to compare on, with their truth where there is one."""
    from falconet.cli.classify import is_classifier, open_class_truth

    if not is_classifier(weights):
        return _pictures(weights, data, images, split)
    if split is not None:
        raise ConfigError(
            "--split belongs to data with boxes; of a classifier name the split's own folder: --data FOLDER"
        )
    if data is None and images is not None:
        return _pictures(weights, None, images, None)
    return open_class_truth(weights, data)


def _receipt(weights: Path, draft: Path, truth: Truth, pictures: int) -> "Receipt | ClassReceipt":
    """What the comparison of the file `draft` with torch found."""
    from falconet.cli.classify import compare_classifier, is_classifier
    from falconet.models.weights import find_weights

    if is_classifier(weights):
        return compare_classifier(weights, draft, truth, pictures=pictures)
    return _compare(find_weights(weights), draft, truth, pictures)


def _compare(weights: Path, draft: Path, truth: Truth, pictures: int) -> "Receipt":
    from falconet.eval.classes import match
    from falconet.export.verify import verify
    from falconet.models.weights import read_card

    matched = None
    if truth.names:
        matched = match(truth.names, read_card(weights).classes, data=truth.source, model=str(weights))
    # Spread over the data: pictures of one kind often lie side by side.
    step = max(1, len(truth.records) // pictures)
    chosen = truth.records[::step][:pictures]
    with progress("comparing with torch") as bar:
        return verify(weights, draft, chosen, match=matched, progress=bar)


def _pictures(weights: Path, data: Path | None, images: Path | None, split: str | None) -> Truth:
    """The pictures to compare on; `names` is empty where there is no truth."""
    if data is not None or images is None:
        return open_truth(weights, data, images, split)
    import numpy as np

    from falconet.core.images import IMAGE_SUFFIXES
    from falconet.core.types import Record

    if split is not None:
        raise ConfigError("--split needs --data ANNOTATIONS beside it")
    paths = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{images}: holds no pictures; expected a folder of JPEG or PNG files to compare on")
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    records = tuple(Record(str(path), path, None, None, boxes, labels, crowd) for path in paths)
    return Truth((), records, str(images), ())


def _name(weights: Path) -> str:
    """Name of the run for a run folder or a file inside one, else of the file."""
    folder = weights if weights.is_dir() else weights.parent
    if weights.is_dir() or (folder / "run.yaml").is_file():
        return folder.resolve().name or "model"
    return weights.stem


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
