"""A picture as it stands in a page: a JPEG inside an SVG, boxes drawn on top (macro `figure` of pages/parts.html)."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from falconet.core.images import encode_image, read_image
from falconet.core.types import Pixels

LONGEST_SIDE = 480
"""Pixels; larger pictures are made smaller."""


class PictureBox(NamedTuple):
    """A box on a picture.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the picture at full size.
        kind: how it is drawn, a class of the style sheet: "right", "false", "missed", or "marked" with its "twin"
            among "plain" ones.
        title: shown where the pointer rests.
        label: written into it; empty: nothing.
    """

    corners: Sequence[float]
    kind: str
    title: str
    label: str = ""

    @property
    def place(self) -> tuple[float, float, float, float]:
        """Left, top, width and height; of corners that are the wrong way round, too."""
        x1, y1, x2, y2 = self.corners
        return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A picture for a page.

    Attributes:
        name: of the file.
        width, height: at full size.
        jpeg: in base64, at most `LONGEST_SIDE` pixels long.
        boxes: the last one is on top.
        caption: below the name.
        room: share of the sides by which boxes outside the picture may widen the view.
    """

    name: str
    width: int
    height: int
    jpeg: str
    boxes: Sequence[PictureBox] = ()
    caption: str = ""
    room: float = 0.0

    @classmethod
    def read(
        cls,
        path: Path,
        boxes: Sequence[PictureBox] = (),
        *,
        caption: str = "",
        room: float = 0.0,
        longest_side: int = LONGEST_SIDE,
    ) -> "PagePicture":
        """That in a file; boxes whose corners are not finite are left out.

        Raises:
            DataError: the picture cannot be read.
        """
        image, original = read_image(path, at_least=(longest_side, longest_side))
        return cls.of(image, original, path.name, boxes, caption=caption, room=room, longest_side=longest_side)

    @classmethod
    def of(
        cls,
        image: Pixels,
        original: tuple[int, int],
        name: str,
        boxes: Sequence[PictureBox] = (),
        *,
        caption: str = "",
        room: float = 0.0,
        longest_side: int = LONGEST_SIDE,
    ) -> "PagePicture":
        """That of pixels, uint8 [H, W, 3], possibly at a reduced scale; (height, width) at full size as `original`."""
        shrink = longest_side / max(image.shape[:2])
        if shrink < 1:
            size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = base64.b64encode(encode_image(image, ".jpg", jpeg_quality=80)).decode()
        drawn = [box for box in boxes if all(math.isfinite(value) for value in box.corners)]
        return cls(name, original[1], original[0], data, drawn, caption, room)

    @property
    def view(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of what is shown: the picture, and what of the boxes lies beside it."""
        corners = [(x, y, x + width, y + height) for x, y, width, height in (box.place for box in self.boxes)]
        lows = [max(0.0 - self.room * side, min([0.0, *(one[axis] for one in corners)])) for axis, side in self._sides]
        highs = [
            min((1 + self.room) * side, max([side, *(one[axis + 2] for one in corners)])) for axis, side in self._sides
        ]
        return lows[0], lows[1], highs[0] - lows[0], highs[1] - lows[1]

    @property
    def _sides(self) -> tuple[tuple[int, float], tuple[int, float]]:
        return (0, float(self.width)), (1, float(self.height))

    @property
    def letter(self) -> float:
        """Size of the labels' letters, in pixels of the picture at full size."""
        return max(self.width, self.height) / 34
