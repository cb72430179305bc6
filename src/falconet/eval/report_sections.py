"""What each section of a report's page shows of it (`falconet.eval.report.SECTIONS`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from falconet.core.charts import COLOURS, Series, line_chart
from falconet.core.figures import percent
from falconet.eval.curves import Confusion
from falconet.eval.picture import ImageView
from falconet.eval.promise import Promise
from falconet.eval.report_content import Report, interval_of

MOST_CLASSES = 20
"""A confusion matrix of more classes than this is shown as a list of its largest entries, so many of them."""

DOUBTED = 5
"""Labels in doubt that are told."""

Values = dict[str, Any]
"""What a template gets as `part`."""

_CARDS = (
    ("AP", "IoU 0.50–0.95"),
    ("AP50", "IoU 0.50"),
    ("AP75", "IoU 0.75"),
    ("APs", "small, below 32²"),
    ("APm", "medium, 32²–96²"),
    ("APl", "large, above 96²"),
    ("AR100", "recall, 100 per picture"),
)
_SHARES = (("top-1", "top1", "the best class is right"), ("top-5", "top5", "one of the best five is"))
_SIZES = (
    ("small", "s", "below 32 × 32 pixels"),
    ("medium", "m", "up to 96 × 96 pixels"),
    ("large", "l", "above 96 × 96 pixels"),
)


def figures(report: Report) -> Values | None:
    """A detector's figures, large."""
    metrics = report.metrics
    if metrics is None:
        return None
    cards = [(percent(metrics[key]), report.interval(key), key, meaning) for key, meaning in _CARDS]
    return {"cards": cards, "resampled": report.resampled is not None}


def accuracy(report: Report) -> Values | None:
    """A classifier's figures, large."""
    if report.accuracy is None:
        return None
    values = report.accuracy.as_dict()
    cards = [(percent(values[key]), report.interval(key), title, meaning) for title, key, meaning in _SHARES]
    return {"cards": cards, "resampled": report.resampled is not None}


def facts(report: Report) -> Values | None:
    """Model and data, and what is worth telling of them."""
    return {"facts": report.facts, "notes": report.notes} if report.facts or report.notes else None


def classes(report: Report) -> Values | None:
    """A detector's classes."""
    metrics = report.metrics
    if metrics is None:
        return None
    drawn = report.resampled
    rows = [
        {
            "name": name,
            "objects": metrics.truths[name],
            "ap": value,
            "interval": report.class_interval(name),
            "ap50": metrics.per_class_ap50[name],
            "ap50_interval": None if drawn is None else interval_of(drawn.per_class_ap50.get(name)),
            "point": report.points.get(name),
            "within": _point_intervals(report.promises.get(name)),
        }
        for name, value in metrics.per_class.items()
    ]
    score = next((point.score for point in report.points.values()), None)
    return {"rows": rows, "score": score, "resampled": bool(report.promises)}


def _point_intervals(promise: Promise | None) -> Mapping[str, str | None]:
    """Those of what a threshold finds and misses, as shares, and of its false boxes in as many pictures."""
    if promise is None:
        return dict.fromkeys(("found", "missed", "false"))
    recall, alarms = promise.intervals["recall"], promise.intervals["alarms"]
    assert alarms is not None
    return {
        "found": recall and f"{recall} %",
        "missed": recall and f"{recall.rest} %",
        "false": f"{promise.images * alarms.low:.0f} to {promise.images * alarms.high:.0f}",
    }


def scores(report: Report) -> Values | None:
    """What detections are worth, over their score: how many are right, or their IoU where scores were to say that."""
    found = report.reliability
    if found is None or not found.told:
        return None
    lines = [Series("as they should be", [(0, 0), (1, 1)], muted=True)]
    rows = (("the model's scores", found.told), ("before calibration", found.own))
    lines += [Series(name, [(one.score, one.right) for one in bins]) for name, bins in rows if bins]
    label = {"precision": "share that is right", "iou": "mean IoU with the object"}[found.target]
    chart = line_chart(lines, x_label="score", y_label=label, x_range=(0, 1), y_range=(0, 1.02))
    return {"charts": [chart], "errors": found.errors, "calibrated": bool(found.own), "target": found.target}


