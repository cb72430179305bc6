"""`falconet prune`: parse, call, print."""

from typing import Annotated

import typer

from falconet.cli.options import parse_milliseconds
from falconet.core.terminal import argument


def prune(
    model: Annotated[str, typer.Argument(help="Run folder, or published name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes of the run, as in train.epochs=50 or data=photos.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Milliseconds of one picture through the network, as in 8ms.", show_default=False),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0.1, max=1, help="Share of the channels to keep, instead of a budget.", show_default=False),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(help="Activation instead of the model's, as in relu.", show_default=False),
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine that the budget is meant for.")] = "onnxruntime",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that it is meant for [default: all CPUs, at most 4].", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came out as JSON.")] = False,
) -> None:
    """Make a model faster by fewer channels or another activation, and train what is left of it.

    For a budget, narrower networks are exported and timed on this machine, and the widest that fits is taken. The
    channels that matter least go; the others are fitted to stand for them, and the network is trained on, by default
    as long as the model was and with that as its teacher, in a folder of its own, NAME-pruned: an ordinary run.
    """
    from falconet.api.prune import prune as make
    from falconet.cli.train import TrainBar

    done = make(
        model,
        budget_ms=None if budget is None else parse_milliseconds(budget),
        share=share,
        activation=activation,
        engine=engine,
        threads=threads,
        overrides=overrides or [],
        callback=TrainBar(),
    )
    if as_json:
        import json

        print(json.dumps(done.as_dict(), indent=2))
        return
    print(done)
    print(f"next: falconet export {argument(done.path)}")
