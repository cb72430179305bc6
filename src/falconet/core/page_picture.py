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

LONGEST_SIDE = 480
"""Pixels; larger pictures are made smaller."""


class PictureBox(NamedTuple):
    """A box on a picture.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the picture at full size.
        kind: how it is drawn, a class of the style sheet: "right", "false", "missed", "marked", "plain".
        title: shown where the pointer rests.
        label: written into it; empty: nothing.
    """

    corners: Sequence[float]
    kind: str
    title: str
    label: str = ""

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height, 0 where corners are the wrong way round."""
        x1, y1, x2, y2 = self.corners
        return max(0.0, x2 - x1), max(0.0, y2 - y1)


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A picture for a page.

    Attributes:
        name: of the file.
        width, height: at full size.
        jpeg: in base64, at most `LONGEST_SIDE` pixels long.
        boxes: the last one is on top.
        caption: below the name.
    """

    name: str
    width: int
    height: int
    jpeg: str
    boxes: Sequence[PictureBox] = ()
    caption: str = ""

    @classmethod
    def read(
        cls, path: Path, boxes: Sequence[PictureBox] = (), *, caption: str = "", longest_side: int = LONGEST_SIDE
    ) -> "PagePicture":
        """That in a file; boxes whose corners are not finite are left out.

        Raises:
            DataError: the picture cannot be read.
        """
        image, (height, width) = read_image(path, at_least=(longest_side, longest_side))
        shrink = longest_side / max(image.shape[:2])
        if shrink < 1:
            size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = base64.b64encode(encode_image(image, ".jpg", jpeg_quality=80)).decode()
        drawn = [box for box in boxes if all(math.isfinite(value) for value in box.corners)]
        return cls(path.name, width, height, data, drawn, caption)

    @property
    def letter(self) -> float:
        """Size of the labels' letters, in pixels of the picture at full size."""
        return max(self.width, self.height) / 34
