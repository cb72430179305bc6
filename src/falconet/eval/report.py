"""An evaluation as one HTML file that needs nothing else: no network, no script, pictures and charts inside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from falconet.core.charts import COLOURS, Series, line_chart
from falconet.core.errors import DataError
from falconet.core.figures import percent
from falconet.core.files import replace_file
from falconet.eval.accuracy import Accuracy
from falconet.eval.bootstrap import Drawn, Resampled
from falconet.eval.coco_ap import Metrics
from falconet.eval.curves import Confusion, Curve, ErrorKind
from falconet.eval.latency import Latency
from falconet.eval.operating_point import OperatingPoint
from falconet.eval.picture import ImageView, render_image

MOST_CLASSES = 20
"""A confusion matrix of more classes than this is shown as a list of its largest entries."""


@dataclass(frozen=True, slots=True)
class Report:
    """What goes into a report. Parts that are empty are left out.

    Attributes:
        title: above everything.
        lead: what it comes to, in sentences.
        facts: (what, value) about model and data.
        metrics: of a detector.
        accuracy: of a classifier.
        resampled: how far the figures of either may be off.
        points: what happens to each class above the model's own score threshold.
        curves, confusion, kinds: see `falconet.eval.curves`.
        worst, best: pictures to show.
        history: one dictionary per epoch, as in a run's metrics.jsonl.
        latency: by stage; `machine` says where it was measured.
        receipt: of the export, as in its JSON file.
        notes: what is worth telling, pictures left out for example.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    lead: Sequence[str] = ()
    points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    metrics: Metrics | None = None
    accuracy: Accuracy | None = None
    resampled: Resampled | None = None
    curves: Sequence[Curve] = ()
    confusion: Confusion | None = None
    kinds: Sequence[ErrorKind] = ()
    worst: Sequence[ImageView] = ()
    best: Sequence[ImageView] = ()
    history: Sequence[Mapping[str, Any]] = ()
    latency: Mapping[str, Latency] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


def write_report(report: Report, path: Path) -> None:
    """Write the page. Raises DataError when it cannot be written or a picture cannot be read."""
    replace_file(path, render(report))


