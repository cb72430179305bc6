"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import logging
import sys

import typer

from falconet.core.errors import FalconetError

app = typer.Typer(
    name="falconet",
    help="Lightweight real-time object detectors: train, evaluate, export, detect - on ordinary CPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _register() -> None:
    from falconet.cli import data, evaluate, export, predict, train

    app.add_typer(data.app, name="data", help="Check, draw, convert data sets; write a small drawn one.")
    app.command("train")(train.train)
    app.command("models")(train.models)
    app.command("config")(train.config)
    app.command("eval")(evaluate.evaluate)
    app.command("export")(export.export)
    app.command("predict")(predict.predict)


def main() -> None:
    """Entry point: user errors print as one message and exit with 2, Ctrl-C exits with 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _register()
    try:
        app()
    except FalconetError as error:
        print(f"falconet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("falconet: interrupted", file=sys.stderr)
        sys.exit(130)
