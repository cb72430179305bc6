"""`falconet calibrate`: scores that say how often a detector is right, and thresholds for what a user wants."""

import json
from pathlib import Path
from typing import Annotated

import typer

from falconet.cli.options import ENGINE_HELP, PRECISION_HELP
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.terminal import argument


def calibrate(
    model: Annotated[
        str, typer.Argument(help="Run folder, weights file (.safetensors) or exported .onnx file of a detector.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="COCO .json, VOC folder or list, YOLO .yaml: pictures that the model did not learn from [default: "
            "validation data of the run]."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where it cannot be told.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    operating_point: Annotated[
        list[str] | None,
        typer.Option(
            help="Store thresholds for recall=0.95, precision=0.9, false-alarms=2/1000 (per so many pictures), "
            "false-alarms=2/hour@25 (of a video of so many frames per second) or f1; may be given several times "
            "[default: f1, precision=0.9 and recall=0.9, as far as they are reached].",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="What scores are to say: precision (how many of such boxes are right, IoU above 0.5), or iou (their "
            "mean IoU, 0 for wrong ones)."
        ),
    ] = "precision",
    out: Annotated[
        Path | None, typer.Option(help="File to write [default: the model's own].", show_default=False)
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Give the model its own scores back; its operating points go.")
    ] = False,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the network.")] = None,
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make the scores of a detector say how often it is right, and store thresholds for what you want.

    Of boxes that then score 0.8, about eight in ten are right. Boxes stay as they are, so AP does; as many as before
    lie above the model's threshold, whose number changes. Each operating point comes with what it will do on new
    pictures.
    """
    from falconet.api.calibrate import calibrate as run
    from falconet.api.calibrate import undo as give_back
    from falconet.api.require import require

    if undo:
        if data or images or split or operating_point or target != "precision":
            raise ConfigError("--undo needs no pictures, no operating points and no target; leave them out")
        path = give_back(model, out)
        print(json.dumps({"format": 1, "model": str(path)}) if as_json else f"model: {path}, with its own scores")
        return
    require(["hotcoco"], extra="eval", purpose="calibrate")
    with progress("evaluating") as bar:
        done = run(
            model,
            data,
            images=images,
            split=split,
            target=target,
            operating_points=operating_point,
            out=out,
            engine=engine,
            threads=threads,
            precision=precision,
            progress=bar,
        )
    if as_json:
        print(json.dumps(done.as_dict(), indent=2, allow_nan=False))
        return
    print(done)
    if done.path.suffix == ".safetensors":
        print(f"next: falconet export {argument(model if out is None else str(out))} --out exported")
