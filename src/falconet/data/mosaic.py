"""Mosaic: four pictures joined at a random point of the network input.

Introduced with YOLOv4 (https://arxiv.org/abs/2004.10934, section 3.3). Here each picture is warped once, straight
into its quarter, at about three quarters of its usual size; there is no canvas of twice the input in between.
"""

from collections.abc import Sequence

import numpy as np

from falconet.core.manifest import Preprocess
from falconet.core.types import Sample
from falconet.data.augment import (
    Augment,
    colour_matrix,
    draw_geometry,
    geometry_matrix,
    keep_visible,
    recolour,
    warp_boxes,
    warp_ignored,
    warp_pixels,
)

TILE_ZOOM = 0.75
"""Size of a picture in a mosaic over its size alone."""


def mosaic(samples: Sequence[Sample], config: Augment, preprocess: Preprocess, rng: np.random.Generator) -> Sample:
    """Four samples as one network input.

    Args:
        samples: four pictures as decoded: top left, top right, bottom left, bottom right.
        config, preprocess, rng: as for `augment`.

    Returns:
        uint8 [height, width, 3] of the input; boxes in input pixels, clipped to their picture's quarter.
    """
    if len(samples) != 4:
        raise ValueError(f"a mosaic joins 4 samples, but got {len(samples)}")
    height, width = preprocess.height, preprocess.width
    column, row = (round(side * rng.uniform(0.3, 0.7)) for side in (width, height))
    image = np.empty((height, width, 3), np.uint8)
    boxes, labels, ignored = [], [], []
    quarters = [(0, 0, row, column), (0, column, row, width), (row, 0, height, column), (row, column, height, width)]
    for sample, (top, left, bottom, right) in zip(samples, quarters, strict=True):
        tile_height, tile_width = bottom - top, right - left
        matrix = geometry_matrix(
            draw_geometry(config, rng),
            source=(sample.image.shape[0], sample.image.shape[1]),
            target=(height, width),
            keep_ratio=preprocess.resize == "letterbox",
        )
        centre = np.array([width / 2, height / 2])
        tile = np.array([tile_width, tile_height])
        # Not only the middle of pictures: any part of one may fill its quarter.
        slack = np.abs(TILE_ZOOM * np.array([width, height]) - tile) / 2
        matrix[:, :2] *= TILE_ZOOM
        matrix[:, 2] = (matrix[:, 2] - centre) * TILE_ZOOM + tile / 2 + rng.uniform(-1, 1, size=2) * slack
        image[top:bottom, left:right] = warp_pixels(
            sample.image, matrix, height=tile_height, width=tile_width, pad_value=preprocess.pad_value
        )
        tile_boxes, tile_labels = keep_visible(
            warp_boxes(sample.boxes, matrix), sample.labels, config, height=tile_height, width=tile_width
        )
        corner = np.array([left, top, left, top], np.float32)
        boxes.append(tile_boxes + corner)
        labels.append(tile_labels)
        ignored.append(warp_ignored(sample.ignored, matrix, height=tile_height, width=tile_width) + corner)
    image = recolour(image, colour_matrix(config, rng))
    return Sample(image, np.concatenate(boxes), np.concatenate(labels), np.concatenate(ignored))
