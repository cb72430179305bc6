"""`falconet train` and `falconet config`: parse, call, print."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from falconet.cli.progress import EVERY
from falconet.core.errors import ConfigError
from falconet.core.figures import clock, percent
from falconet.core.files import replace_file
from falconet.core.terminal import argument, beneath

if TYPE_CHECKING:
    from falconet.training.progress import Progress

_log = logging.getLogger(__name__)


RecipeOption = Annotated[
    Literal["default", "original"],
    typer.Option(help="Of a preset: ours, for small data and a CPU, or its authors', for COCO and GPUs."),
]


def train(
    run: Annotated[
        str | None, typer.Argument(help="Run file (.yaml) or preset name, see 'falconet models'.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes, as in train.epochs=50 data.train=train.json.", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the interrupted run in this folder.", show_default=False)
    ] = None,
    recipe: RecipeOption = "default",
) -> None:
    """Train a detector or a classifier.

    The first word is a preset ('falconet models' lists them) or a run file; changes follow as KEY=VALUE. Those
    that matter most ('falconet config PRESET' prints all, each with a comment):

    \b
    data=photos                pictures and boxes; parts called train and val are found
    data.val=val.json          validate on these (else on 15 % that are set aside)
    train.minutes=20           end after this time; or train.epochs=100
    output=runs/mine           folder of the run
    train.weights=auto         what to start from: published weights, a run, none
    train.batch_size=16        pictures per step
    train.learning_rate=auto   peak; auto depends on the start
    train.freeze=auto          none, or backbone: it keeps the weights it starts from
    train.teacher=runs/large   learn from a larger detector, too
    model.input.height=416     size of the input, with model.input.width=416
    augment.strength=1         how strongly pictures are varied, 0 to 2
    augment.flip_vertical=0.5  for pictures that have no up, as from a microscope
    seed=0                     same seed, same weights
    """
    if run is not None and "=" in run and not Path(run).exists():
        run, overrides = _run_first([run, *(overrides or [])])
    if resume is not None and recipe != "default":
        raise ConfigError("--resume goes on with the run as it was; it cannot be combined with --recipe")
    if resume is not None and (run is not None or overrides):
        named = run or " ".join(overrides or [])
        raise ConfigError(
            f"--resume goes on with the run as it was; it cannot be combined with '{named}'. To train longer or "
            f"otherwise, start a new run from its weights: falconet train {resume}/run.yaml train.weights={resume} "
            "output=NEW"
        )
    if resume is None and run is None:
        raise ConfigError("expected a run file, a preset name ('falconet models' lists them) or --resume FOLDER")
    _require_training()
    from falconet import training
    from falconet.api.train import train_with

    callback = TrainBar()
    if resume is not None:
        folder = training.resume(resume, callback=callback)
    else:
        assert run is not None
        folder = train_with(run, overrides or [], recipe=recipe, callback=callback).path
    if os.environ.get("RANK", "0") == "0":  # once, when torchrun started several of us
        shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        _log.info("next: falconet eval %s", argument(shown))
        if not sys.stdout.isatty():  # for scripts: RUN=$(falconet train ...)
            print(folder)


def config(
    preset: Annotated[str | None, typer.Argument(help="Preset, see 'falconet models'.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.", show_default=False)] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema of run files, for editors.")] = False,
    recipe: RecipeOption = "default",
) -> None:
    """Print a complete run file, to change and hand to 'falconet train'."""
    if schema and recipe != "default":
        raise ConfigError("--schema is of all run files; a recipe belongs to a preset")
    if schema == (preset is not None):
        raise ConfigError("expected either a preset ('falconet models' lists them) or --schema")
    _require_training()
    from falconet.training.recipes import preset_text, schema_text

    text = schema_text() if preset is None else preset_text(preset, recipe)
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise ConfigError(f"{out}: exists already; choose another name with --out, or remove it")
    replace_file(out, text)
    print(out)


class TrainBar:
    """A progress bar with loss, AP or accuracy and time left, where there is a terminal; log lines go above it.

    Elsewhere a line in each epoch that takes longer than `EVERY` seconds.
    """

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._steps = 0
        self._reached = ""
        self._said = time.monotonic()

    def start(self, progress: "Progress", *, steps: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(file=beneath(sys.stderr))
        self._steps = steps
        if not console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}{task.fields[reached]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._progress.add_task(
            "", total=1.0, completed=progress.fraction, epoch="", loss=float("nan"), reached="", left=_left(progress)
        )
        original = sys.stderr
        self._progress.start()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is original:
                self._moved.append((handler, handler.setStream(sys.stderr)))

    def step(self, progress: "Progress", *, step: int, loss: float) -> None:
        """Move the bar."""
        if self._progress is not None:
            epochs = "" if progress.epochs is None else f"/{progress.epochs}"
            self._progress.update(
                self._task,
                completed=progress.fraction,
                epoch=f"{progress.epoch + 1}{epochs} step {step}/{self._steps}",
                loss=loss,
                reached=self._reached,
                left=_left(progress),
            )
        elif time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            epochs = "" if progress.epochs is None else f"/{progress.epochs}"
            where = f"epoch {progress.epoch + 1}{epochs}: step {step}/{self._steps}"
            _log.info("%s", "  ".join(filter(None, (where, f"loss {loss:.3f}", _left(progress)))))

    def epoch(self, metrics: dict[str, Any], progress: "Progress") -> None:
        """Show the AP of the last validation."""
        from falconet.training.tasks import SHOWN_METRICS

        shown = [f"  {name} {percent(metrics[name])}" for name in SHOWN_METRICS if name in metrics]
        self._reached = "".join(shown) or self._reached
        self._said = time.monotonic()
        if self._progress is not None:
            self._progress.update(self._task, completed=progress.fraction, reached=self._reached, left=_left(progress))

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is None:
            return
        self._progress.stop()
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._progress, self._moved = None, []


def _run_first(words: list[str]) -> tuple[str | None, list[str]]:
    """The run file or preset among the words, which may stand behind its changes, and these."""
    named = [word for word in words if "=" not in word]
    return (named[0] if named else None), [word for word in words if word not in named[:1]]


def _left(progress: "Progress") -> str:
    return "" if progress.seconds_left is None else f"{clock(progress.seconds_left)} left"


def _require_training() -> None:
    from falconet.api.require import require

    require(["torch", "hotcoco"], extra="train", purpose="training")
