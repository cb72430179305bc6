"""An evaluation as one HTML file that needs nothing else: no network, no script, pictures and charts inside.

A section is a row of `SECTIONS`: its title, its template in `pages`, and the function that gives the template its
values, or None where the report has nothing for it. A new one is a field of `Report`, a template and a row.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from falconet.core.errors import DataError
from falconet.core.files import replace_file
from falconet.core.page import render_page
from falconet.eval import report_sections as sections
from falconet.eval.report_content import Report


class SectionRow(NamedTuple):
    """One section of the page.

    Attributes:
        title: above it; empty: none, as for what begins the page.
        template: file in `falconet.eval/pages`; it finds its values in `part`.
        values: what it shows; None leaves the section out.
    """

    title: str
    template: str
    values: Callable[[Report], Mapping[str, Any] | None]


SECTIONS = (
    SectionRow("", "figures.html", sections.figures),
    SectionRow("", "accuracy.html", sections.accuracy),
    SectionRow("Model and data", "facts.html", sections.facts),
    SectionRow("Classes", "classes.html", sections.classes),
    SectionRow("Classes", "shares.html", sections.shares),
    SectionRow("Thresholds", "thresholds.html", sections.thresholds),
    SectionRow("Sizes of objects", "sizes.html", sections.sizes),
    SectionRow("Worst pictures", "gallery.html", lambda report: sections.gallery(report.worst)),
    SectionRow("Best pictures", "gallery.html", lambda report: sections.gallery(report.best)),
    SectionRow("What goes wrong", "kinds.html", sections.kinds),
    SectionRow("Confusion", "confusion.html", sections.confusion),
    SectionRow("Confusion", "confused.html", sections.confused),
    SectionRow("Precision over recall (IoU 0.5)", "charts.html", sections.precision_recall),
    SectionRow("What scores mean", "scores.html", sections.scores),
    SectionRow("What is odd about these data", "findings.html", sections.findings),
    SectionRow("Labels in doubt", "doubted.html", sections.doubted),
    SectionRow("What more pictures would give", "curve.html", sections.learning_curve),
    SectionRow("Training", "charts.html", sections.training),
    SectionRow("Time per picture", "latency.html", sections.latency),
    SectionRow("Export receipt", "receipt.html", sections.receipt),
)
"""In the order of the page: what is found and what is not before how it came about."""


def write_report(report: Report, path: Path) -> None:
    """Write the page. Raises DataError when it cannot be written or a picture cannot be read."""
    replace_file(path, render(report))


def render(report: Report) -> str:
    """The page as HTML text."""
    filled = [(row, row.values(report)) for row in SECTIONS]
    shown = [
        {"title": row.title, "template": f"falconet.eval/pages/{row.template}", "part": part}
        for row, part in filled
        if part is not None
    ]
    return render_page("falconet.eval/pages/report.html", {"sections": shown}, title=report.title, lead=report.lead)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; half a line at its end (a process that was killed) is skipped.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("epoch"), int):
            entries.append(entry)
    return entries
