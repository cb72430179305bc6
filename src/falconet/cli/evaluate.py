"""`falconet eval`: how good a run, a weights file or an exported model is; report and answers as files."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from falconet.cli.options import ENGINE_HELP, PRECISION_HELP, parse_size
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.terminal import argument


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Run folder, weights file (.safetensors), exported .onnx file or published name; two of them are "
            "compared on the same pictures."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="COCO .json, VOC folder or list, YOLO .yaml; of a classifier a folder of classes' folders "
            "[default: validation data of the run]."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where it cannot be told.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html, metrics.json and the answers [default: report in the run's folder, else "
            "runs/eval/NAME, with --data its name behind; none with --json]; of two models for comparison.html and "
            "comparison.json [default: none].",
            show_default=False,
        ),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no files.")] = False,
    score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Detections above this enter the figures, a score of the network itself where scores are calibrated "
            "[default: 0.05].",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Of a detector: model (its own NMS and limits, score above 0.05), or coco (score above 0.001, at most "
            "100 per image), to compare with others [default: model].",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    size: Annotated[
        str | None, typer.Option(help="Input of weights: 416, or HEIGHTxWIDTH [default: that of the training].")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the network.")] = None,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    operating_point: Annotated[
        str | None,
        typer.Option(
            help="Find the score threshold for recall=0.95, precision=0.9, false-alarms=2/1000 (per so many pictures) "
            "or f1, and say what it will do on new pictures.",
            show_default=False,
        ),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            help="Folder of 'falconet data curve' for the report [default: the newest one of the same network and data "
            "in the run's folder or beside it].",
            show_default=False,
        ),
    ] = None,
    voc: Annotated[bool, typer.Option("--voc", help="Also AP at IoU 0.5 by the protocols of Pascal VOC.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, as fractions.")] = False,
) -> None:
    """Measure a model: average precision of a detector, top-1 and top-5 of a classifier.

    Images are resized, run and selected as on the device; classes are matched by name. Each figure has the 95 %
    interval that other pictures of the same kind would give; of two models it is told whether the pictures tell them
    apart.
    """
    from falconet.api.require import require

    if no_report and out is not None:
        raise ConfigError("--no-report writes no files; it cannot be combined with --out")
    if curve is not None and (len(models) > 1 or no_report or (as_json and out is None)):
        raise ConfigError("--curve goes into the report of one model, and none is written here; leave it out")
    require(["hotcoco"], extra="eval", purpose="eval")
    if out is not None or not (as_json or no_report or len(models) > 1):
        require(["jinja2"], extra="eval", purpose="the report", note="or write none: --no-report")
    from falconet.api.measure import evaluate as measure
    from falconet.api.report_curve import read_curve

    if curve is not None:
        read_curve(curve)  # a mistake is told before anything takes time
    options: dict[str, Any] = {
        "images": images,
        "split": split,
        "engine": engine,
        "threads": threads,
        "precision": precision,
        "size": size and parse_size(size),
        "score": score,
        "protocol": protocol,
        "voc": voc,
        "operating_point": operating_point,
    }
    if len(models) > 1:
        _compare(models, data, out, options, as_json=as_json)
        return
    (model,) = models
    with progress("evaluating") as bar:
        done = measure(model, data, progress=bar, **options)
    found = done.model
    if out is None and not (as_json or no_report):
        of_data = "" if data is None else "".join(f"-{part}" for part in (data.resolve().stem, split) if part)
        out = Path(f"runs/eval/{found.name}{of_data}") if found.run is None else found.run / f"report{of_data}"
    if as_json:
        if out is not None:
            done.save(out, curve=curve)
        print(json.dumps(done.as_dict(), indent=2, allow_nan=False))
        return
    print(done)
    if out is not None:
        print(f"report: {done.save(out, curve=curve)}")
    if found.path.suffix == ".safetensors":
        print(f"next: falconet export {argument(model)} --out exported")
    elif found.run is None:
        print(f"next: falconet predict PICTURES --model {argument(model)} --out found")


def _compare(models: list[str], data: Path | None, out: Path | None, options: dict[str, Any], *, as_json: bool) -> None:
    from falconet.api.measure import compare

    if len(models) > 2:
        raise ConfigError(f"expected one model, or two to compare, instead of {len(models)}")
    with progress("evaluating") as bar:
        done = compare(models[0], models[1], data, progress=bar, **options)
    print(json.dumps(done.as_dict(), indent=2, allow_nan=False) if as_json else done)
    if out is not None:
        page = done.save(out)
        if not as_json:
            print(f"comparison: {page}")
