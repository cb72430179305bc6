"""Boxes that do not follow the EXIF rotation of their pictures: drawn, or exported, on the picture as it is stored.

A single picture seldom tells, so all of a split do: those with a box that reaches beyond the picture as displayed and
lies in the picture as stored speak for it, those the other way round against it. Fractions of the picture (YOLO) reach
beyond neither, so nothing can be told of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from falconet.core.errors import DataError
from falconet.core.images import orientation
from falconet.core.types import Floats
from falconet.data.columns import columns
from falconet.data.dataset import DataSet, Problem

PIXEL_FORMATS = frozenset({"coco", "voc", "csv", "createml", "labelme", "shards"})

_OUTSIDE = 0.02
"""Share of a side by which a box has to reach beyond it; less is carelessness."""

_SURE = 3
"""Pictures that have to speak for it, where those are not half of the rotated ones."""

Size = tuple[int, int]
"""(height, width)"""


class Turned(NamedTuple):
    """Pictures whose boxes lie in the picture as stored.

    Attributes:
        orientations: EXIF orientation (2 to 8) by position of the record.
        proven: positions of those whose boxes cannot be meant otherwise.
    """

    orientations: dict[int, int]
    proven: list[int]


def turned_boxes(dataset: DataSet, sizes: Sequence[Size | DataError]) -> Turned | None:
    """The pictures of a split whose boxes do not follow the EXIF rotation, None where nothing tells so.

    Args:
        sizes: of each record's picture as displayed, or why it cannot be read.
    """
    if dataset.format not in PIXEL_FORMATS:
        return None
    suspects = _suspects(dataset, sizes)
    proven = [place for place in suspects if orientation(dataset.records[place].path) >= 5]
    if not proven:
        return None  # the headers of all others need not be read
    orientations: dict[int, int] = {}
    against, swapped = 0, 0
    for place, (record, size) in enumerate(zip(dataset.records, sizes, strict=True)):
        turn = 1 if isinstance(size, DataError) or not len(record.boxes) else orientation(record.path)
        if turn == 1 or isinstance(size, DataError):
            continue
        stored = size[::-1] if turn >= 5 else size
        swapped += turn >= 5
        against += turn >= 5 and _beyond(record.boxes, stored) and not _beyond(record.boxes, size)
        if record.height is None or (record.height, record.width) == stored:
            orientations[place] = turn
    proven = [place for place in proven if place in orientations]
    enough = len(proven) >= _SURE or 2 * len(proven) >= swapped
    return Turned(orientations, proven) if proven and enough and not against else None


def exif_problems(dataset: DataSet, sizes: Sequence[Size | DataError]) -> list[Problem]:
    """At most one problem of a split."""
    turned = turned_boxes(dataset, sizes)
    if turned is None:
        return []
    example = dataset.records[turned.proven[0]].path.name
    what = (
        f"boxes do not follow the EXIF rotation of their pictures: {len(turned.orientations)} pictures are turned when "
        f"displayed, and the boxes of {len(turned.proven)} of them, as of {example}, fit the picture as stored only"
    )
    return [Problem(dataset.source, what, "exif-boxes")]


def upright_boxes(boxes: Floats, turn: int, stored: Size) -> Floats:
    """Boxes [G, 4] of the picture as stored, (height, width), in the picture as displayed."""
    height, width = stored
    x1, y1, x2, y2 = boxes.T
    if turn >= 5:
        x1, y1, x2, y2, height, width = y1, x1, y2, x2, width, height
    if turn in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if turn in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.stack([x1, y1, x2, y2], 1)


def _suspects(dataset: DataSet, sizes: Sequence[Size | DataError]) -> list[int]:
    """The records of which a box reaches beyond the picture as displayed, and none beyond that as stored."""
    found, done = list[int](), 0
    for block in columns(dataset.records):
        own = sizes[done : done + len(block.sizes)]
        sides = np.array([(0, 0) if isinstance(size, DataError) else size for size in own]).reshape(-1, 2)
        readable = np.array([not isinstance(size, DataError) for size in own], np.bool_)
        across, down = np.repeat(sides, np.diff(block.starts), 0).T[::-1] * (1 + _OUTSIDE)
        with np.errstate(invalid="ignore"):
            x2, y2 = block.boxes[:, 2:].T
            displayed, stored = (x2 > across) | (y2 > down), (x2 > down) | (y2 > across)
        chosen = readable & block.records_with(displayed) & ~block.records_with(stored)
        found += (np.flatnonzero(chosen) + done).tolist()
        done += len(block.sizes)
    return found


def _beyond(boxes: Floats, size: Size) -> bool:
    """Whether a box reaches beyond the right or lower side."""
    with np.errstate(invalid="ignore"):
        return bool((boxes[:, 2:] > np.array(size[::-1]) * (1 + _OUTSIDE)).any())