def render(report: Report) -> str:
    """The page as HTML text."""
    style = files("falconet.core").joinpath("pages/style.css").read_text(encoding="utf-8")
    sections = [
        _summary(report.metrics, report.resampled) if report.metrics is not None else "",
        _accuracy(report.accuracy, report.resampled) if report.accuracy is not None else "",
        _section("Model and data", _pairs(report.facts) + _notes(report.notes)),
        _section("Classes", _classes(report) if report.metrics is not None else ""),
        _section("Training", _training(report.history)),
        _section("Precision over recall (IoU 0.5)", _precision_recall(report.curves)),
        _section("What goes wrong", _kinds(report.kinds)),
        _section("Confusion", _confusion(report.confusion)),
        _section("Worst pictures", _gallery(report.worst)),
        _section("Best pictures", _gallery(report.best)),
        _section("Time per picture", _latency(report.latency, report.machine)),
        _section("Export receipt", _receipt(report.receipt)),
    ]
    lead = "".join(f'<p class="lead">{escape(sentence)}</p>' for sentence in report.lead)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{style}</style></head>"
        f"<body><main><h1>{escape(report.title)}</h1>{lead}{''.join(sections)}</main></body></html>\n"
    )


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


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """Cells are HTML: whoever fills them escapes. The first column is text, the others are numbers."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


AP_IN_WORDS = (
    "Average precision (AP), in percent: 100 finds every object, exactly, and nothing else. It averages over all score "
    "thresholds and over how exactly a box has to fit; AP50 is content with boxes that cover the object by half (IoU)."
)


def _within(drawn: Drawn | None) -> str:
    """The interval of a figure, in brackets."""
    interval = None if drawn is None else drawn.interval
    return "" if interval is None else f'<small class="interval">{interval}</small>'


HOW_FAR = (
    "Below each figure: the 95 % interval that other pictures of the same kind would give (bootstrap over pictures)."
)


def _summary(metrics: Metrics, resampled: Resampled | None) -> str:
    drawn = {} if resampled is None else resampled.values
    cards = [("AP", "IoU 0.50–0.95"), ("AP50", "IoU 0.50"), ("AP75", "IoU 0.75"), ("APs", "small, below 32²")]
    cards += [("APm", "medium, 32²–96²"), ("APl", "large, above 96²"), ("AR100", "recall, 100 per picture")]
    tiles = [
        f"<div><b>{percent(metrics[key])}</b>{_within(drawn.get(key))}<span>{key}</span>"
        f"<small>{escape(meaning)}</small></div>"
        for key, meaning in cards
    ]
    hint = f"{AP_IN_WORDS} {HOW_FAR}" if drawn else AP_IN_WORDS
    return f'<div class="cards">{"".join(tiles)}</div><p class="hint">{hint}</p>'


def _accuracy(accuracy: Accuracy, resampled: Resampled | None) -> str:
    """Top-1 and top-5, classes, and what is taken for what."""
    drawn = {} if resampled is None else resampled.values
    classes_drawn = {} if resampled is None else resampled.per_class
    cards = [("top-1", "top1", "the best class is right"), ("top-5", "top5", "one of the best five is")]
    tiles = [
        f"<div><b>{percent(accuracy.as_dict()[key])}</b>{_within(drawn.get(key))}<span>{title}</span>"
        f"<small>{text}</small></div>"
        for title, key, text in cards
    ]
    classes = [
        (escape(name), str(accuracy.counts[name]), bar(value, percent(value)) + _within(classes_drawn.get(name)))
        for name, value in accuracy.per_class.items()
    ]
    hint = f"Shares of images in percent. {HOW_FAR}" if drawn else "Shares of images in percent."
    wrong = [(f"{escape(true)} taken for {escape(said)}", str(count)) for true, said, count in accuracy.confusions[:20]]
    return (
        f'<div class="cards">{"".join(tiles)}</div><p class="hint">{hint}</p>'
        + _section("Classes", _table(("class", "images", "top-1"), classes))
        + _section("Confusion", _table(("the most frequent confusions", "images"), wrong) if wrong else "")
    )


def _pairs(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in facts)
    return f"<dl>{rows}</dl>" if rows else ""


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    entries = "".join(f"<li>{escape(note)}</li>" for note in notes)
    title = "1 note" if len(notes) == 1 else f"{len(notes)} notes"
    opened = " open" if len(notes) <= 5 else ""
    return f"<details{opened}><summary>{title}</summary><ul>{entries}</ul></details>"


def _classes(report: Report) -> str:
    metrics, points = report.metrics, report.points
    drawn = {} if report.resampled is None else report.resampled.per_class
    assert metrics is not None
    rows = []
    for name, value in metrics.per_class.items():
        point = points.get(name)
        counts = ("–", "–", "–") if point is None else (str(point.found), str(point.missed), str(point.false))
        ap50 = percent(metrics.per_class_ap50[name])
        rows.append(
            (
                escape(name),
                str(metrics.truths[name]),
                bar(value, percent(value)) + _within(drawn.get(name)),
                ap50,
                *counts,
            )
        )
    table = _table(("class", "objects", "AP", "AP50", "found", "missed", "false"), rows)
    score = next((point.score for point in points.values()), None)
    hint = "" if score is None else f'<p class="hint">Found, missed and false: with scores above {score:.2f}.</p>'
    return table + hint


def _training(history: Sequence[Mapping[str, Any]]) -> str:
    def series(key: str, name: str, unit: float = 1.0) -> Series:
        points = [(e["epoch"], e[key]) for e in history if isinstance(e.get(key), int | float)]
        return Series(name, [(float(x), unit * float(y)) for x, y in points])

    keys = dict.fromkeys(key for entry in history for key in entry)
    losses = [series(key, key.removeprefix("loss_")) for key in keys if key == "loss" or key.startswith("loss_")]
    # What was measured on a part of the pictures lies on no common line.
    history = [entry for entry in history if "val_images" not in entry]
    figures = [series(key, key, 100) for key in ("AP", "AP50", "AP75", "top1", "top5") if key in keys]
    charts = [
        line_chart(losses[:COLOURS], x_label="epoch", y_label="loss"),
        line_chart(figures, x_label="epoch", y_label="percent, on the validation data", y_range=(0, 100)),
    ]
    return f'<div class="charts">{"".join(f"<div>{chart}</div>" for chart in charts if chart)}</div>' if history else ""


def _precision_recall(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    many = len(curves) > COLOURS
    lines = [Series(c.name, list(zip(c.recall.tolist(), c.precision.tolist(), strict=True)), many) for c in curves]
    if many:
        mean = np.mean([curve.precision for curve in curves], axis=0)
        recall = curves[0].recall.tolist()
        lines.append(Series(f"mean of {len(curves)} classes", list(zip(recall, mean.tolist(), strict=True))))
    chart = line_chart(lines, x_label="recall", y_label="precision", x_range=(0, 1), y_range=(0, 1.02))
    return f'<div class="charts"><div>{chart}</div></div>'


def _kinds(kinds: Sequence[ErrorKind]) -> str:
    if not kinds:
        return ""
    most = max(kind.cost for kind in kinds) or 1.0
    rows = [
        (
            f"{escape(kind.name)}<small>{escape(kind.meaning)}</small>",
            str(kind.count),
            bar(kind.cost / most, f"{100 * kind.cost:.1f}"),
        )
        for kind in kinds
    ]
    hint = (
        "AP50 that would be won, in points, if only this kind of error were repaired (TIDE). Counts are of all "
        "detections that entered the figures, also of those below the model's threshold."
    )
    return _table(("kind of error", "count", "AP50 lost"), rows) + f'<p class="hint">{hint}</p>'


def _confusion(confusion: Confusion | None) -> str:
    if confusion is None:
        return ""
    hint = f'<p class="hint">Detections with a score above {confusion.score:g}, IoU above 0.5.</p>'
    if len(confusion.names) > MOST_CLASSES:
        return _largest_confusions(confusion) + hint
    labels = [*confusion.names, "nothing"]
    rows = []
    for row, name in enumerate(labels):
        counts = confusion.matrix[row]
        total = max(1, int(counts.sum()))
        cells = [_heat(int(count), int(count) / total, right=row == column) for column, count in enumerate(counts)]
        rows.append((escape(name), *cells))
    head = ("truth \\ detected", *confusion.names, "not found")
    return _table(head, rows, kind="matrix") + hint


def _heat(count: int, share: float, *, right: bool) -> str:
    if not count:
        return '<span class="zero">·</span>'
    kind = "hit" if right else "miss"
    return f'<span class="{kind}" style="--share:{0.12 + 0.6 * share:.2f}">{count}</span>'


def _largest_confusions(confusion: Confusion) -> str:
    size = len(confusion.names)
    pairs = [
        (int(confusion.matrix[row, column]), confusion.names[row], confusion.names[column])
        for row in range(size)
        for column in range(size)
        if row != column and confusion.matrix[row, column]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [(f"{escape(truth)} taken for {escape(found)}", str(count)) for count, truth, found in pairs[:20]]
    return _table(("the most frequent confusions", "count"), rows) if rows else "<p>No class is taken for another.</p>"


def _gallery(views: Sequence[ImageView]) -> str:
    if not views:
        return ""
    legend = ""
    if any(view.result is not None for view in views):
        legend = (
            '<p class="hint boxes"><span class="right">right</span> <span class="false">false</span> '
            '<span class="missed">missed</span></p>'
        )
    return f'{legend}<div class="gallery">{"".join(render_image(view) for view in views)}</div>'


def _latency(latency: Mapping[str, Latency], machine: Mapping[str, str]) -> str:
    if not latency:
        return ""
    rows = [
        (escape(name), *(f"{value:.2f}" for value in (one.p50, one.p90, one.p99, one.mean)), str(one.calls))
        for name, one in latency.items()
    ]
    where = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = _table(("stage, milliseconds", "median", "90 %", "99 %", "mean", "pictures"), rows)
    return f'{table}<p class="hint">{escape(where)}</p>'


def _receipt(receipt: Mapping[str, Any] | None) -> str:
    if receipt is None:
        return ""
    left, right = receipt["torch"], receipt["exported"]
    rows = [(name, percent(value), percent(right["metrics"][name])) for name, value in left["metrics"].items()]
    rows.append(("milliseconds", f"{left['milliseconds']:.2f}", f"{right['milliseconds']:.2f}"))
    facts = [
        ("file", f"{receipt['model']}, {receipt['size'] / 2**20:.2f} MB"),
        ("compared on", f"{receipt['images']} images"),
        *((one["key"], one["text"]) for one in receipt["findings"] if one["text"]),
        ("verdict", "; ".join(receipt["problems"]) or "the same within tolerance"),
        ("sha256", str(receipt["sha256"])),
    ]
    return _table(("", str(left["name"]), str(right["name"])), rows) + _pairs(facts)


def bar(fraction: float, number: str) -> str:
    """A small horizontal bar and its number for a table cell; `fraction` 0..1, `number` is HTML."""
    width = 100 * min(max(fraction, 0), 1)
    return f'<span class="bar"><span style="width:{width:.1f}%"></span></span><span class="number">{number}</span>'
