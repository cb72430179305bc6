"""`falconet export`: weights to a file that devices run, compared with torch before it is handed over."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from falconet.cli.options import parse_size, words
from falconet.cli.progress import progress
from falconet.core.errors import DataError, ModelError

if TYPE_CHECKING:
    from falconet.api.find import FoundModel
    from falconet.exporting.receipt import Receipt

IMAGES = 200
"""Images of the data that the file and torch are compared on, unless told otherwise."""


def export(
    weights: Annotated[str, typer.Argument(help="Run folder, weights file (.safetensors) or published name.")],
    to: Annotated[Literal["onnx"], typer.Option(help="Format.")] = "onnx",
    out: Annotated[Path, typer.Option(help="Folder for the model and its receipt.")] = Path("export"),
    name: Annotated[
        str | None, typer.Option(help="Name of the file, without ending [default: that of the run or weights file].")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures with truth for the comparison [default: validation data of the run]."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; without --data, any pictures, compared without truth.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Compare on at most so many.")] = IMAGES,
    engine: Annotated[
        str, typer.Option(help="Engines to compare the file in, as in onnxruntime,openvino; a receipt for each.")
    ] = "onnxruntime",
    size: Annotated[
        str | None, typer.Option(help="Input of the file: 416, or HEIGHTxWIDTH [default: that of the training].")
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Threshold that the file of a detector carries [default: that of the weights].",
            show_default=False,
        ),
    ] = None,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators.")] = 18,
    static_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures per run, fixed in the file [default: any number].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Export a model and prove that the file does what torch does.

    Writes NAME.onnx and NAME.receipt.json / .txt, of other engines than ONNX Runtime NAME.ENGINE.receipt.*.
    A file that differs from torch is not kept, and the exit code is 2.
    """
    from falconet.api.require import require

    require(["torch", "onnx", "onnxscript", "hotcoco"], extra="train", purpose="export")
    from falconet.api.find import find_model
    from falconet.exporting.onnx import export_onnx
    from falconet.exporting.receipt import write_receipt
    from falconet.runtime.engines import choose_engine

    found = find_model(weights, weights=True)
    target = out / f"{name or found.name}.{to}"
    engines = [choose_engine(target, one) for one in words(engine)]
    compare = _comparison(found, data, images, split, pictures)
    _make(out)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as beside:
        draft = export_onnx(
            found.path,
            Path(beside) / target.name,
            opset=opset,
            batch=static_batch,
            size=size and parse_size(size),
            score=score,
        )
        receipts = [compare(draft, one) for one in engines]
        for receipt in receipts:
            if receipt.problems:
                raise ModelError(
                    f"{target}: not written, the exported file in {receipt.exported.name} differs from torch: "
                    f"{'; '.join(receipt.problems)}\n{receipt.text().rstrip()}"
                )
        draft.replace(target)
    written = [write_receipt(receipt, target) for receipt in receipts]
    if as_json:
        print(receipts[0].model_dump_json(indent=2) if len(receipts) == 1 else _json_list(receipts))
        return
    for receipt in receipts:
        print(receipt.text().rstrip())
    print(f"{'model':<20} {target}")
    for as_json_path, as_text in written:
        print(f"{'receipt':<20} {as_json_path}, {as_text.name}")


def _comparison(
    found: "FoundModel", data: Path | None, images: Path | None, split: str | None, count: int
) -> "Callable[[Path, str], Receipt]":
    """(exported file, engine) -> receipt, on the images that were asked for."""
    from falconet.api.evaluation import EVALUATIONS
    from falconet.api.ground_truth import open_ground_truth, open_images
    from falconet.exporting.torch_engine import manifest_of
    from falconet.exporting.verify import verify
    from falconet.models.weights import read_card

    manifest = manifest_of(read_card(found.path))
    if data is None and images is not None and split is None:
        truth = open_images(images)
        for note in truth.notes:
            typer.echo(note, err=True)
    else:
        truth = open_ground_truth(found, data, images, split, task=manifest.task)
    match = None
    if truth.names:
        translate = EVALUATIONS[manifest.task].match
        match = translate(truth.names, manifest.classes, data=truth.source, model=str(found.path))

    def compare(file: Path, engine: str) -> "Receipt":
        with progress(f"comparing {engine} with torch") as bar:
            return verify(found.path, file, truth.spread(count), match=match, engine=engine, progress=bar)

    return compare


def _json_list(receipts: "list[Receipt]") -> str:
    import json

    return json.dumps([receipt.model_dump() for receipt in receipts], indent=2)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error
