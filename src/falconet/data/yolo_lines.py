"""Lines of YOLO label files: a box, a polygon, or a box with key points.

`class cx cy width height` is a box, `class x y x y x y ...` a polygon, and `class cx cy width height` with
coordinates of key points behind it is what pose models are trained on; numbers are fractions of the picture. A polygon
and a box with key points may have the same number of columns. The description of the data set says `kpt_shape: [points,
numbers per point]` where it has key points (docs.ultralytics.com, "Pose Estimation Datasets Overview"); where it does
not, the numbers decide as far as they can, and what is left unclear is left out and said.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from falconet.core.errors import DataError
from falconet.data.dataset import Problem

KeyPoints = tuple[int, int]
"""(points, numbers per point: 2, or 3 with a flag)"""

Corners = tuple[float, float, float, float]

_SLACK = 0.01
_OUTSIDE = 0.1
"""Share of a box's side by which its key points may leave it."""
_LONG = 64
"""Points from which on a polygon is not tested for crossing itself."""
_MOST = 0.7
"""Share of the lines of one length that are doubtful, from which on they are no polygons; of polygons it is about half
(small ones in the lower right of the picture), of boxes with key points nearly all."""
_SYSTEMATIC = 10
"""Unclear lines of one length that are no accident any more."""


class Line(NamedTuple):
    """What a line says."""

    label: int
    corners: Corners
    """0..1"""
    columns: int
    doubtful: bool = False
    """may as well be a box with key points, or several boxes."""
    simple: bool = True
    """as a polygon, does not cross itself."""


def key_points(tree: dict[str, Any], path: Path) -> KeyPoints | None:
    """What `kpt_shape` of the description `path` says; (0, 0) where it says there are none, None where it is absent.

    Raises:
        DataError: it is no pair of numbers.
    """
    if "kpt_shape" not in tree:
        return None
    shape = tree["kpt_shape"]
    if shape is None:
        return 0, 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(number) is int for number in shape):
        raise DataError(f"{path}: 'kpt_shape' is {shape}; expected [points, 2 or 3], or null for none")
    points, numbers = (int(number) for number in shape)
    if points < 0 or numbers not in (2, 3):
        raise DataError(f"{path}: 'kpt_shape' is {list(shape)}; expected [points, 2 or 3], or null for none")
    return (points, numbers) if points else (0, 0)


def expected_columns(points: KeyPoints | None) -> int | None:
    """How many numbers a line with key points has; None where there are none."""
    return 5 + points[0] * points[1] if points and points[0] else None


def parse_line(line: str, num_classes: int, points: KeyPoints | None) -> Line | Problem:
    """What a line says, or what is wrong with it (without its place).

    The class just behind the last is let through: the ids of a data set may count from 1, which one line cannot tell.
    """
    try:
        numbers = [float(word) for word in line.split()]
        label = int(numbers[0])
    except (ValueError, OverflowError, IndexError):
        numbers, label = [], 0
    if not _expected(len(numbers), points) or label != numbers[0]:
        shown = line.strip() if len(line) <= 80 else line[:77] + "..."
        what = f"the line is '{shown}'; expected 'class cx cy width height'{_hint(numbers, points)}. Left out"
        return Problem("", what, "bad-annotation")
    if not 0 <= label <= num_classes:
        return Problem("", unknown_class(label, num_classes), "unknown-class")
    columns, values = len(numbers), numbers[1:]
    if columns == 5 or (points and points[0]):
        return Line(label, _box(values), columns)
    xs, ys = values[0::2], values[1::2]
    corners = (min(xs), min(ys), max(xs), max(ys))
    if points is not None or _is_rectangle(values) or not _may_be_boxes(values):
        return Line(label, corners, columns)
    return Line(label, corners, columns, doubtful=True, simple=_is_simple(values) and not _has_flags(values))


def unknown_class(label: int, num_classes: int) -> str:
    """What is said of a class that is not listed."""
    return f"class {label} is not one of 0..{num_classes - 1}; left out"


