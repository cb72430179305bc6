"""Lines of YOLO label files: boxes, polygons, key points, and what could be either."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.dataset import Problem
from falconet.data.yolo_lines import Line, judge, key_points, parse_line

HERE = Path("data.yaml")
POSE = "0 0.5 0.5 0.2 0.2" + " 0.45 0.45" * 7
POSE_FLAGS = (
    "0 0.643712 0.548266 0.0960109 0.057663 0.595707 0.519435 2 0.646533 0.526217 2 0.682304 0.548261 2 0.69 0.577 2"
)
GLUED = "0 0.5 0.5 0.2 0.20 0.3 0.3 0.1 0.1"


def _line(text: str, points: tuple[int, int] | None = None) -> Line:
    line = parse_line(text, 2, points)
    assert isinstance(line, Line)
    return line


def _judged(texts: list[str]) -> list[bool]:
    """For each line, whether it counts as a polygon."""
    lines = [_line(text) for text in texts]
    doubtful = [line for line in lines if line.doubtful]
    columns = Counter(line.columns for line in lines if line.columns > 5)
    judged = iter(judge(doubtful, columns, HERE))
    return [next(judged) if line.doubtful else True for line in lines]


def _text(values: np.ndarray) -> str:
    return "0 " + " ".join(f"{value:.6g}" for value in np.asarray(values).ravel())


def _star(rng: np.random.Generator, points: int) -> str:
    """A polygon around a point, whose sides do not cross."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radii = rng.uniform(0.02, 0.1) * rng.uniform(0.6, 1, points)
    return _text(rng.uniform(0.1, 0.9, 2) + np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1))


def _pose(rng: np.random.Generator, points: int, numbers: int) -> str:
    sides = rng.uniform(0.05, 0.5, 2)
    centre = rng.uniform(sides / 2, 1 - sides / 2)
    columns = [centre + rng.uniform(-0.5, 0.5, (points, 2)) * sides]
    if numbers == 3:
        columns.append(rng.integers(0, 3, (points, 1)))
    return f"{_text(np.concatenate([centre, sides]))} {_text(np.concatenate(columns, 1))[2:]}"


def test_with_kpt_shape_the_first_five_numbers_are_the_box() -> None:
    assert _line(POSE, (7, 2)).corners == pytest.approx((0.4, 0.4, 0.6, 0.6))
    # Seven points are announced, four with a flag are there: the box is certain.
    assert _line(POSE_FLAGS, (7, 2)).corners == pytest.approx((0.5957, 0.5194, 0.6917, 0.5771), abs=1e-4)
    assert _line("1 0.5 0.5 0.2 0.2", (7, 2)).corners == pytest.approx((0.4, 0.4, 0.6, 0.6))
    assert not _line(POSE, (7, 2)).doubtful
    two = parse_line("0 0.5 0.5 0.2 0.2 1 0.3 0.3 0.1 0.1", 2, (7, 2))
    assert isinstance(two, Problem)
    assert (
        "expected 'class cx cy width height' and 7 x 2 numbers of key points, as 'kpt_shape' says. Left out" in two.what
    )


def test_even_lines_with_flags_ask_for_kpt_shape() -> None:
    found = parse_line("0 0.5 0.5 0.2 0.2" + " 0.45 0.45 2" * 17, 1, None)
    assert isinstance(found, Problem)
    assert "key points need 'kpt_shape: [17, 3]' in the .yaml" in found.what
    found = parse_line("0 0.5 0.5 0.2 0.2 0 0.3 0.3 0.1 0.1", 1, None)
    assert isinstance(found, Problem)
    assert "'class cx cy width height', one object per line. Left out" in found.what


@pytest.mark.parametrize("text", [POSE, POSE_FLAGS, GLUED])
def test_what_may_be_boxes_is_no_polygon(text: str) -> None:
    assert _judged([text]) == [False]
    assert _judged(["0 0.5 0.5 0.2 0.2", text]) == [True, False]


@pytest.mark.parametrize("text", [POSE, GLUED])
def test_kpt_shape_null_makes_polygons(text: str) -> None:
    assert not _line(text, (0, 0)).doubtful


def test_polygons_of_many_lengths_are_polygons() -> None:
    rng = np.random.default_rng(0)
    assert sum(_judged([_star(rng, int(rng.integers(4, 40))) for _ in range(200)])) >= 198


@pytest.mark.parametrize("points", [3, 6, 10])
def test_polygons_of_one_length_are_polygons(points: int) -> None:
    rng = np.random.default_rng(points)
    assert sum(_judged([_star(rng, points) for _ in range(200)])) >= 196


def test_turned_rectangles_are_polygons_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        angle, sides = rng.uniform(0, np.pi), rng.uniform(0.01, 0.1, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = rng.uniform(0.2, 0.8, 2) + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * sides) @ turn.T
        assert _judged([_text(corners)]) == [True]


@pytest.mark.parametrize(("points", "numbers"), [(1, 2), (2, 2), (7, 2), (17, 2), (2, 3), (4, 3), (8, 3)])
def test_key_points_throughout_are_refused(points: int, numbers: int) -> None:
    rng = np.random.default_rng(points)
    lines = [_pose(rng, points, numbers) for _ in range(60)]
    assert not any(_judged(lines[:3]))
    with pytest.raises(
        DataError, match=r"60 label lines have \d+ numbers, which may be polygons, boxes with key points"
    ):
        _judged(lines)


def test_kpt_shape() -> None:
    assert key_points({}, HERE) is None
    assert key_points({"kpt_shape": None}, HERE) == (0, 0)
    assert key_points({"kpt_shape": [17, 3]}, HERE) == (17, 3)
    for wrong in ([17], "17, 3", [17, 4], [-1, 2], [17, "3"], 17):
        with pytest.raises(DataError, match=r"'kpt_shape' is .*; expected \[points, 2 or 3\], or null for none"):
            key_points({"kpt_shape": wrong}, HERE)
