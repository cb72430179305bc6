"""Augmentation: all geometry in one affine matrix and one warp onto the network input, then one colour matrix.

The ranges are those NanoDet trains with (https://github.com/RangiLyu/nanodet, Apache-2.0, `warp.py` and `color.py`).
As there, each change of colour is drawn for half of the pictures. Differences: there, each step builds a picture or a
float copy of it; here the picture is read once, from the decoded pixels, and stays uint8. Boxes go through the same
matrix as the pixels.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from falconet.core import boxes as box_ops
from falconet.core.config import Config
from falconet.core.manifest import Preprocess
from falconet.core.resize import halved
from falconet.core.types import Floats, Ints, Pixels, Sample

Matrix = NDArray[np.float64]
Range = tuple[float, float]

_GREY = np.array([0.114, 0.587, 0.299])
"""Weights of blue, green and red in brightness (ITU-R BT.601)."""


class Augment(Config):
    """How strongly training pictures are varied; ranges are drawn uniformly."""

    strength: float = Field(default=1.0, ge=0, le=2, description="factor on every range below; 0 turns all off")
    scale: Range = Field(default=(0.6, 1.4), description="zoom")
    stretch: Range = Field(default=(0.8, 1.2), description="further zoom of width and height, each on its own")
    translate: float = Field(
        default=0.2,
        ge=0,
        le=0.5,
        description="largest shift, share of the input's sides; a picture made smaller goes anywhere in it",
    )
    rotate: float = Field(default=0.0, ge=0, le=180, description="largest turn, degrees")
    shear: float = Field(default=0.0, ge=0, le=60, description="largest shear, degrees")
    flip: float = Field(default=0.5, ge=0, le=1, description="probability of a left-right flip")
    flip_vertical: float = Field(
        default=0.0, ge=0, le=1, description="probability of a top-bottom flip, for pictures that have no up"
    )
    brightness: float = Field(default=0.2, ge=0, le=1, description="largest shift, share of the full range")
    contrast: Range = Field(default=(0.6, 1.4), description="factor")
    saturation: Range = Field(default=(0.5, 1.2), description="factor")
    hue: float = Field(default=0.0, ge=0, le=180, description="largest turn of the colours, degrees")
    colour_chance: float = Field(
        default=0.5, ge=0, le=1, description="probability of each change of brightness, contrast, saturation and hue"
    )
    min_visible: float = Field(default=0.1, ge=0, le=1, description="boxes that keep less of their area are dropped")
    min_side: float = Field(default=2.0, ge=0, description="boxes with a shorter side are dropped, input pixels")
    mosaic: float = Field(default=0.0, ge=0, le=1, description="probability of joining four pictures into one")
    mosaic_close: float = Field(default=0.1, ge=0, le=1, description="share of the epochs, at the end, without mosaic")

    @field_validator("scale", "stretch", "contrast", "saturation")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected [smallest, largest] with 0 < smallest <= largest")
        return value

    def range(self, value: Range) -> Range:
        """`value` drawn towards 1 (or away from it) by the strength; never below 0.05."""
        return max(0.05, 1 + (value[0] - 1) * self.strength), 1 + (value[1] - 1) * self.strength

    def largest_zoom(self) -> float:
        """The most any picture is enlarged over the plain fit."""
        return max(1.0, self.range(self.scale)[1] * self.range(self.stretch)[1])


@dataclass(frozen=True, slots=True)
class Geometry:
    """One draw of the geometric ranges, about the picture's centre.

    Attributes:
        zoom: (x, y) factors over the plain fit.
        shift: (x, y) shares of the input's sides.
        flip: (left-right, top-bottom).
        angle: radians, clockwise as displayed.
        shear: (x, y) radians.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    flip: tuple[bool, bool] = (False, False)
    angle: float = 0.0
    shear: tuple[float, float] = (0.0, 0.0)


def draw_geometry(config: Augment, rng: np.random.Generator) -> Geometry:
    """One geometry of `config`'s ranges. The number of draws does not depend on the configuration."""
    scale = rng.uniform(*config.range(config.scale))
    zoom_x, zoom_y = scale * rng.uniform(*config.range(config.stretch), size=2)
    room = [max(config.translate * config.strength, (1 - zoom) / 2) for zoom in (zoom_x, zoom_y)]
    shift_x, shift_y = rng.uniform(-1, 1, size=2) * room
    drawn, chances = rng.uniform(size=2), np.array([config.flip, config.flip_vertical]) * min(1.0, config.strength)
    across, down = (drawn < chances).tolist()
    angle = math.radians(rng.uniform(-1, 1) * config.rotate * config.strength)
    shear_x, shear_y = np.radians(rng.uniform(-1, 1, size=2) * min(60.0, config.shear * config.strength))
    return Geometry(
        (float(zoom_x), float(zoom_y)),
        (float(shift_x), float(shift_y)),
        (across, down),
        angle,
        (float(shear_x), float(shear_y)),
    )


