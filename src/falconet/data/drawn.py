"""A drawn detection data set: the demonstration and the tests need no pictures from elsewhere.

Plain shapes of six classes on muted, textured backgrounds, turned a little, each class mostly in its own colour,
filled plainly, with a gradient, stripes or noise, partly hiding one another; lines, arcs and slats distract. The
longer side of a shape is 5% to 60% of the shorter side of the picture. A box covers the whole shape inside the
picture, hidden parts included; no shape is hidden by more than `MAX_HIDDEN` of its pixels, or lies outside the
picture by more than `MAX_OUTSIDE` of them. About one picture in twelve has no shape at all.

Every picture depends on (seed, split, index) alone, and only on integer arithmetic of OpenCV, so the same seed
writes the same bytes, whatever the number of pictures.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.errors import DataError
from falconet.core.files import replace_file
from falconet.core.images import write_image
from falconet.core.types import Floats, Ints, Pixels, Sample

NAMES = ("disc", "ring", "square", "triangle", "star", "cross")
SMALLEST, LARGEST = 0.05, 0.6
MAX_TURN = np.pi / 8
MAX_HIDDEN = 0.5
MAX_OUTSIDE = 0.3
_EMPTY = 0.08
_MAX_SHAPES = 7
_TRIES = 12
_SHIFT = 4
_JPEG_QUALITY = 92


def write_drawn_dataset(
    folder: Path,
    *,
    train: int = 600,
    val: int = 120,
    seed: int = 0,
    size: tuple[int, int] = (288, 320),
) -> None:
    """Write `train` and `val` pictures of `size` (height, width) as COCO JSON to `folder`.

    The files are `train.json`, `val.json`, and the pictures `training/000000.jpg`, ..., `val/000000.jpg`, ... The
    annotation files are written last.

    Raises:
        DataError: a count below 1, sides below 64 pixels, or the folder cannot be written.
    """
    if train < 1 or val < 1 or min(size) < 64:
        raise DataError(
            f"{folder}: cannot draw {train} + {val} pictures of {size[1]} x {size[0]} pixels; "
            "expected at least 1 of each and sides of at least 64"
        )
    trees = {split: _write_split(folder, split, count, seed, size) for split, count in (("train", train), ("val", val))}
    for split, tree in trees.items():
        replace_file(folder / f"{split}.json", json.dumps(tree, indent=1))


def draw_sample(seed: int, split: str, index: int, size: tuple[int, int]) -> Sample:
    """Picture `index` of a split: uint8 [height, width, 3] with boxes in its pixels."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    height, width = size
    image = _background(rng, height, width)
    _distract(image, rng, int(rng.integers(0, 7)))
    boxes, labels = _place_shapes(image, rng)
    _distract(image, rng, int(rng.integers(0, 2)))
    return Sample(_lighting(image, rng), boxes, labels)


