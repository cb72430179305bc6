"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import gc
import io
import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, NamedTuple

import typer
import typer.core

from falconet import __version__
from falconet.cli import startup
from falconet.core.errors import ConfigError, FalconetError
from falconet.core.terminal import SafeStream
from falconet.core.terminate import Terminated, raise_on_sigterm

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


class Command(NamedTuple):
    """A command, which is imported when it is called."""

    module: str
    function: str
    summary: str
    """a sentence that fits the list of commands"""
    examples: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "data": Command("data", "app", "Check, draw, convert and crop data sets."),
    "train": Command(
        "train",
        "train",
        "Train a detector or a classifier on your own pictures.",
        (
            "falconet train nanodet-plus-m-320 data=photos train.minutes=20",
            "falconet train nanodet-plus-m-320 data.train=train.json data.train.images=pictures data.val=val.json",
            "falconet train --resume runs/nanodet-plus-m-320",
            "falconet config nanodet-plus-m-320 --out run.yaml; falconet train run.yaml train.epochs=50",
        ),
    ),
    "eval": Command(
        "evaluate",
        "evaluate",
        "Measure how good a model is, and write a report.",
        (
            "falconet eval runs/nanodet-plus-m-320",
            "falconet eval exported/mine.onnx --data photos --split test",
            "falconet eval nanodet-plus-m-416-coco --data instances.json --images pictures --protocol coco",
            "falconet eval runs/nanodet-plus-m-320 runs/nanodet-plus-m-320-2",
        ),
    ),
    "calibrate": Command(
        "calibrate",
        "calibrate",
        "Make scores say how often a detector is right.",
        (
            "falconet calibrate runs/nanodet-plus-m-320",
            "falconet calibrate exported/mine.onnx --data photos --operating-point recall=0.95",
            "falconet calibrate runs/door --operating-point false-alarms=2/1000 --operating-point f1",
        ),
    ),
    "repeat": Command(
        "repeat",
        "repeat",
        "Train the same with several seeds: mean and spread.",
        (
            "falconet repeat nanodet-plus-m-320 data=photos train.minutes=20 --seeds 3",
            "falconet repeat run.yaml output=runs/three",
        ),
    ),
    "export": Command(
        "export",
        "export",
        "Write the file that devices run, compared with torch.",
        (
            "falconet export runs/nanodet-plus-m-320 --out exported",
            "falconet export nanodet-plus-m-416-coco --out exported --images pictures",
        ),
    ),
    "predict": Command(
        "predict",
        "predict",
        "Say what is in pictures, videos and camera streams.",
        (
            "falconet predict street.jpg --out found",
            "falconet predict photos clip.mp4 --model exported/mine.onnx --out found --save images,json",
            "falconet predict 0 --model exported/mine.onnx --score 0.4",
        ),
    ),
    "batch": Command(
        "batch",
        "batch",
        "Write what is in very many pictures as Parquet tables.",
        (
            "falconet batch archive --model exported/mine.onnx --out found",
            "falconet batch 'shards/*.tar' --model exported/mine.onnx --out found",
            "falconet batch s3://bucket/pictures --model exported/mine.onnx --out s3://bucket/found",
        ),
    ),
    "serve": Command(
        "serve",
        "serve",
        "Answer requests over HTTP, with a page to try models.",
        (
            "falconet serve exported/mine.onnx",
            "falconet serve door=exported/best.onnx exported/other.onnx --port 9000",
            "falconet serve exported/mine.onnx --host 0.0.0.0 --token-file tokens.txt",
        ),
    ),
    "models": Command("models", "models", "List networks: input, cost, accuracy, published weights."),
    "config": Command(
        "train",
        "config",
        "Print a complete run file, with a comment for each value.",
        ("falconet config nanodet-plus-m-320 --out run.yaml", "falconet config --schema > run.schema.json"),
    ),
    "bench": Command(
        "bench",
        "bench",
        "Measure exported models on this machine, engine by engine.",
        (
            "falconet bench exported/mine.onnx",
            "falconet bench exported/mine.onnx --data photos --out runs/bench",
            "falconet bench exported/mine.onnx --against theirs.onnx --threads 1",
        ),
    ),
    "tune": Command(
        "bench",
        "tune",
        "Find and remember the fastest engine for a model.",
        ("falconet tune exported/mine.onnx", "falconet tune exported/mine.onnx --data photos"),
    ),
    "quantize": Command(
        "quantize",
        "quantize",
        "Write a model in 8-bit integers, with a verdict.",
        (
            "falconet quantize exported/mine.onnx",
            "falconet quantize exported/mine.onnx --data photos --loss 0.3",
        ),
    ),
    "fit": Command(
        "fit",
        "fit",
        "Find and train the best detector within milliseconds here.",
        (
            "falconet fit photos --budget 15ms",
            "falconet fit photos --budget 8ms --threads 1 --minutes 30 --out runs/door",
            "falconet fit photos --budget 8ms --dry-run",
            "falconet fit --resume runs/door",
            "falconet fit --print-space > space.yaml; falconet fit photos --budget 8ms --space space.yaml",
        ),
    ),
    "prune": Command(
        "prune",
        "prune",
        "Make a model faster by fewer channels, within milliseconds.",
        (
            "falconet prune runs/mine --budget 8ms",
            "falconet prune runs/mine --share 0.7 train.epochs=30",
            "falconet prune runs/mine --activation relu --budget 6ms --engine openvino --threads 1",
        ),
    ),
    "profile": Command("profile", "profile", "Count a network's layers and measure its milliseconds."),
    "import": Command("rescue", "import_weights", "Turn weights of other programs into ours, with proof."),
    "import-config": Command("rescue", "import_config", "Turn a YAML of NanoDet or PP-YOLOE into a run file."),
}
"""In the order of use."""


