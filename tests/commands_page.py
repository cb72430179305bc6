"""docs/commands.md, which is what `--help` prints: python -m tests.commands_page writes it, a test compares it."""

from pathlib import Path

import typer
from typer.testing import CliRunner

from falconet.cli import COMMANDS, _register, app
from falconet.cli.data import app as data_app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"


def text() -> str:
    """The page as it should be."""
    if not app.registered_commands:
        _register()
    names = [command.name or command.callback.__name__ for command in data_app.registered_commands if command.callback]
    parts = [
        "# Commands\n\nWhat `--help` prints. A command ends with 0 where all went well, with 2 and a sentence where "
        "not, with 130 after Ctrl-C\nand 143 after SIGTERM.\n",
        _block(app, "falconet"),
    ]
    for name in COMMANDS:
        parts.append(f"## {name}\n")
        if name == "data":
            parts += [part for one in names for part in (f"### data {one}\n", _block(app, "falconet", name, one))]
        else:
            parts.append(_block(app, "falconet", name))
    return "\n".join(parts)


def _block(application: typer.Typer, program: str, *words: str) -> str:
    done = CliRunner().invoke(application, [*words, "--help"], prog_name=program, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    lines = "\n".join(line.rstrip() for line in done.output.strip().splitlines())
    return f"```text\n{lines}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
