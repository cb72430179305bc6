"""Named points over two axes, as an SVG file that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from falconet.core.charts import axes, axis_labels

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 34, 48
_LETTER, _LINE, _GAP = 6.5, 14.0, 7.0
_RISES = (-6.0, 14.0, *(side * (22.0 + 16.0 * step) for step in range(9) for side in (-1, 1)))
"""How far below its point a name may stand, the nearest first."""
_INK, _GRID, _DOT = "#333", "#ddd", "#1666b0"


class Point(NamedTuple):
    """A point and its name."""

    name: str
    x: float
    y: float
    between: Sequence[float] | None = None
    """From where to where y may lie."""


def scatter(
    points: Sequence[Point],
    *,
    title: str,
    x_label: str,
    y_label: str,
    width: int = 720,
    height: int = 440,
    limit: float | None = None,
) -> str:
    """The points with their names, over axes that hold them with some room; x from 0.

    Args:
        limit: of x, marked by a line.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("a picture of points needs at least one")
    x_high = max(limit or 0.0, *(point.x for point in points)) * 1.15 or 1.0
    reached = [y for point in points for y in (point.y, *(point.between or ()))]
    low, high = min(reached), max(reached)
    room = 0.12 * (high - low) or 1.0
    low, high = low - room, high + room
    across, down = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x / x_high * across, _TOP + (1 - (y - low) / (high - low)) * down

    size, margins = (width, height), (_LEFT, _RIGHT, _TOP, _BOTTOM)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}"><title>{escape(title)}</title>'
        f"<style>.grid {{ stroke: {_GRID} }} .axis {{ stroke: {_INK} }}</style>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *axes(place, (0, x_high), (low, high), size, margins),
        axis_labels(x_label, y_label, size, margins),
    ]
    if limit is not None:
        x = place(limit, low)[0]
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_TOP + down}" stroke="{_INK}" stroke-dasharray="4 4"/>')
    taken: list[tuple[float, float, float, float]] = []
    for point in points:
        x, y = place(point.x, point.y)
        if point.between is not None:
            ends = [place(point.x, value)[1] for value in point.between]
            parts.append(f'<path d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="{_DOT}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_DOT}"/>')
        parts.append(_label(point.name, x, y, taken, right=_LEFT + across, bottom=_TOP + down))
    return "".join(parts) + "</svg>\n"


def _label(
    name: str, x: float, y: float, taken: list[tuple[float, float, float, float]], *, right: float, bottom: float
) -> str:
    """A name beside its point, where no name was written before; a line leads to one that had to go further away."""
    wide = _LETTER * len(name)
    ways = [(end, rise) for rise in _RISES for end in (x + _GAP + wide > right, x + _GAP + wide <= right)]
    boxes = [(x - _GAP - wide if end else x + _GAP, y + rise - _LINE, wide, _LINE) for end, rise in ways]
    inside = [
        (box, way)
        for box, way in zip(boxes, ways, strict=True)
        if box[0] >= 0 and box[0] + wide <= right + _RIGHT and box[1] >= _TOP - _LINE and box[1] + _LINE <= bottom
    ]
    free = [one for one in inside if not any(_meet(one[0], other) for other in taken)]
    box, (end, rise) = (free or inside or list(zip(boxes, ways, strict=True)))[0]
    taken.append(box)
    edge = x - _GAP if end else x + _GAP
    lead = f'<path d="M{x:.1f} {y:.1f}L{edge:.1f} {y + rise - 4:.1f}" stroke="{_GRID}"/>' if abs(rise) > _LINE else ""
    anchor = "end" if end else "start"
    return f'{lead}<text x="{edge:.1f}" y="{y + rise:.1f}" text-anchor="{anchor}">{escape(name)}</text>'


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )
