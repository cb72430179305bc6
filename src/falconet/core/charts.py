"""Charts as SVG text for pages. Colours come from the page's style sheet (`.s0` ... `.s7`, `.axis`, `.grid`)."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from falconet.core.page import Html

COLOURS = 8
"""Series that can be told apart; the style sheet has as many."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 34


class Series(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """x, y; ascending x. Points that are not finite are left out."""
    muted: bool = False
    """drawn thin and grey, not in the legend."""


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    width: int = 520,
    height: int = 280,
) -> Html:
    """Lines over common axes, with a legend; empty text when no series has a point.

    Args:
        x_range, y_range: ends of the axes; None takes them from the points (y from 0).
    """
    drawn = [(one, [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)]) for one in series]
    drawn = [(one, points) for one, points in drawn if points]
    if not drawn:
        return Html()
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    x_low, x_high = _opened(x_range or (min(xs), max(xs)))
    y_low, y_high = _opened(y_range or (min(0.0, min(ys)), max(ys) * 1.05))
    plot_width, plot_height = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * plot_width
        down = _TOP + (1 - (y - y_low) / (y_high - y_low)) * plot_height
        return across, min(max(down, _TOP), _TOP + plot_height)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" class="chart"><title>{escape(y_label)}</title>']
    parts += axes(place, (x_low, x_high), (y_low, y_high), (width, height), (_LEFT, _RIGHT, _TOP, _BOTTOM))
    parts.append(axis_labels(x_label, y_label, (width, height), (_LEFT, _RIGHT, _TOP, _BOTTOM)))
    parts += [_line(one, [place(x, y) for x, y in points], kind) for (one, points), kind in _with_class(drawn)]
    parts.append("</svg>")
    return Html("".join(parts) + _legend(drawn))


def axes(
    place: Callable[[float, float], tuple[float, float]],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    size: tuple[int, int],
    margins: tuple[int, int, int, int],
) -> list[str]:
    """SVG of a grid, ticks and the lower axis; classes "grid", "tick" and "axis".

    Args:
        place: from values to pixels.
        size: width, height, pixels.
        margins: left, right, top, bottom, pixels.
    """
    (width, height), (left, right, _, bottom) = size, margins
    parts = []
    for value in ticks(*y_range):
        _, down = place(x_range[0], value)
        parts.append(f'<line class="grid" x1="{left}" y1="{down:.1f}" x2="{width - right}" y2="{down:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{down + 4:.1f}" text-anchor="end">{value:g}</text>')
    floor = height - bottom
    for value in ticks(*x_range):
        across, _ = place(value, y_range[0])
        parts.append(f'<text class="tick" x="{across:.1f}" y="{floor + 15}" text-anchor="middle">{value:g}</text>')
    return [*parts, f'<line class="axis" x1="{left}" y1="{floor}" x2="{width - right}" y2="{floor}"/>']


def axis_labels(x_label: str, y_label: str, size: tuple[int, int], margins: tuple[int, int, int, int]) -> str:
    """SVG of what the axes show; class "label"; arguments as of `axes`."""
    (width, height), (left, right, top, bottom) = size, margins
    return (
        f'<text class="label" x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="label" transform="translate(11 {(top + height - bottom) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """At most `most` round numbers in low..high, evenly spaced."""
    span = high - low
    raw = span / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def around_zero(
    value: float, interval: tuple[float, float], *, limit: float, told: bool, width: int = 150, height: int = 16
) -> Html:
    """A difference and its interval, as a dot and a bar about the middle, which is 0.

    Args:
        value: of the difference.
        interval: its ends.
        limit: value at the right end, the negative one at the left; what reaches further ends in an arrow.
        told: whether the interval leaves 0 out; it then has the colour of a gain or of a loss.
    """
    reach, middle = limit or 1.0, height / 2

    def place(at: float) -> float:
        return width / 2 + min(max(at / reach, -1.0), 1.0) * (width / 2 - 8)

    kind = ("gain" if value > 0 else "loss") if told else "open"
    arrows = [
        f'<path d="M{place(end) + side * 7:.1f} {middle:.1f}l{-side * 6} -4v8z"/>'
        for end, side in zip(interval, (-1, 1), strict=True)
        if abs(end) > reach
    ]
    left, right = (place(end) for end in interval)
    return Html(
        f'<svg class="around {kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<line class="axis" x1="{width / 2:.1f}" y1="0" x2="{width / 2:.1f}" y2="{height}"/>'
        f'<line class="reach" x1="{left:.1f}" y1="{middle:.1f}" x2="{right:.1f}" y2="{middle:.1f}"/>'
        f'{"".join(arrows)}<circle cx="{place(value):.1f}" cy="{middle:.1f}" r="3.5"/></svg>'
    )


def _opened(ends: tuple[float, float]) -> tuple[float, float]:
    """The range, widened where it has no extent."""
    low, high = ends
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _with_class(
    drawn: Sequence[tuple[Series, list[tuple[float, float]]]],
) -> list[tuple[tuple[Series, list[tuple[float, float]]], str]]:
    colour = 0
    result = []
    for item in drawn:
        kind = "muted"
        if not item[0].muted:
            kind = f"s{colour % COLOURS}"
            colour += 1
        result.append((item, kind))
    return result


def _line(one: Series, places: list[tuple[float, float]], kind: str) -> str:
    name = escape(one.name)
    if len(places) == 1:
        across, down = places[0]
        return f'<circle class="dot {kind}" cx="{across:.1f}" cy="{down:.1f}" r="3"><title>{name}</title></circle>'
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    return f'<polyline class="line {kind}" points="{path}"><title>{name}</title></polyline>'


def _legend(drawn: Sequence[tuple[Series, list[tuple[float, float]]]]) -> str:
    entries = [
        f'<span><i class="key {kind}"></i>{escape(one.name)}</span>'
        for (one, _), kind in _with_class(drawn)
        if not one.muted
    ]
    return f'<div class="legend">{"".join(entries)}</div>'
