"""Boxes drawn on pictures as stored are told from those drawn on pictures as displayed."""

import json
from pathlib import Path

import numpy as np
import pytest

from falconet.core.images import read_image
from falconet.data.dataset import DataSet
from falconet.data.exif_boxes import exif_problems, turned_boxes, upright_boxes
from falconet.data.formats import open_dataset
from falconet.data.records import sizes_of_files
from tests.core.pictures import encode, exif, jpeg_with_exif
from tests.data.build import Box, coco_tree, write_coco

WIDE, TALL, SMALL = (0, 45.0, 5.0, 58.0, 20.0), (0, 5.0, 45.0, 20.0, 58.0), (0, 5.0, 5.0, 20.0, 20.0)
"""Boxes that fit a picture of 60 x 40 only, one of 40 x 60 only, and both."""


def dataset(tmp_path: Path, boxes: list[Box], turns: list[int], *, sizes: tuple[int, int] | None = (60, 40)) -> DataSet:
    tree = coco_tree({f"{number}.jpg": [box] for number, box in enumerate(boxes)})
    path = write_coco(tmp_path / "x.json", tree)
    for number, (image, turn) in enumerate(zip(tree["images"], turns, strict=True)):
        image["width"], image["height"] = sizes or (None, None)
        jpeg = encode(np.full((40, 60, 3), 20 + number, np.uint8), ".jpg")
        (tmp_path / "images" / f"{number}.jpg").write_bytes(jpeg_with_exif(jpeg, exif(turn)))
    path.write_text(json.dumps(tree))
    return open_dataset(path)


@pytest.mark.parametrize("sizes", [None, (60, 40)])
def test_boxes_of_pictures_as_stored(tmp_path: Path, sizes: tuple[int, int] | None) -> None:
    found = dataset(tmp_path, [WIDE, SMALL, WIDE, SMALL], [6, 8, 1, 3], sizes=sizes)
    turned = turned_boxes(found, sizes_of_files(found.records))
    assert turned is not None
    assert (turned.orientations, turned.proven) == ({0: 6, 1: 8, 3: 3}, [0])
    (problem,) = exif_problems(found, sizes_of_files(found.records))
    assert problem.what == (
        "boxes do not follow the EXIF rotation of their pictures: 3 pictures are turned when displayed, and the boxes "
        "of 1 of them, as of 0.jpg, fit the picture as stored only"
    )


@pytest.mark.parametrize(
    ("boxes", "turns"),
    [
        ([SMALL, SMALL], [6, 8]),  # nothing tells
        ([TALL, TALL], [6, 8]),  # they follow
        ([WIDE, TALL, WIDE, WIDE], [6, 6, 6, 6]),  # contradictory
        ([WIDE, SMALL, SMALL], [6, 6, 6]),  # one of three may be careless
        ([WIDE, WIDE], [1, 3]),
    ],
)
def test_boxes_of_pictures_as_displayed(tmp_path: Path, boxes: list[Box], turns: list[int]) -> None:
    found = dataset(tmp_path, boxes, turns)
    assert turned_boxes(found, sizes_of_files(found.records)) is None


@pytest.mark.parametrize("turn", range(1, 9))
def test_upright_boxes_lie_where_the_picture_shows_them(tmp_path: Path, turn: int) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[8:16, 32:56] = 255
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg_with_exif(encode(image, ".jpg"), exif(turn)))
    (box,) = upright_boxes(np.array([[32, 8, 56, 16]], np.float32), turn, (40, 60))
    rows, columns = np.nonzero(read_image(path)[0][..., 0] > 127)
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
