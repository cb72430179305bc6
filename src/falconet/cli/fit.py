"""`falconet fit`: parse, call, print."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from falconet.cli.options import parse_milliseconds, words
from falconet.core.errors import ConfigError
from falconet.core.figures import plural
from falconet.core.terminal import argument

if TYPE_CHECKING:
    from falconet.search.candidates import Candidate
    from falconet.search.request import Request

_log = logging.getLogger(__name__)


def fit(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="Pictures and boxes: a data set's file or folder.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes of each training, as in augment.flip_vertical=0.5.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Milliseconds of a picture, from its pixels to its boxes, as in 15ms.", show_default=False),
    ] = None,
    minutes: Annotated[float, typer.Option(min=1, help="Of training, altogether; timing comes before.")] = 60.0,
    classes: Annotated[
        str | None,
        typer.Option(help="Learn only these, as in person,car [default: all of the data].", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads that the budget is meant for [default: all CPUs, at most 4].", show_default=False
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engine that it is meant for: onnxruntime, openvino; auto: the faster one here.")
    ] = "auto",
    reward: Annotated[
        Literal["ap", "mnasnet"],
        typer.Option(help="What is best within the budget: AP, or MnasNet's AP * (ms / budget) ** -0.07."),
    ] = "ap",
    strategy: Annotated[
        Literal["halving", "shared"],
        typer.Option(
            help="How networks are compared: each in short trainings of its own (halving), or widths of one network in "
            "one training, as slices of its weights (shared)."
        ),
    ] = "halving",
    space: Annotated[
        Path | None, typer.Option(help="What is searched (YAML), see --print-space.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same candidates.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the search [default: the first of runs/fit, runs/fit-2, ...].", show_default=False
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the interrupted search in this folder.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only time: show which networks fit, train none.")] = False,
    print_space: Annotated[bool, typer.Option("--print-space", help="Print what is searched by default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came out as JSON.")] = False,
) -> None:
    """Find the most accurate detector within milliseconds on this machine, and train it on your pictures.

    Networks of many kinds are built, exported and timed here; of those that are fast enough some are trained for a
    little while, the better ones for longer, the best one for half of the minutes. It is exported, and checked against
    the budget in processes of its own.
    """
    import json

    if print_space:
        from falconet.search.space import default_text

        print(default_text(), end="")
        return
    from falconet.search.public import ask, fit_folder, require_what_fits

    require_what_fits()
    from falconet.cli.progress import progress
    from falconet.cli.train import TrainBar
    from falconet.search import fit as search

    if resume is not None:
        if given := _given(context) - {"resume", "as_json"}:
            raise ConfigError(f"--resume goes on with the search as it was; leave out: {', '.join(sorted(given))}")
        done = search.resume(resume, progress=progress, callback=TrainBar())
    else:
        if data is None or budget is None:
            raise ConfigError("expected pictures and a budget, as in: falconet fit photos --budget 15ms")
        request = ask(
            data,
            parse_milliseconds(budget),
            minutes=minutes,
            classes=None if classes is None else words(classes),
            threads=threads,
            engine=engine,
            reward=reward,
            strategy=strategy,
            space=space,
            seed=seed,
            overrides=overrides or [],
        )
        if dry_run:
            _show_candidates(request, as_json=as_json)
            return
        done = search.fit(request, fit_folder(out), progress=progress, callback=TrainBar())
    print(json.dumps(done.as_dict(), indent=2) if as_json else done)
    if not as_json:
        print(f"written: {done.path}, {done.folder / 'fit.svg'}, {done.folder / 'run.yaml'}")
        print(f"next: falconet predict photo.jpg --model {argument(done.path)}")


def _given(context: typer.Context) -> set[str]:
    """Names of the options and arguments that stand in the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _show_candidates(request: "Request", *, as_json: bool) -> None:
    from falconet.api.bench import tell_busy
    from falconet.cli.progress import progress
    from falconet.core.cpus import busy_cpus
    from falconet.search.fit import Search
    from falconet.search.journal import Journal

    tell_busy(busy_cpus())
    search = Search(request, Journal(None), progress=progress)
    found = search.candidates()
    if as_json:
        import json

        print(json.dumps([_plain(one, len(search.classes)) for one in found], indent=2))
        return
    width = max(len(one.shape.name) for one in found)
    print(f"{'network':<{width}}  {'input':>9}  {'p50, ms':>8}  {'p95, ms':>8}  {'M parameters':>12}  {'M MACs':>8}")
    for one in sorted(found, key=lambda one: one.shape.name):
        row = _plain(one, len(search.classes))
        size = f"{row['width']}x{row['height']}"
        print(
            f"{row['name']:<{width}}  {size:>9}  {row['p50']:>8.2f}  {row['p95']:>8.2f}  "
            f"{row['parameters'] / 1e6:>12.2f}  {row['macs'] / 1e6:>8.0f}"
        )
    print(f"{plural(len(found), 'network')}, in {search.way}; nothing was trained")


def _plain(one: "Candidate", classes: int) -> dict[str, object]:
    from falconet.models.cost import cost

    costs = cost(one.model, classes)
    height, width = one.size
    return {
        "name": one.shape.name, "height": height, "width": width, "p50": one.timing.p50, "p95": one.timing.p95,
        "parameters": costs.parameters, "macs": costs.macs,
    }  # fmt: skip
