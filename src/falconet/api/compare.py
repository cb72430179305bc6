"""Two models on the same pictures: which one is better, and whether so many pictures can tell."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from falconet.api.comparison_page import render_comparison
from falconet.api.evaluation import Evaluation, Results
from falconet.api.require import require
from falconet.core.errors import ConfigError, DataError
from falconet.core.figures import percent, plural
from falconet.core.files import replace_file
from falconet.eval.bootstrap import Drawn, Interval
from falconet.eval.wanted_point import WantedPoint

FEW = 10
"""Pictures below which nothing is said about which of two models is better."""

MARK = "* the interval leaves 0 out; by chance alone one of twenty would"


class Difference(NamedTuple):
    """A figure of both models, and how much the second one has more.

    Attributes:
        name: of the figure, or of the class.
        first, second: fractions; -1 where nothing decides it.
        interval: of `second - first`, from draws of the same pictures for both; None where nothing decides it.
    """

    name: str
    first: float
    second: float
    interval: Interval | None

    @property
    def by(self) -> float:
        """What the second model has more."""
        return self.second - self.first

    @property
    def told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same pictures.

    Attributes:
        first, second: their evaluations.
        figures, classes: differences of each figure, and of AP (or top-1) of each class.
    """

    first: Evaluation
    second: Evaluation
    figures: tuple[Difference, ...]
    classes: tuple[Difference, ...]

    @classmethod
    def of(cls, first: Evaluation, second: Evaluation) -> "Comparison":
        """Compare two evaluations that were made with intervals.

        Raises:
            ConfigError: a detector and a classifier.
            DataError: not the same pictures.
        """
        one, other = first.results, second.results
        if type(one) is not type(other):
            raise ConfigError(f"{first.model.path} and {second.model.path}: a detector and a classifier do not compare")
        pictures = [[record.path for record in results.records] for results in (one, other)]
        if pictures[0] != pictures[1]:
            raise DataError(f"{first.ground_truth.source}: the two models answered different pictures")
        if one.resampled is None or other.resampled is None:
            raise DataError(f"{first.ground_truth.source}: no picture to compare the two models on")
        own, its = one.as_dict(), other.as_dict()
        return cls(
            first,
            second,
            _differences(own, its, one.resampled.values, other.resampled.values) + _at_wanted(one, other),
            _differences(own["per_class"], its["per_class"], one.resampled.per_class, other.resampled.per_class),
        )

    @property
    def names(self) -> tuple[str, str]:
        """What to call the two."""
        first, second = self.first.model, self.second.model
        return (first.name, second.name) if first.name != second.name else (str(first.path), str(second.path))

    @property
    def sentence(self) -> str:
        """What it comes to."""
        main = self.figures[0]
        count = len(self.first.results.records)
        name, pictures = {"top1": "top-1"}.get(main.name, main.name), plural(count, "picture")
        if count < FEW:
            return f"{pictures}: too few to tell two models apart; expected {FEW} at least."
        if main.interval == (0.0, 0.0):
            return f"Both give the same {name} on these {pictures}."
        if main.interval is None:
            return f"Nothing in these {pictures} decides {name}."
        least = (main.interval.high - main.interval.low) / 2
        limit = f"{pictures} cannot tell differences below about {percent(least)}"
        if main.told:
            better = self.names[1] if main.by > 0 else self.names[0]
            low, high = sorted(abs(end) for end in main.interval)
            return f"{better} is better by {percent(abs(main.by))} {name}, {percent(low)} to {percent(high)}; {limit}."
        return (
            f"These {pictures} do not tell which one is better: {self.names[1]} has {_signed(main.by)} "
            f"{name}, {_signed(main.interval.low)} to {_signed(main.interval.high)}; {limit}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Both evaluations and the differences, as fractions."""
        return {
            "first": self.first.as_dict(),
            "second": self.second.as_dict(),
            "differences": {one.name: _plain(one) for one in self.figures},
            "per_class_differences": {one.name: _plain(one) for one in self.classes},
            "sentence": self.sentence,
        }

    def save(self, out: str | Path) -> Path:
        """Write comparison.json, which holds `as_dict`, and comparison.html into the folder `out`; the page's path.

        Raises:
            ConfigError: Jinja2 is not installed.
            DataError: a file cannot be written, or a picture not be read any more.
        """
        require(["jinja2"], extra="eval", purpose="a page")
        page = Path(out) / "comparison.html"
        text = render_comparison(self)
        replace_file(page.with_suffix(".json"), json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n")
        replace_file(page, text)
        return page

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The figures of both in percent, side by side."""
        lines = [f"A  {self.names[0]}", f"B  {self.names[1]}", ""]
        width = max(len(one.name) for one in (*self.figures, *self.classes))
        head = f"{'':<{width}}  {'A':>6}  {'B':>6}  {'B - A':>6}  95 % interval"
        for title, rows in (("", self.figures), ("class", self.classes)):
            lines.append(f"{title:<{width}}{head[width:]}")
            lines += [_row(one, width) for one in rows]
            lines.append("")
        marked = [MARK] if any(one.told for one in (*self.figures, *self.classes)) else []
        return [*lines, *marked, self.sentence]


def _differences(
    first: Mapping[str, float], second: Mapping[str, float], drawn: Mapping[str, Drawn], other: Mapping[str, Drawn]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, first[name], second[name], other[name].less(one).interval)
        for name, one in drawn.items()
        if name in other
    )


def _at_wanted(first: Results, second: Results) -> tuple[Difference, ...]:
    """Recall and precision of two detectors that were asked for the same operating point."""
    wanted, other = (getattr(one, "wanted", None) for one in (first, second))
    if not isinstance(wanted, WantedPoint) or not isinstance(other, WantedPoint):
        return ()
    pairs = (("recall", wanted.promise.recall, other.promise.recall),)
    pairs += (("precision", wanted.promise.precision, other.promise.precision),)
    return tuple(
        Difference(f"{name}, {wanted.wanted.text}", one.value, its.value, its.less(one).interval)
        for name, one, its in pairs
        if not np.isnan(one.value) and not np.isnan(its.value)
    )


def _plain(one: Difference) -> dict[str, Any]:
    return {"first": one.first, "second": one.second, "difference": one.by, "interval": one.interval}


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _row(one: Difference, width: int) -> str:
    if one.interval is None:
        return f"{one.name:<{width}}  {percent(one.first):>6}  {percent(one.second):>6}  {'-':>6}"
    interval = f"{_signed(one.interval.low)} to {_signed(one.interval.high)}"
    mark = "" if not one.told else " *"
    return (
        f"{one.name:<{width}}  {percent(one.first):>6}  {percent(one.second):>6}  {_signed(one.by):>6}  "
        f"{interval}{mark}"
    )
