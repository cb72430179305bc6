"""A learning curve drawn as an SVG that stands alone: trainings as points, the curve, the band in which it lies."""

import math
from html import escape
from typing import NamedTuple

import numpy as np

from falconet.api.curve_result import TIMES, Curve
from falconet.core.charts import axis_labels, ticks
from falconet.core.figures import percent
from falconet.eval.bootstrap import TAIL
from falconet.eval.growth import Growth

_WIDTH, _HEIGHT = 720, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 30, 40, 70
_FLOOR = _HEIGHT - _BOTTOM
_LEGEND = 28
_STEPS = 60
"""Places at which the curve is drawn."""

_STYLE = (
    "svg{background:#fff;color:#333;--grid:#ddd;--curve:#1666b0}"
    "@media (prefers-color-scheme:dark){svg{background:#161b22;color:#d0d7de;--grid:#30363d;--curve:#58a6ff}}"
    "text{fill:currentColor}.grid{stroke:var(--grid)}.axis{stroke:currentColor}.band{fill:var(--curve);opacity:.15}.here{opacity:.25}"
    ".line{fill:none;stroke:var(--curve);stroke-width:2}.more{stroke-dasharray:6 5}.dot{fill:var(--curve)}"
    ".end{stroke:var(--curve)}.now{stroke:currentColor;stroke-dasharray:3 4}"
)


class _Frame(NamedTuple):
    """What the axes show: pictures, logarithmic, and percent."""

    first: float
    last: float
    low: float
    high: float

    def across(self, pictures: float) -> float:
        return _LEFT + math.log(pictures / self.first) / math.log(self.last / self.first) * (_WIDTH - _LEFT - _RIGHT)

    def down(self, value: float) -> float:
        return _TOP + (1 - (100 * value - self.low) / (self.high - self.low)) * (_FLOOR - _TOP)

    def points(self, pictures: np.ndarray, values: np.ndarray) -> str:
        rows = zip(pictures.tolist(), values.tolist(), strict=True)
        return " ".join(f"{self.across(x):.1f},{self.down(y):.1f}" for x, y in rows)


def picture(curve: Curve) -> str:
    """The SVG: how high single trainings come, with as many pictures as were trained on and more."""
    total, growth = curve.total, curve.curves.everywhere
    places = np.geomspace(growth.smallest, max(TIMES) * total, _STEPS)
    band, here = _band(growth, places), _band(curve.curves.here, places)
    middle = np.array([np.median(curve.curves.here.mean(one)) for one in places])
    values = [one.reached.value for one in curve.trained]
    low, high = 100 * min(*values, band.min()), 100 * max(*values, band.max())
    room = max(1.0, 0.06 * (high - low))
    frame = _Frame(places[0], places[-1], max(0.0, low - room), min(100.0, high + room))
    twice = curve.predicted[1]
    title = f"{curve.figure} with twice the pictures: {percent(twice.value)} ({twice.interval})"
    if curve.falls:
        title = f"{curve.figure} falls with more pictures: the trainings are too short"
    before, after = places <= total * 1.001, places >= total * 0.97
    edge = frame.across(total)
    size, margins = (_WIDTH, _HEIGHT - _LEGEND), (_LEFT, _RIGHT, _TOP, _BOTTOM - _LEGEND)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_axes(curve, frame),
        axis_labels("training pictures", f"{curve.figure}, %", size, margins),
        _polygon("band", frame, places, band),
        _polygon("band here", frame, places, here),
        *_legend(curve.images),
        f'<path class="now" d="M{edge:.1f} {_TOP}V{_FLOOR}"/>',
        f'<polyline class="line" points="{frame.points(places[before], middle[before])}"/>',
        f'<polyline class="line more" points="{frame.points(places[after], middle[after])}"/>',
        *_dots(curve, frame),
    ]
    return "".join(parts) + "</svg>\n"


def _band(growth: Growth, places: np.ndarray) -> np.ndarray:
    """[N, 2] between where and where 95 % of trainings come."""
    return np.array([np.quantile(growth.one(one), (TAIL, 1 - TAIL)) for one in places])


def _polygon(kind: str, frame: _Frame, places: np.ndarray, band: np.ndarray) -> str:
    border = frame.points(np.concatenate([places, places[::-1]]), np.concatenate([band[:, 0], band[::-1, 1]]))
    return f'<polygon class="{kind}" points="{border}"/>'


def _legend(images: int) -> list[str]:
    """What the bands hold, below the axis."""
    told = (f"95 % of trainings, on these {images:,} validation pictures", "on others of the kind, too")
    parts = []
    for place, (kind, text) in enumerate(zip(("band here", "band"), told, strict=True)):
        x, y = _LEFT + 340 * place, _HEIGHT - 18
        parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="18" height="11"/>')
        parts.append(f'<text x="{x + 26}" y="{y + 10}">{text}</text>')
    return parts


def _axes(curve: Curve, frame: _Frame) -> list[str]:
    """Lines for round percentages; a number for each part that was trained on, and for each that is asked about."""
    parts = []
    for value in ticks(frame.low, frame.high):
        down = frame.down(value / 100)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{down:.1f}" x2="{_WIDTH - _RIGHT}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{_FLOOR}" x2="{_WIDTH - _RIGHT}" y2="{_FLOOR}"/>')
    marked = sorted({one.pictures for one in curve.trained} | {one.pictures for one in curve.predicted})
    for pictures in marked:
        across = frame.across(pictures)
        parts.append(f'<text x="{across:.1f}" y="{_FLOOR + 16}" text-anchor="middle">{pictures:,}</text>')
    return parts


def _dots(curve: Curve, frame: _Frame) -> list[str]:
    """What was measured, filled; what is expected, with its interval."""
    parts = []
    for one in curve.trained:
        told = f"{one.pictures:,} pictures, seed {one.seed}: {percent(one.reached.value)}"
        x, y = frame.across(one.pictures), frame.down(one.reached.value)
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{told}</title></circle>')
    for pictures, value, interval, *_ in curve.predicted[1:]:
        x, ends = frame.across(pictures), [frame.down(one) for one in interval]
        told = f"{percent(value)}, {interval}"
        parts.append(f'<path class="end" d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}"><title>{told}</title></path>')
    return parts
