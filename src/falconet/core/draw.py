"""Boxes drawn into pictures, and contact sheets."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from falconet.core.resize import resize_to
from falconet.core.types import Floats, Ints, Pixels

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618034


def class_colour(label: int) -> tuple[int, int, int]:
    """The colour (blue, green, red) of a class index: always the same, neighbours far apart."""
    hue = (0.02 + label * _GOLDEN) % 1.0
    saturation = (0.85, 0.6)[label // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_boxes(
    image: Pixels,
    boxes: Floats,
    labels: Ints,
    names: Sequence[str],
    scores: Floats | None = None,
) -> Pixels:
    """A copy of `image` with boxes, class names and, if given, scores drawn in.

    Args:
        image: uint8 [H, W, 3], blue-green-red.
        boxes: [N, 4] xyxy in pixels of `image`; drawn last to first, so that the first (best) lies on top.
        labels: [N] index into `names`; "class N" is written where a name is missing.
        scores: [N] 0..1.
    """
    canvas = np.ascontiguousarray(image).copy()
    boxes = np.nan_to_num(np.asarray(boxes, np.float32).reshape(-1, 4), posinf=2**15, neginf=-(2**15))
    corners = np.clip(np.rint(boxes), -(2**15), 2**15).astype(int).tolist()
    unit = max(1.0, min(image.shape[:2]) / 480)
    order = range(len(corners) - 1, -1, -1)
    for index in order:
        x1, y1, x2, y2 = corners[index]
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), class_colour(int(labels[index])), round(2 * unit))
    for index in order:
        label = int(labels[index])
        text = names[label] if 0 <= label < len(names) else f"class {label}"
        if scores is not None:
            text = f"{text} {float(scores[index]):.2f}"
        _write(canvas, text, corners[index], class_colour(label), unit)
    return canvas


def draw_lines(image: Pixels, lines: Sequence[str]) -> Pixels:
    """A copy of `image`, uint8 [H, W, 3], with lines of text in its upper left corner, readable on any ground."""
    canvas = np.ascontiguousarray(image).copy()
    unit = max(0.6, min(image.shape[:2]) / 480)
    for index, text in enumerate(lines, start=1):
        place = (round(6 * unit), round(22 * unit) * index)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            width = max(1, round(thickness * unit))
            cv2.putText(canvas, text, place, _FONT, 0.6 * unit, colour, width, cv2.LINE_AA)
    return canvas


def grid(images: Sequence[Pixels], columns: int, *, cell: tuple[int, int] = (240, 320), gap: int = 4) -> Pixels:
    """A contact sheet: pictures of any size, each fitted into a cell of (height, width) pixels, row after row.

    Raises:
        ValueError: no picture, or fewer than one column.
    """
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, but got {len(images)} and {columns}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = cell
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        fitted, _ = resize_to(image, (height, width), "letterbox", 235)
        sheet[top : top + height, left : left + width] = fitted
    return sheet


def _write(canvas: Pixels, text: str, box: Sequence[int], colour: tuple[int, int, int], unit: float) -> None:
    """`text` on a plate above the box, or inside it where there is no room; moved into the picture."""
    height, width = canvas.shape[:2]
    scale, thickness, margin = 0.45 * unit, max(1, round(unit)), round(3 * unit)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    plate_width, plate_height = text_width + 2 * margin, text_height + baseline + margin
    left = max(0, min(box[0], width - plate_width))
    top = box[1] - plate_height if box[1] >= plate_height else box[1]
    top = max(0, min(top, height - plate_height))
    cv2.rectangle(canvas, (left, top), (left + plate_width, top + plate_height), colour, cv2.FILLED)
    blue, green, red = colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 130 else (255, 255, 255)
    origin = (left + margin, top + text_height + margin // 2 + 1)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)