def _write_split(folder: Path, split: str, count: int, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        sample = draw_sample(seed, split, index, size)
        name = f"{index:06d}.jpg"
        write_image(folder / split / name, sample.image, jpeg_quality=_JPEG_QUALITY)
        images.append({"id": index + 1, "file_name": name, "height": size[0], "width": size[1]})
        for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            annotations.append(coco_annotation(len(annotations) + 1, coco_result(index + 1, label, box)))
    info = {"description": f"drawn by falconet, seed {seed}, split {split}"}
    return {"info": info, "images": images, "annotations": annotations, "categories": coco_categories(NAMES)}


def _noise(rng: Generator, height: int, width: int, cell: int) -> Pixels:
    """Smooth noise [height, width] with features of about `cell` pixels, in bit-exact arithmetic."""
    small = rng.integers(0, 256, (max(2, height // cell + 2), max(2, width // cell + 2)), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _blend(first: Pixels, second: Pixels, weight: Pixels) -> Pixels:
    """first * (1 - weight / 255) + second * weight / 255, in whole numbers; weight [H, W]."""
    part = weight[..., None].astype(np.uint16)
    mixed = first * (255 - part) + second * part
    # (v + 128 + (v + 128) / 256) / 256 is v / 255, rounded, for every v up to 255 * 255.
    mixed += 128
    return np.asarray(mixed + (mixed >> 8) >> 8, np.uint8)


def _colour(rng: Generator) -> Pixels:
    return rng.integers(20, 236, 3, np.uint8)


def _muted(rng: Generator) -> Pixels:
    """A greyish colour, blue, green, red."""
    grey = rng.integers(50, 206)
    return np.asarray(np.clip(grey + rng.integers(-25, 26, 3), 0, 255), np.uint8)


def _background(rng: Generator, height: int, width: int) -> Pixels:
    """Two or three colours mixed by noise of several scales, and grain."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _muted(rng)
    for _ in range(int(rng.integers(1, 3))):
        weight = np.zeros((height, width), np.uint16)
        shares = rng.integers(1, 6, 3).tolist()
        for cell, share in zip((64, 16, 5), shares, strict=True):
            weight += _noise(rng, height, width, cell) * np.uint16(share)
        weight //= sum(shares)
        weight = np.clip(weight.astype(np.int16) * 2 - 128, 0, 255)
        other = np.empty_like(image)
        other[:] = _muted(rng)
        image = _blend(image, other, weight.astype(np.uint8))
    grain = rng.integers(-10, 11, (height, width, 1), np.int16) * int(rng.integers(0, 3)) // 2
    return np.asarray(np.clip(image.astype(np.int16) + grain, 0, 255), np.uint8)


def _distract(image: Pixels, rng: Generator, count: int) -> None:
    """Draw lines, open arcs and slats, none of which is a class, into `image`."""
    height, width = image.shape[:2]
    for _ in range(count):
        colour = tuple(_colour(rng).tolist())
        start = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        end = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        thickness = int(rng.integers(1, 4))
        match int(rng.integers(0, 3)):
            case 0:
                cv2.line(image, start, end, colour, thickness, cv2.LINE_AA)
            case 1:
                radius = int(rng.integers(8, height // 4))
                begin = int(rng.integers(0, 360))
                cv2.ellipse(image, start, (radius, radius // 2), 0, begin, begin + 120, colour, thickness, cv2.LINE_AA)
            case _:
                slat = (start[0] + int(rng.integers(30, 90)), start[1] + int(rng.integers(3, 7)))
                cv2.rectangle(image, start, slat, colour, cv2.FILLED)


def _place_shapes(image: Pixels, rng: Generator) -> tuple[Floats, Ints]:
    """Paint shapes into `image`; their boxes [G, 4] and labels [G]."""
    height, width = image.shape[:2]
    owner = np.full((height, width), -1, np.int16)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    counts: list[int] = []
    visible = np.zeros(0, np.int64)
    for _ in range(0 if rng.random() < _EMPTY else int(rng.integers(1, _MAX_SHAPES + 1))):
        for _ in range(_TRIES):
            label = int(rng.integers(0, len(NAMES)))
            mask, left, top, whole = _shape(rng, label, height, width)
            inside = mask >= 128
            window = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
            covered = owner[window][inside]
            count = len(covered)
            hidden = np.bincount(covered[covered >= 0], minlength=len(counts))
            if count < (1 - MAX_OUTSIDE) * whole or (visible - hidden < (1 - MAX_HIDDEN) * np.array(counts)).any():
                continue
            image[window] = _blend(image[window], _fill(image[window], inside, label, rng), mask)
            owner[window][inside] = len(labels)
            visible = np.append(visible - hidden, count)
            boxes.append(_box(inside, left, top))
            labels.append(label)
            counts.append(count)
            break
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


def _shape(rng: Generator, label: int, height: int, width: int) -> tuple[Pixels, int, int, float]:
    """A mask, 0..255, of a shape inside the picture, its left and top, and the pixels of the whole shape."""
    # The longer side of its box.
    extent = float(rng.uniform(SMALLEST, LARGEST)) * min(height, width)
    centre = rng.uniform((0, 0), (width, height))
    turn = float(rng.uniform(-MAX_TURN, MAX_TURN)) - np.pi / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outlines = [outline @ rotation.T for outline in _OUTLINES[NAMES[label]]]
    scale = extent / float(np.ptp(outlines[0], axis=0).max())
    # The outline lies within 0.75 extents of its centre: a triangle's corner is the farthest.
    left, top = (max(0, int(value - 0.75 * extent)) for value in centre)
    right, bottom = (
        min(side, int(value + 0.75 * extent) + 2) for side, value in zip((width, height), centre, strict=True)
    )
    outlines = [outline * scale + centre - (left, top) for outline in outlines]
    mask = np.zeros((bottom - top, right - left), np.uint8)
    area = 0.0
    for outline, colour, sign in zip(outlines, (255, 0), (1, -1), strict=False):
        points = np.rint(outline * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [points], colour, cv2.LINE_AA, _SHIFT)
        area += sign * float(cv2.contourArea(outline.astype(np.float32)))
    return mask, left, top, area


def _circle(points: int, radius: float = 1.0, first: float = 0.0) -> Floats:
    angles = first + np.arange(points) * (2 * np.pi / points)
    return np.asarray(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), np.float32)


def _star() -> Floats:
    outline = np.empty((10, 2), np.float32)
    outline[0::2] = _circle(5)
    outline[1::2] = _circle(5, 0.42, np.pi / 5)
    return outline


def _cross() -> Floats:
    arm = 0.3
    quarter = np.array([[0.95, -arm], [0.95, arm], [arm, arm]], np.float32)
    turn = np.array([[0, -1], [1, 0]], np.float32)
    parts = [quarter]
    for _ in range(3):
        parts.append(parts[-1] @ turn.T)
    return np.concatenate(parts)


# Corners of each class within the unit circle; a second outline is a hole.
_OUTLINES: dict[str, tuple[Floats, ...]] = {
    "disc": (_circle(64),),
    "ring": (_circle(64), _circle(64, 0.55)),
    "square": (_circle(4),),
    "triangle": (_circle(3),),
    "star": (_star(),),
    "cross": (_cross(),),
}


# Blue, green, red around which a class is painted; learning the shape pays, since colours vary and overlap.
_PAINT: dict[str, NDArray[np.int64]] = {
    "disc": np.array([60, 60, 215]),
    "ring": np.array([215, 120, 50]),
    "square": np.array([70, 180, 70]),
    "triangle": np.array([50, 200, 225]),
    "star": np.array([200, 60, 190]),
    "cross": np.array([205, 205, 70]),
}


def _fill(image: Pixels, inside: NDArray[np.bool_], label: int, rng: Generator) -> Pixels:
    """Paint for a shape, of the size of `image`, around the colour of its class: it stands out from what it covers."""
    height, width = image.shape[:2]
    behind = image[inside].mean(axis=0) if inside.any() else np.full(3, 128.0)
    for _ in range(_TRIES):
        first = np.clip(_PAINT[NAMES[label]] + rng.integers(-45, 46, 3), 0, 255).astype(np.uint8)
        if np.abs(first - behind).sum() >= 150:
            break
    paint = np.empty((height, width, 3), np.uint8)
    paint[:] = first
    second = np.clip(first.astype(np.int16) + rng.integers(-70, 71, 3), 0, 255).astype(np.uint8)
    other = np.empty_like(paint)
    other[:] = second
    match int(rng.integers(0, 4)):
        case 0:
            return paint
        case 1:
            ramp = np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, 0)
            return _blend(paint, other, ramp)
        case 2:
            period = int(rng.integers(4, 13))
            stripes = (np.add.outer(np.arange(height), np.arange(width)) // period % 2 * 255).astype(np.uint8)
            return _blend(paint, other, stripes)
        case _:
            return _blend(paint, other, _noise(rng, height, width, int(rng.integers(3, 20))))


def _box(inside: NDArray[np.bool_], left: int, top: int) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(inside.any(0)) + left, np.flatnonzero(inside.any(1)) + top
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _lighting(image: Pixels, rng: Generator) -> Pixels:
    """Overall brightness, a shadow over the picture, and sensor noise."""
    height, width = image.shape[:2]
    gain = int(rng.integers(90, 150))
    shade = 255 - (_noise(rng, height, width, 160).astype(np.uint16) * int(rng.integers(0, 80)) >> 8)
    lit = image.astype(np.uint16) * (shade * gain >> 8)[..., None].astype(np.uint16) >> 7
    noise = rng.integers(-6, 7, image.shape, np.int8)
    return np.asarray(np.clip(lit.astype(np.int16) + noise, 0, 255), np.uint8)
