"""`falconet repeat`: parse, call, print."""

import json
from typing import Annotated

import typer


def repeat(
    run: Annotated[str, typer.Argument(help="Run file (.yaml) or preset name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes, as of 'falconet train'; output is the folder of all.", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="How many trainings; the first has the run's own seed.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, as fractions.")] = False,
) -> None:
    """Train the same run with several seeds, and say how far they move its figures.

    The same training with another seed gives another AP. A difference between two settings means something where it
    is larger than that, and larger than what so few pictures can tell: both are in the interval at the end. The command
    goes on where it was interrupted.
    """
    from falconet.api.require import require

    require(["torch", "hotcoco"], extra="train", purpose="training")
    from falconet.api.repeat import SUMMARY
    from falconet.api.repeat import repeat as train_all
    from falconet.cli.train import TrainBar

    done = train_all(run, overrides or [], seeds=seeds, callback=TrainBar())
    print(json.dumps(done.as_dict(), indent=2) if as_json else done)
    if not as_json:
        print(f"written: {done.path / SUMMARY}")