def thresholds(report: Report) -> Values | None:
    """What thresholds for what somebody wants do."""
    wanted = report.wanted
    if wanted is None and not report.stored:
        return None
    rows = [(name, "stored in the model", one.cells()) for name, one in report.stored.items()]
    classes = []
    if wanted is not None:
        rows.append((wanted.wanted.text, "asked for", wanted.promise.cells()))
        own = ((name, one) for name, one in wanted.classes.items() if name not in wanted.shared)
        classes = [(name, f"{wanted.thresholds[name]:.3f}", one.cells()) for name, one in own]
        if wanted.shared:
            others = f"{len(wanted.shared)} others" if classes else "all classes"
            classes.append((others, f"{wanted.common:.3f}", wanted.others.cells()))
    return {"rows": rows, "classes": classes, "wanted": wanted}


def findings(report: Report) -> Values | None:
    """What is odd about the data."""
    return {"rows": report.findings} if report.findings else None


def doubted(report: Report) -> Values | None:
    """Which labels a model doubts that has not learnt from them."""
    if report.doubted is None:
        return None
    shown = [one["sentence"] for one in report.doubted["suspects"][:DOUBTED]]
    return {
        "counts": report.doubted["counts"],
        "labels": report.doubted["labels"],
        "images": report.doubted["images"],
        "first": shown,
        "page": report.doubted_page,
    }


def learning_curve(report: Report) -> Values | None:
    """What more pictures would give."""
    found = report.learning_curve
    if found is None:
        return None
    columns = next(iter(found.expected.values()), ())
    words = ("now", "twice", "four times")
    head = ("class", *(f"{word}, {one.pictures:,}" for one, word in zip(columns, words, strict=False)))
    return {
        "figure": {"top1": "top-1"}.get(found.figure, found.figure),
        "total": found.total,
        "images": found.images,
        "head": head,
        "rows": list(found.expected.items()),
        "sentences": found.sentences,
        "svg": found.svg,
    }


def shares(report: Report) -> Values | None:
    """A classifier's classes."""
    found = report.accuracy
    if found is None:
        return None
    rows = [
        {"name": name, "pictures": found.counts[name], "top1": value, "interval": report.class_interval(name)}
        for name, value in found.per_class.items()
    ]
    return {"rows": rows}


def sizes(report: Report) -> Values | None:
    """Average precision and recall of small, medium and large objects."""
    metrics = report.metrics
    if metrics is None or not any(metrics.sizes.values()):
        return None
    rows = [
        {
            "name": name,
            "meaning": meaning,
            "objects": metrics.sizes[name],
            "ap": metrics[f"AP{letter}"],
            "ap_interval": report.interval(f"AP{letter}"),
            "ar": metrics[f"AR{letter}"],
            "ar_interval": report.interval(f"AR{letter}"),
        }
        for name, letter, meaning in _SIZES
    ]
    return {"rows": rows}


def gallery(views: Sequence[ImageView]) -> Values | None:
    """Pictures, and whether boxes are drawn into them."""
    if not views:
        return None
    return {"pictures": [view.read() for view in views], "boxes": any(view.result is not None for view in views)}


def kinds(report: Report) -> Values | None:
    """Kinds of error; bars are relative to the costliest."""
    if not report.kinds:
        return None
    most = max(kind.cost for kind in report.kinds) or 1.0
    return {"rows": report.kinds, "most": most, "resampled": any(kind.cost_interval for kind in report.kinds)}