def judge(lines: Sequence[Line], columns: Counter[int], source: Path) -> list[bool]:
    """For each of the doubtful `lines`, whether it is a polygon after all.

    Polygons of a data set differ in their number of points, and few of them look like a box with its key points;
    boxes with key points are all of one length and all look so.

    Args:
        columns: how many lines that could be polygons the data set has, by their number of columns.

    Raises:
        DataError: lines of some length are unclear throughout.
    """
    doubtful = Counter(line.columns for line in lines)
    varied = len(columns) >= 3 and any(count % 4 != 1 for count in columns)
    few = {count for count, number in doubtful.items() if number < _MOST * columns[count]}
    accepted = [line.simple and (varied or line.columns in few) for line in lines]
    refused = Counter(line.columns for line, taken in zip(lines, accepted, strict=True) if not taken)
    for count, number in refused.items():
        if number >= _SYSTEMATIC and number >= _MOST * columns[count]:
            raise DataError(
                f"{source}: {columns[count]} label lines have {count} numbers, which may be polygons, boxes with key "
                "points, or several boxes without a line break; write 'kpt_shape: [points, numbers per point]' into a "
                "data set's .yaml for key points, 'kpt_shape: null' for polygons"
            )
    return accepted


def unclear(line: Line) -> str:
    """What is said of a line that is left out."""
    return (
        f"the line has {line.columns} numbers, which may be a polygon, a box with key points (then 'kpt_shape' has to "
        "stand in the .yaml) or several boxes without a line break; left out"
    )


def _expected(columns: int, points: KeyPoints | None) -> bool:
    if points and points[0]:
        # The box is certain, also where the number of key points differs.
        return columns >= 5 and ((columns - 5) % 2 == 0 or (columns - 5) % 3 == 0)
    return columns >= 5 and columns % 2 == 1


def _hint(numbers: list[float], points: KeyPoints | None) -> str:
    if points and points[0]:
        return f" and {points[0]} x {points[1]} numbers of key points, as 'kpt_shape' says"
    if points is None and len(numbers) > 8 and _has_flags(numbers[1:]):
        return f" (key points need 'kpt_shape: [{(len(numbers) - 5) // 3}, 3]' in the .yaml)"
    if len(numbers) > 8 and len(numbers) % 5 == 0:
        return ", one object per line"
    return ""


def _box(values: Sequence[float]) -> Corners:
    cx, cy, width, height = values[:4]
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def _may_be_boxes(values: Sequence[float]) -> bool:
    """Whether the numbers may be a box and its key points, or several boxes."""
    if not _is_box(values[:4]):
        return False
    if _has_flags(values) or (
        len(values) % 4 == 0 and all(_is_box(values[i : i + 4]) for i in range(4, len(values), 4))
    ):
        return True
    x1, y1, x2, y2 = _box(values)
    margin_x, margin_y = _OUTSIDE * (x2 - x1) + _SLACK, _OUTSIDE * (y2 - y1) + _SLACK
    return all(
        (x == 0 and y == 0) or (x1 - margin_x <= x <= x2 + margin_x and y1 - margin_y <= y <= y2 + margin_y)
        for x, y in zip(values[4::2], values[5::2], strict=True)
    )


def _is_box(values: Sequence[float]) -> bool:
    x1, y1, x2, y2 = _box(values)
    return -_SLACK <= x1 < x2 <= 1 + _SLACK and -_SLACK <= y1 < y2 <= 1 + _SLACK


def _has_flags(values: Sequence[float]) -> bool:
    """Whether every third number behind a box is 0, 1 or 2, as the visibility of key points is."""
    flags = values[6::3]
    return len(values) >= 7 and (len(values) - 4) % 3 == 0 and all(flag in (0, 1, 2) for flag in flags)


def _is_rectangle(values: Sequence[float]) -> bool:
    """Whether four points are about the corners of a rectangle in order, turned or not."""
    if len(values) != 8:
        return False
    corners = np.array(values, np.float64).reshape(4, 2)
    extent = corners.max(0) - corners.min(0)
    skew = np.abs(corners[0] - corners[1] + corners[2] - corners[3])
    return bool((extent > 0).all() and (skew <= 0.25 * extent).all() and _is_simple(values))


def _is_simple(values: Sequence[float]) -> bool:
    """Whether a polygon has an area, no corner twice in a row, and no sides that cross."""
    points = np.array(values, np.float64).reshape(-1, 2)
    if len(points) > _LONG:
        return True
    following = np.roll(points, -1, 0)
    area = np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1])
    if abs(area) < 1e-9 or (points == following).all(1).any():
        return False
    # Sides a and b cross where each has its ends on both sides of the other.
    start, end = points[:, None], following[:, None]
    first, second = _turn(start, end, points[None]), _turn(start, end, following[None])
    apart = first * second < -1e-15
    return not bool((apart & apart.T).any())


def _turn(start: Any, end: Any, point: Any) -> Any:
    """Twice the signed area of a triangle."""
    along, across = end - start, point - start
    return along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]