def geometry_matrix(
    geometry: Geometry, *, source: tuple[int, int], target: tuple[int, int], keep_ratio: bool
) -> Matrix:
    """The matrix [2, 3] from pixels of the picture to pixels of the input, in continuous coordinates.

    Args:
        geometry: what is done about the centre.
        source: (height, width) of the picture.
        target: (height, width) of the network input.
        keep_ratio: the plain fit keeps the aspect ratio (letterbox) instead of filling the input (stretch).
    """
    fit_x, fit_y = target[1] / source[1], target[0] / source[0]
    if keep_ratio:
        fit_x = fit_y = min(fit_x, fit_y)
    scale_x = fit_x * geometry.zoom[0] * (-1 if geometry.flip[0] else 1)
    scale_y = fit_y * geometry.zoom[1] * (-1 if geometry.flip[1] else 1)
    cos, sin = math.cos(geometry.angle), math.sin(geometry.angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    shear = np.array([[1.0, math.tan(geometry.shear[0])], [math.tan(geometry.shear[1]), 1.0]])
    linear = rotation @ shear @ np.diag([scale_x, scale_y])
    centre = np.array([target[1] * (0.5 + geometry.shift[0]), target[0] * (0.5 + geometry.shift[1])])
    offset = centre - linear @ np.array([source[1] / 2, source[0] / 2])
    return np.column_stack([linear, offset])


def warp_boxes(boxes: Floats, matrix: Matrix) -> Floats:
    """The upright boxes [N, 4] around the warped corners of boxes [N, 4]; not clipped."""
    if len(boxes) == 0:
        return np.zeros((0, 4), np.float32)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float64)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([moved.min(1), moved.max(1)], axis=1).astype(np.float32)


def warp_pixels(image: Pixels, matrix: Matrix, *, height: int, width: int, pad_value: int) -> Pixels:
    """`image` warped by `matrix` (continuous coordinates) onto height x width, bilinear.

    A side that shrinks by two or more is first halved, as on the device.
    """
    scales = np.linalg.norm(matrix[:, :2], axis=0)  # along the picture's x and y
    rows, columns = (max(1, round(side * scale)) for side, scale in zip(image.shape[:2], scales[::-1], strict=True))
    smaller = halved(image, at_least=(rows, columns))
    if smaller is not image:
        factor = np.array([image.shape[1] / smaller.shape[1], image.shape[0] / smaller.shape[0]])
        image, matrix = smaller, np.column_stack([matrix[:, :2] * factor, matrix[:, 2]])
    # OpenCV counts from the middle of a pixel, boxes from its corner.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    warped = cv2.warpAffine(
        image,
        centred,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(pad_value,) * 3,
    )
    return np.asarray(warped, np.uint8)


def keep_visible(boxes: Floats, labels: Ints, config: Augment, *, height: int, width: int) -> tuple[Floats, Ints]:
    """Boxes [N, 4] clipped to the input, and their labels, without those that became too small or left it."""
    clipped = box_ops.clip(boxes, height=height, width=width)
    share = box_ops.area(clipped) / np.maximum(box_ops.area(boxes), 1e-6)
    sides = clipped[:, 2:] - clipped[:, :2]
    keep = (share >= config.min_visible) & (sides.min(1, initial=np.inf) >= max(config.min_side, 1e-3))
    return clipped[keep], labels[keep]


def warp_ignored(boxes: Floats, matrix: Matrix, *, height: int, width: int) -> Floats:
    """Areas [I, 4] warped and clipped to the input, without those that left it."""
    clipped = box_ops.clip(warp_boxes(boxes, matrix), height=height, width=width)
    return clipped[box_ops.area(clipped) > 0]


def colour_matrix(config: Augment, rng: np.random.Generator) -> Matrix:
    """The matrix [3, 4] of one draw of brightness, contrast, saturation and hue, for pixels 0..255.

    The number of draws does not depend on the configuration.
    """
    brightness = rng.uniform(-1, 1) * config.brightness * config.strength * 255
    contrast = rng.uniform(*config.range(config.contrast))
    saturation = rng.uniform(*config.range(config.saturation))
    hue = math.radians(rng.uniform(-1, 1) * min(180.0, config.hue * config.strength))
    changed = rng.uniform(size=4) < config.colour_chance
    drawn, neutral = (brightness, contrast, saturation, hue), (0.0, 1.0, 1.0, 0.0)
    brightness, contrast, saturation, hue = np.where(changed, drawn, neutral).tolist()
    mix = contrast * (saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))) @ hue_matrix(hue)
    return np.column_stack([mix, np.full(3, contrast * brightness)])


def hue_matrix(angle: float) -> Matrix:
    """The matrix [3, 3] for pixels blue, green, red that turns colours by `angle` (radians) about the axis of greys.

    Greys stay as they are.
    """
    third, cos, sin = 1 / 3, math.cos(angle), math.sin(angle)
    turn = sin * math.sqrt(third) * np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    return cos * np.eye(3) + (1 - cos) * third * np.ones((3, 3)) + turn


def augment(sample: Sample, config: Augment, preprocess: Preprocess, rng: np.random.Generator) -> Sample:
    """`sample` varied and placed onto the network input.

    Args:
        sample: the picture as decoded, boxes in its pixels.
        config: ranges.
        preprocess: size of the input and whether the fit keeps the aspect ratio.
        rng: the only source of chance.

    Returns:
        uint8 [height, width, 3] of the input; boxes in input pixels, clipped.
    """
    height, width = preprocess.height, preprocess.width
    matrix = geometry_matrix(
        draw_geometry(config, rng),
        source=(sample.image.shape[0], sample.image.shape[1]),
        target=(height, width),
        keep_ratio=preprocess.resize == "letterbox",
    )
    colours = colour_matrix(config, rng)
    image = warp_pixels(sample.image, matrix, height=height, width=width, pad_value=preprocess.pad_value)
    boxes, labels = keep_visible(warp_boxes(sample.boxes, matrix), sample.labels, config, height=height, width=width)
    ignored = warp_ignored(sample.ignored, matrix, height=height, width=width)
    return Sample(recolour(image, colours), boxes, labels, ignored)


def recolour(image: Pixels, matrix: Matrix) -> Pixels:
    """`image` through a colour matrix [3, 4]; rounded and limited to 0..255."""
    if np.array_equal(matrix, np.eye(3, 4)):
        return image
    return np.asarray(cv2.transform(image, matrix), np.uint8)
