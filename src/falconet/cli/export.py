"""`falconet export`: weights to a file that devices run, compared with torch before it is handed over."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.cli.options import parse_size, words
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.terminal import argument

if TYPE_CHECKING:
    from falconet.api.export import Exported
    from falconet.exporting.receipt import Receipt

IMAGES = 200
"""Images of the data that the file and torch are compared on, unless told otherwise."""

WEB = "web"
"""Stands among the formats, but is a folder with a page around a file."""


def export(
    weights: Annotated[str, typer.Argument(help="Run folder, weights file (.safetensors) or published name.")],
    to: Annotated[
        str,
        typer.Option(help="Formats, some of onnx, openvino, ncnn, litert and executorch, as in onnx,openvino; or web."),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the model and its receipt [default: export; of web: site].", show_default=False),
    ] = None,
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
        str | None,
        typer.Option(
            help="Engines to compare the file in, as in onnxruntime,openvino; a receipt for each "
            "[default: the usual one of the format].",
            show_default=False,
        ),
    ] = None,
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
    nms: Annotated[
        bool,
        typer.Option("--nms", help="The file of a detector selects its boxes itself: a further output [N, 6]."),
    ] = False,
    opset: Annotated[
        int | None, typer.Option(help="Version of ONNX's operators [default: 18].", show_default=False)
    ] = None,
    static_batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures per run, fixed in the file [default: any number].")
    ] = None,
    ort: Annotated[
        Path | None,
        typer.Option(help="Of web: folder of onnxruntime-web [default: fetched once from the npm registry]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Export a model and prove that the file does what torch does.

    Writes NAME.onnx, of openvino NAME.openvino.xml and .bin, of ncnn NAME.param, NAME.bin and NAME.falconet.json, of
    litert NAME.tflite, of executorch NAME.pte, and receipts as .json and .txt: NAME.receipt.*, of other engines than
    ONNX Runtime NAME.ENGINE.receipt.*, of OpenVINO's own files
    NAME.openvino.xml.receipt.*. Of web it writes a folder that detects in any browser, without a server: open its
    README.txt; the same folder again gets a further model.
    A file that differs from torch is not kept, and the exit code is 2.
    """
    from falconet.api.export import check_format
    from falconet.api.export import export as write

    kinds = words(to)
    options: dict[str, Any] = {
        "data": data,
        "images": images,
        "split": split,
        "pictures": pictures,
        "engines": words(engine or ""),
        "size": size and parse_size(size),
        "score": score,
        "opset": opset,
        "batch": static_batch,
        "progress": progress,
    }
    if WEB in kinds:
        _refuse_beside_web(kinds, nms=nms)
        _to_web(weights, out or Path("site"), name, ort, options, as_json=as_json)
        return
    if ort is not None:
        raise ConfigError("--ort: is for --to web; leave it out")
    folder = out or Path("export")
    asked = {"nms": nms, "batch": static_batch, "opset": opset}
    for kind in kinds:  # before the first takes its time
        check_format(kind, {name: value for name, value in asked.items() if value})
    everything = []
    for kind in kinds:
        done = write(weights, folder, to=kind, name=name, nms=nms, **options)  # type: ignore[arg-type]
        everything.append(done)
        if not as_json:
            _show(done)
    receipts = [receipt for done in everything for receipt in done.receipts]
    if as_json:
        print(receipts[0].model_dump_json(indent=2) if len(receipts) == 1 else _json_list(receipts))
        return
    print(f"next: falconet predict PICTURES --model {argument(everything[0].path)} --out found")


def _show(done: "Exported") -> None:
    print(done)
    for as_json, as_text in done.written:
        print(f"{'receipt':<20} {as_json}, {as_text}")


def _refuse_beside_web(kinds: "Sequence[str]", *, nms: bool) -> None:
    if len(kinds) > 1:
        raise ConfigError(f"--to {','.join(kinds)}: web fills a folder of its own; export it by itself: --to web")
    if nms:
        raise ConfigError("--to web: selects its boxes itself in any case; leave --nms out")


def _to_web(
    weights: str, out: Path, name: str | None, ort: Path | None, options: dict[str, Any], *, as_json: bool
) -> None:
    from falconet.api.web import export_site

    site = export_site(weights, out, name=name, ort=ort, **options)
    if as_json:
        import json

        receipt = site.receipt and site.receipt.model_dump(mode="json")
        print(json.dumps({"folder": str(site.folder), "name": site.name, "receipt": receipt}, indent=2))
        return
    if site.receipt is not None:
        print(site.receipt.text().rstrip())
    print(f"{'site':<20} {site.folder}, with {site.name}")
    print(
        f"next: python3 -m http.server 8080 --bind 127.0.0.1 --directory {argument(site.folder)}, then open http://localhost:8080"
    )


def _json_list(receipts: "Sequence[Receipt]") -> str:
    import json

    return json.dumps([receipt.model_dump() for receipt in receipts], indent=2)
