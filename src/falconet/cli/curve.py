"""`falconet data curve`: parse, call, print."""

import json
from typing import Annotated

import typer

from falconet.core.errors import ConfigError


def curve(
    run: Annotated[str, typer.Argument(help="Run file (.yaml) or preset name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes, as of 'falconet train'; output is the folder of all.", show_default=False),
    ] = None,
    *,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="For all trainings together [default: 30].", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of each training, instead of minutes.", show_default=False)
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=1, help="How often the parts are drawn anew [default: as minutes allow, at most 3].", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came out as JSON, as fractions.")] = False,
) -> None:
    """Say how much better a model would be with twice and four times the pictures.

    It is trained on nested parts of the pictures, from an eighth of them up to all, for the same number of steps each,
    and measured on the same validation pictures. Curves through these points say what more pictures would give, and
    which class gains most. The command goes on where it was interrupted.
    """
    from falconet.api.require import require

    if minutes is not None and steps is not None:
        raise ConfigError("--minutes and --steps: each says how long the trainings are; leave one of them out")
    require(["torch", "hotcoco"], extra="train", purpose="training")
    from falconet.api.curve import PICTURE, SUMMARY, Length
    from falconet.api.curve import curve as train_all
    from falconet.cli.train import TrainBar

    length = Length(None if steps is not None else 30.0 if minutes is None else minutes, steps, draws)
    done = train_all(run, overrides or [], length=length, callback=TrainBar())
    print(json.dumps(done.as_dict(), indent=2) if as_json else done)
    if not as_json:
        print(f"written: {done.path / SUMMARY}, {done.path / PICTURE}")
