"""Suspects as a page to go through: the worst first, each with what is around it."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from falconet.core.figures import percent
from falconet.core.images import encode_image, read_image
from falconet.core.page import write_page
from falconet.core.page_picture import PagePicture, PictureBox
from falconet.core.types import Floats, Record
from falconet.eval.suspects import KINDS, Suspect

SIDE = 320
"""Pixels of a crop on the page, along its longest side."""

AROUND, LEAST = 3.0, 120.0
"""A crop's side: times that of the boxes that it is about, and in pixels of the picture at least."""


def write_suspects_page(
    path: Path,
    names: Sequence[str],
    records: Sequence[Record],
    suspects: Sequence[Suspect],
    *,
    shown: int,
    title: str,
    lead: Sequence[str],
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        names: of the classes.
        records: all pictures; a suspect's `image` indexes them.
        suspects: all of them.
        shown: so many of these are on the page.
        title: above everything.
        lead: what it comes to, in sentences.
        notes: what else is worth telling.

    Raises:
        DataError: a picture cannot be read, or the page cannot be written.
    """
    first = suspects[:shown]
    here, everywhere = (Counter(suspect.kind for suspect in some) for some in (first, suspects))
    values = {
        "kinds": [
            (str(here[kind]), None, kind, f"{meaning}; {everywhere[kind]:,} in all") for kind, meaning in KINDS.items()
        ],
        "pictures": [_picture(names, records[one.image], one, rank) for rank, one in enumerate(first, start=1)],
        "remarks": list(notes),
    }
    write_page(path, "falconet.eval/pages/suspects.html", values, title=title, lead=lead)


def _picture(names: Sequence[str], record: Record, suspect: Suspect, rank: int) -> PagePicture:
    """The part of the picture that the suspect is about, with all boxes in it."""
    image, (height, width) = read_image(record.path)
    x1, y1, x2, y2 = window = _window(suspect, height=height, width=width)
    crop = image[y1:y2, x1:x2]
    scale = SIDE / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)
    jpeg = base64.b64encode(encode_image(crop, ".jpg", jpeg_quality=80)).decode()
    boxes = _others(names, record, suspect, window)
    if suspect.box is not None and suspect.label is not None:
        boxes.append(_box(suspect.box, window, "false", "labelled", names[suspect.label]))
    if suspect.suggested_box is not None and suspect.suggested_label is not None:
        boxes.append(_box(suspect.suggested_box, window, "right", "the model", names[suspect.suggested_label]))
    caption = f"{rank}. {suspect.kind}, doubt {percent(suspect.doubt)} %: {suspect.sentence(names)}"
    return PagePicture(record.path.name, x2 - x1, y2 - y1, jpeg, boxes, caption)


def _window(suspect: Suspect, *, height: int, width: int) -> tuple[int, int, int, int]:
    """The part of the picture that is shown, in whole pixels: nearly square, around all boxes of the suspect."""
    boxes = np.array([box for box in (suspect.box, suspect.suggested_box) if box is not None], np.float64)
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    limit = np.array([width, height])
    sides = np.minimum(limit, max(LEAST, AROUND * float((high - low).max())))
    corner = np.clip((low + high - sides) / 2, 0, limit - sides)
    (x1, y1), (x2, y2) = np.floor(corner).astype(int), np.ceil(corner + sides).astype(int)
    return int(x1), int(y1), min(int(x2), width), min(int(y2), height)


def _others(
    names: Sequence[str], record: Record, suspect: Suspect, window: tuple[int, int, int, int]
) -> list[PictureBox]:
    """Labels that nobody doubts here, where the window shows a part of them."""
    drawn = []
    for index in np.flatnonzero(_shares(record.boxes, window) > 0).tolist():
        if index != suspect.index:
            drawn.append(_box(record.boxes[index].tolist(), window, "plain", "labelled", names[record.labels[index]]))
    return drawn


def _shares(boxes: Floats, window: tuple[int, int, int, int]) -> Floats:
    """[N] pixels of each box that lie in the window."""
    low = np.maximum(boxes[:, :2], np.array(window[:2], np.float32))
    high = np.minimum(boxes[:, 2:], np.array(window[2:], np.float32))
    return np.asarray((high - low).clip(0).prod(1), np.float32)


def _box(box: Sequence[float], window: tuple[int, int, int, int], kind: str, whose: str, name: str) -> PictureBox:
    x, y = window[:2]
    corners = (box[0] - x, box[1] - y, box[2] - x, box[3] - y)
    return PictureBox(corners, kind, f"{whose}: {name}", "" if kind == "plain" else name)
