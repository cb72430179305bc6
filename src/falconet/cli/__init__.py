"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import gc
import io
import logging
import sys

import typer

from falconet.cli import startup
from falconet.core.errors import FalconetError
from falconet.core.terminal import SafeStream
from falconet.core.terminate import Terminated, raise_on_sigterm

app = typer.Typer(
    name="falconet",
    help="Lightweight real-time object detectors: train, evaluate, export, detect - on ordinary CPUs.",
    no_args_is_help=True,
    rich_markup_mode=None,  # would take [default: ...] for markup
    pretty_exceptions_enable=False,
)


@app.callback()
def _before(context: typer.Context) -> None:
    if context.invoked_subcommand != "predict":  # which has more to import, see there
        startup.finish()


def _register(called: str | None = None) -> None:
    """Add the commands to the application; of a known name only that one, the others cost time to import."""
    names = ("data", "train", "models", "config", "eval", "export", "predict", "profile", "import", "import-config")
    wanted = (called,) if called in names else names
    if "data" in wanted:
        from falconet.cli import data

        app.add_typer(data.app, name="data", help="Check, draw, convert data sets; write a small drawn one.")
    if not {"train", "config"}.isdisjoint(wanted):
        from falconet.cli import train

        app.command("train")(train.train)
        app.command("config")(train.config)
    if "models" in wanted:
        from falconet.cli import models

        app.command("models")(models.models)
    if "eval" in wanted:
        from falconet.cli import evaluate

        app.command("eval")(evaluate.evaluate)
    if "export" in wanted:
        from falconet.cli import export

        app.command("export")(export.export)
    if "predict" in wanted:
        from falconet.cli import predict

        app.command("predict")(predict.predict)
    if "profile" in wanted:
        from falconet.cli import profile

        app.command("profile")(profile.profile)
    if not {"import", "import-config"}.isdisjoint(wanted):
        from falconet.cli import rescue

        app.command("import")(rescue.import_weights)
        app.command("import-config")(rescue.import_config)


def main() -> None:
    """Entry point: user errors print as one message and exit with 2, Ctrl-C exits with 130, SIGTERM with 143."""
    words = sys.argv[1:]
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):  # code pages lack most characters: shown as \u4e2d
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = SafeStream(sys.stdout, "standard output"), SafeStream(sys.stderr, "standard error")  # type: ignore[assignment]
    startup.begin()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _register(words[0] if words else None)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except FalconetError as error:
        print(f"falconet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("falconet: interrupted", file=sys.stderr)
        sys.exit(130)
    except Terminated:
        print("falconet: terminated", file=sys.stderr)
        raise
    finally:
        # The interpreter collects garbage once more when it ends; all memory is about to go anyway.
        gc.freeze()
