"""Named points over two axes, as an SVG file that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from falconet.eval.charts import axes, axis_labels

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 34, 48
_INK, _GRID, _DOT = "#333", "#ddd", "#1666b0"


class Point(NamedTuple):
    """A point and its name."""

    name: str
    x: float
    y: float


def scatter(
    points: Sequence[Point], *, title: str, x_label: str, y_label: str, width: int = 720, height: int = 440
) -> str:
    """The points with their names, over axes that hold them with some room; x from 0.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("a picture of points needs at least one")
    x_high = max(point.x for point in points) * 1.15 or 1.0
    low, high = min(point.y for point in points), max(point.y for point in points)
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
    for point in points:
        x, y = place(point.x, point.y)
        end = x > _LEFT + 0.75 * across
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_DOT}"/>'
            f'<text x="{x + (-7 if end else 7):.1f}" y="{y - 6:.1f}" text-anchor="{"end" if end else "start"}">'
            f"{escape(point.name)}</text>"
        )
    return "".join(parts) + "</svg>\n"
