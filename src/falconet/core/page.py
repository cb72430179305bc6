"""Pages of HTML that need nothing else: no network, no script; style, pictures and charts are inside.

Templates are Jinja2's and lie beside the code that fills them. One is named by its package and its file,
"falconet.eval/pages/report.html"; all of them extend "falconet.core/pages/base.html" and share the macros of
"falconet.core/pages/parts.html". Jinja2 is no part of the base install and is imported when a page is written: commands
ask for it first (`falconet.api.require`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.core.figures import percent
from falconet.core.files import replace_file

if TYPE_CHECKING:
    from jinja2 import Environment


class Html(str):
    """Text that is markup: a template takes it as it stands. All other text is escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def render_page(template: str, values: Mapping[str, Any], *, title: str, lead: Sequence[str] = ()) -> str:
    """The page that a template gives, as text.

    Args:
        template: its package and its file, "falconet.eval/pages/report.html".
        values: what the template asks for by name; a name that is missing is an error (`StrictUndefined`).
        title: above everything.
        lead: what it comes to, in sentences.

    Returns:
        Text that UTF-8 can hold: halves of characters, as in odd names of files, are written as `\\udc80`.
    """
    text = _environment().get_template(template).render(**values, title=title, lead=lead)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_page(path: Path, template: str, values: Mapping[str, Any], *, title: str, lead: Sequence[str] = ()) -> None:
    """Write `render_page` to `path`. Raises DataError when it cannot be written."""
    replace_file(path, render_page(template, values, title=title, lead=lead))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment


def _template(name: str) -> tuple[str, str, Callable[[], bool]] | None:
    """The text of "PACKAGE/FILE", its name for messages, and that it does not change; None where there is none."""
    package, _, file = name.partition("/")
    found = files(package).joinpath(file)
    return (found.read_text(encoding="utf-8"), name, lambda: True) if found.is_file() else None