def confusion(report: Report) -> Values | None:
    """A detector's confusions: a matrix with shares of each row, or the most frequent ones of many classes."""
    found = report.confusion
    if found is None:
        return None
    if len(found.names) > MOST_CLASSES:
        return {"score": found.score, "rows": None, "pairs": _largest_confusions(found)}
    totals = np.maximum(1, found.matrix.sum(1))
    rows = [
        (name, [(count, count / total) for count in counts])
        for name, counts, total in zip([*found.names, "nothing"], found.matrix.tolist(), totals.tolist(), strict=True)
    ]
    return {"score": found.score, "rows": rows, "head": ("truth \\ detected", *found.names, "not found")}


def _largest_confusions(confusion: Confusion) -> list[tuple[int, str, str]]:
    """(count, true class, class it was taken for), the most frequent first."""
    names = confusion.names
    pairs = [
        (int(confusion.matrix[row, column]), names[row], names[column])
        for row, column in np.argwhere(confusion.matrix[:-1, :-1]).tolist()
        if row != column
    ]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:MOST_CLASSES]


def confused(report: Report) -> Values | None:
    """A classifier's most frequent confusions."""
    if report.accuracy is None or not report.accuracy.confusions:
        return None
    return {"pairs": [(count, true, said) for true, said, count in report.accuracy.confusions[:MOST_CLASSES]]}


def precision_recall(report: Report) -> Values | None:
    """A curve for each class; of many classes thin ones, and their mean."""
    curves = report.curves
    if not curves:
        return None
    many = len(curves) > COLOURS
    lines = [Series(c.name, list(zip(c.recall.tolist(), c.precision.tolist(), strict=True)), many) for c in curves]
    if many:
        mean = np.mean([curve.precision for curve in curves], axis=0)
        recall = curves[0].recall.tolist()
        lines.append(Series(f"mean of {len(curves)} classes", list(zip(recall, mean.tolist(), strict=True))))
    chart = line_chart(lines, x_label="recall", y_label="precision", x_range=(0, 1), y_range=(0, 1.02))
    return {"charts": [chart]}


def training(report: Report) -> Values | None:
    """Losses and figures over the epochs."""
    history = report.history
    if not history:
        return None

    def series(key: str, name: str, entries: Sequence[Mapping[str, Any]], unit: float = 1.0) -> Series:
        points = [(entry["epoch"], entry[key]) for entry in entries if isinstance(entry.get(key), int | float)]
        return Series(name, [(float(x), unit * float(y)) for x, y in points])

    keys = dict.fromkeys(key for entry in history for key in entry)
    losses = [
        series(key, key.removeprefix("loss_"), history) for key in keys if key == "loss" or key.startswith("loss_")
    ]
    # What was measured on a part of the pictures lies on no common line.
    whole = [entry for entry in history if "val_images" not in entry]
    measured = [series(key, key, whole, 100) for key in ("AP", "AP50", "AP75", "top1", "top5") if key in keys]
    charts = [
        line_chart(losses[:COLOURS], x_label="epoch", y_label="loss"),
        line_chart(measured, x_label="epoch", y_label="percent, on the validation data", y_range=(0, 100)),
    ]
    return {"charts": charts} if any(charts) else None


def latency(report: Report) -> Values | None:
    """Milliseconds of each stage, and the machine."""
    if not report.latency:
        return None
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items())
    return {"stages": report.latency, "machine": machine, "busy": report.busy}


def receipt(report: Report) -> Values | None:
    """What an export came to, beside the network it was made from."""
    found = report.receipt
    if found is None:
        return None
    facts = [
        ("file", f"{found['model']}, {found['size'] / 1e6:.2f} MB"),
        ("compared on", f"{found['images']} images"),
        *((one["key"], one["text"]) for one in found["findings"] if one["text"]),
        *((("timed while", found["busy"]),) if found.get("busy") else ()),
        ("verdict", "; ".join(found["problems"]) or "the same within tolerance"),
        ("sha256", str(found["sha256"])),
    ]
    return {"left": found["torch"], "right": found["exported"], "facts": facts}
