"""Two models on the same pictures, as a page that needs nothing else."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from falconet.api.evaluation import EVALUATIONS, Evaluation, measured
from falconet.core.charts import around_zero
from falconet.core.cpus import said_busy
from falconet.core.page import render_page
from falconet.core.page_picture import PagePicture
from falconet.eval.differing import LETTERS
from falconet.eval.latency import machine
from falconet.eval.picture import ImageView

SCALE = 3.0
"""How many times as far as those of half the figures an interval may reach on the common scale."""

if TYPE_CHECKING:
    from falconet.api.compare import Comparison, Difference


def render_comparison(comparison: "Comparison") -> str:
    """The page as HTML text. Raises DataError where a picture cannot be read any more."""
    first, second = comparison.first, comparison.second
    counts = first.results.as_dict()
    differing = EVALUATIONS[first.predictor.manifest.task].differing(first.results, second.results)
    values = {
        "models": [
            {"letter": letter, "name": name, "facts": one.facts()}
            for letter, name, one in zip(LETTERS, comparison.names, (first, second), strict=True)
        ],
        "figures": _rows(comparison.figures),
        "classes": _rows(comparison.classes),
        "counts": counts.get("boxes") or counts["pictures_per_class"],
        "counted": "objects" if "boxes" in counts else "images",
        "stages": _stages(first, second),
        "machine": ", ".join(f"{key} {value}" for key, value in machine().items()),
        "busy": said_busy(max(first.busy, second.busy)),
        "galleries": [
            (letter, _read(shown))
            for letter, shown in zip(reversed(LETTERS), (differing.second, differing.first), strict=True)
            if shown
        ],
        "boxes": "boxes" in counts,
        "notes": [
            f"{letter}: {note}" for letter, one in zip(LETTERS, (first, second), strict=True) for note in one.notes
        ],
    }
    title = f"{comparison.names[0]} and {comparison.names[1]} compared"
    lead = [comparison.sentence, measured(first.ground_truth.source)]
    return render_page("falconet.api/pages/comparison.html", values, title=title, lead=lead)


def _rows(differences: "Sequence[Difference]") -> list[dict[str, Any]]:
    """Figures of both and their difference, drawn on a common scale, from which the widest ones may stick out."""
    ends = [max(abs(end) for end in (*one.interval, one.by)) for one in differences if one.interval is not None]
    limit = min(max(ends), SCALE * median(ends)) if ends else 0.0
    return [
        {
            "name": one.name,
            "first": one.first,
            "second": one.second,
            "by": None if one.interval is None else f"{100 * one.by:+.1f}",
            "interval": one.interval and f"{100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f}",
            "told": one.told,
            "chart": one.interval and around_zero(one.by, one.interval, limit=limit, told=one.told),
        }
        for one in differences
    ]


def _stages(first: Evaluation, second: Evaluation) -> list[tuple[str, list[float], float]]:
    """Of each stage that both have: its name, medians and 90th percentiles of both, how many times as long B takes."""
    return [
        (name, [one.p50, one.p90, other.p50, other.p90], other.p50 / max(one.p50, 1e-9))
        for name, one in first.latency.items()
        if (other := second.latency.get(name)) is not None
    ]


def _read(shown: Sequence[Sequence[ImageView]]) -> list[list[PagePicture]]:
    return [[view.read() for view in views] for views in shown]
