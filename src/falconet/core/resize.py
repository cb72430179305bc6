"""Fit a picture to the network input. Training, evaluation, export and the runtime all use this function."""

import cv2
import numpy as np

from falconet.core.manifest import Preprocess, ResizeRule
from falconet.core.types import Pixels, Placement


def resize(
    image: Pixels, preprocess: Preprocess, *, original: tuple[int, int] | None = None
) -> tuple[Pixels, Placement]:
    """`image` at the size and by the rule of a network input; see `resize_to`."""
    size = preprocess.height, preprocess.width
    return resize_to(image, size, preprocess.resize, preprocess.pad_value, original=original)


def resize_to(
    image: Pixels,
    size: tuple[int, int],
    rule: ResizeRule = "stretch",
    pad_value: int = 114,
    *,
    original: tuple[int, int] | None = None,
) -> tuple[Pixels, Placement]:
    """`image` at a size, with bilinear interpolation; a side that shrinks by two or more is averaged first.

    Args:
        image: uint8 [H, W, 3].
        size: (height, width), pixels.
        rule: "stretch" changes the aspect ratio to fill the size; "letterbox" keeps it, centres the image and fills
            the rest with `pad_value`.
        original: (height, width) of the picture as stored, when `image` was decoded at a reduced scale; boxes
            are mapped back to those pixels.

    Returns:
        uint8 [height, width, 3] and the placement that maps boxes between original and input pixels.
    """
    height, width = size
    stored_height, stored_width = original or image.shape[:2]
    if rule == "stretch":
        inner_height, inner_width = height, width
    else:
        ratio = min(height / stored_height, width / stored_width)
        inner_height = min(height, max(1, round(stored_height * ratio)))
        inner_width = min(width, max(1, round(stored_width * ratio)))
    resized = image
    if image.shape[:2] != (inner_height, inner_width):
        resized = halved(image, at_least=(inner_height, inner_width))
        resized = np.asarray(cv2.resize(resized, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR), np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    if (inner_height, inner_width) != (height, width):
        canvas = np.full((height, width, 3), pad_value, np.uint8)
        canvas[top : top + inner_height, left : left + inner_width] = resized
        resized = canvas
    placement = Placement(
        scale=(inner_width / stored_width, inner_height / stored_height),
        offset=(float(left), float(top)),
        original=(stored_height, stored_width),
    )
    return np.ascontiguousarray(resized), placement


def halved(image: Pixels, *, at_least: tuple[int, int]) -> Pixels:
    """`image` with each side halved, by the mean of neighbours, as often as it stays at least (height, width).

    Bilinear interpolation looks at two pixels a side, however many there are for one of the result: fine texture would
    come out as noise. Halving is what interpolation does fast, and what it does exactly: a value in the middle of two
    pixels is their mean. A JPEG decoded at a reduced scale is averaged in the same way.
    """
    while True:
        height, width = image.shape[:2]
        smaller = (
            height // 2 if height >= 2 * at_least[0] else height,
            width // 2 if width >= 2 * at_least[1] else width,
        )
        if smaller == (height, width):
            return image
        image = np.asarray(cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