class _InOrder(typer.core.TyperGroup):
    """Groups and commands in the order of `COMMANDS`."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """Their names."""
        known = super().list_commands(ctx)
        return [name for name in COMMANDS if name in known]


app = typer.Typer(
    name="falconet",
    help="Lightweight real-time object detectors: train, evaluate, export, detect - on ordinary CPUs.",
    epilog="A first detector from your own pictures and boxes: falconet train nanodet-plus-m-320 data=photos "
    "train.minutes=20. Each command has examples: falconet train --help.",
    cls=_InOrder,
    no_args_is_help=True,
    rich_markup_mode=None,  # would take [default: ...] for markup
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"falconet {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand != "predict":  # which has more to import, see there
        startup.finish()


def _register(called: str | None = None) -> None:
    """Add the commands to the application; of a known name only that one, the others cost time to import."""
    for name in (called,) if called in COMMANDS else COMMANDS:
        command = COMMANDS[name]
        what = getattr(import_module(f"falconet.cli.{command.module}"), command.function)
        if isinstance(what, typer.Typer):
            app.add_typer(what, name=name, help=command.summary)
        else:
            lines = "".join(f"\n  {example}" for example in command.examples)
            app.command(name, short_help=command.summary, epilog=f"\b\nExamples:{lines}" if lines else None)(what)


def _other_form(words: list[str]) -> str:
    """The command as it is meant, where data are named in another command's form; empty where they are not."""
    command, rest = (words[0], words[1:]) if words else ("", [])
    for place, word in enumerate(rest):
        key, equals, value = word.removeprefix("--").partition("=")
        if command == "train" and word.startswith("--") and key in ("data", "images", "split", "output", "out"):
            name = {"images": "data.train.images", "split": "data.train.split", "out": "output"}.get(key, key)
            value = value if equals else next(iter(rest[place + 1 :]), "PATH")
            return f"{word}: training takes KEY=VALUE, as in {name}={value}"
        if (
            command in ("eval", "export")
            and equals
            and not word.startswith("--")
            and key in ("data", "images", "split")
        ):
            return f"{word}: '{command}' takes options, as in --{key} {value}"
    return ""


def _nothing(words: list[str]) -> str:
    """What is wrong where a word says nothing, which as a path would be the current folder; empty where none does."""
    for place, word in enumerate(words):
        option = word.removesuffix("=")
        if word == "" or (word.startswith("--") and word != option):
            before = option or " ".join(["falconet", *words[:place]])
            return (
                f"'{before}' is followed by an empty text, as of a variable that is not set; expected a value "
                "(the current folder is .)"
            )
    return ""


def main() -> None:
    """Entry point: user errors print as one message and exit with 2, Ctrl-C exits with 130, SIGTERM with 143."""
    words = sys.argv[1:]
    if words in (["help"], ["version"]):
        words = [f"--{words[0]}"]
        sys.argv[1:] = words
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):  # code pages lack most characters: shown as \u4e2d
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = SafeStream(sys.stdout, "standard output"), SafeStream(sys.stderr, "standard error")  # type: ignore[assignment]
    startup.begin()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].setLevel(logging.INFO)  # train.log takes more
    logging.getLogger("torch").setLevel(logging.WARNING)  # it tells statistics when it ends
    _register(words[0] if words else None)
    try:
        if meant := _nothing(words) or _other_form(words):
            raise ConfigError(meant)
        try:
            app()
        finally:
            sys.stdout.flush()
    except FalconetError as error:
        print(f"falconet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("falconet: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Terminated:
        print("falconet: terminated", file=sys.stderr)
        raise
    except SystemExit as ended:
        if ended.code == INTERRUPTED and words[:1] != ["predict"]:  # which finishes what it is at, and says so
            print("falconet: interrupted", file=sys.stderr)
        raise
    finally:
        # The interpreter collects garbage once more when it ends; all memory is about to go anyway.
        gc.freeze()
