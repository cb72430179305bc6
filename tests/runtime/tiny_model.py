"""A small exported detector for tests, without torch: it finds blue, green and red cells.

The input of 64 x 64 is cut into 4 x 4 cells of 16 pixels. Each cell is a box; its scores are the means of its
blue, green and red channels over 255. So a picture that is black but for a red cell has one detection.
"""

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from falconet.core.manifest import MANIFEST_KEY, Manifest, Preprocess

CELL, CELLS, SIDE = 16, 4, 64
NAMES = ("blue", "green", "red")


def manifest(**changes: object) -> Manifest:
    """The tiny model's manifest, with fields changed."""
    values: dict[str, object] = {
        "model": "cells",
        "classes": NAMES,
        "preprocess": Preprocess(height=SIDE, width=SIDE),
        "falconet_version": "0",
    }
    return Manifest.from_tree(values | changes)


def cell_boxes() -> np.ndarray:
    """[16, 4] xyxy in input pixels, row after row."""
    corners = [(x, y) for y in range(0, SIDE, CELL) for x in range(0, SIDE, CELL)]
    return np.array([(x, y, x + CELL, y + CELL) for x, y in corners], np.float32)


def graph(
    *, batch: int | str = "B", input_type: int = TensorProto.UINT8, outputs: tuple[str, str] = ("boxes", "scores")
):
    """The tiny model as an ONNX model, without a manifest."""
    boxes, scores = outputs
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["means", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Div", ["rows", "most"], [scores]),
        helper.make_node("Shape", ["pixels"], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "box_shape"], ["all_boxes"], axis=0),
        helper.make_node("Expand", ["cells", "all_boxes"], [boxes]),
    ]
    constants = {
        "flat": np.array([0, 3, CELLS * CELLS], np.int64),
        "most": np.array(255, np.float32),
        "box_shape": np.array([CELLS * CELLS, 4], np.int64),
        "cells": cell_boxes()[None],
    }
    made = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("pixels", input_type, [batch, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(boxes, TensorProto.FLOAT, [batch, CELLS * CELLS, 4]),
            helper.make_tensor_value_info(scores, TensorProto.FLOAT, [batch, CELLS * CELLS, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write(path: Path, *, text: str | None = None, **options) -> Path:
    """The tiny model as a file; `text` replaces its manifest, "" leaves it out."""
    model = graph(**options)
    content = manifest().to_json() if text is None else text
    if content:
        helper.set_model_props(model, {MANIFEST_KEY: content})
    onnx.save(model, path)
    return path


def picture(*cells: tuple[int, int, str], scale: int = 2, value: int = 255) -> np.ndarray:
    """A black picture of `scale` times the input's size with (row, column, name) cells of pure colour."""
    image = np.zeros((SIDE * scale, SIDE * scale, 3), np.uint8)
    side = CELL * scale
    for row, column, name in cells:
        image[row * side : (row + 1) * side, column * side : (column + 1) * side, NAMES.index(name)] = value
    return image


def save(path: Path, image: np.ndarray) -> Path:
    """The picture as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path
