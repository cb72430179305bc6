"""`falconet data suspects`: parse, call, print."""

import json
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  falconet data suspects runs/mine
  falconet data suspects runs/mine --folds 4 train.epochs=20 --out doubts
  falconet data suspects nanodet-plus-m-320 data=photos"""


def suspects(
    run: Annotated[str, typer.Argument(help="Folder of a run, run file (.yaml) or preset name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes of the trainings, as of 'falconet train'.", show_default=False),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and the lists [default: suspects in the run's].", show_default=False),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="How many trainings; each leaves out a part of the pictures.")] = 3,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, help="Suspects on the page [default: a tenth of the labels, 200 at most].", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON instead of text.")] = False,
) -> None:
    """Say which labels a model doubts: missing ones, boxes on nothing, wrong classes, bad outlines.

    Short trainings that each leave out a part of the pictures, from the weights that the run started from, answer for
    the pictures they have not seen. Writes suspects.html to go through, suspects.json, and for labelling tools
    suspects.coco.json and suspects.label-studio.json. The command goes on where it was interrupted.
    """
    from falconet.api.require import require

    require(["torch", "hotcoco", "jinja2"], extra="train", purpose="asking which labels are doubtful")
    from falconet.api.suspects import COCO, LIST, PAGE, TASKS
    from falconet.api.suspects import suspects as ask
    from falconet.cli.progress import progress
    from falconet.cli.train import TrainBar

    with progress("answering") as bar:
        done = ask(run, overrides or [], out=out, folds=folds, count=count, callback=TrainBar(), progress=bar)
    print(json.dumps(done.as_dict(), ensure_ascii=False, indent=2) if as_json else done)
    if not as_json:
        print("written: " + ", ".join(str(done.path / name) for name in (PAGE, LIST, COCO, TASKS)))
