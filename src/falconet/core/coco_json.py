"""COCO's JSON form, as everything here writes it: category ids 1, 2, ... in the order of the names, boxes as xywh."""

from collections.abc import Sequence
from typing import Any


def coco_categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """The categories of a data set or a model."""
    return [{"id": index, "name": name} for index, name in enumerate(names, start=1)]


def coco_result(
    image_id: int | str, label: int, box: Sequence[float], *, score: float | None = None, digits: int = 3
) -> dict[str, Any]:
    """A box as COCO's evaluation reads results.

    Args:
        label: index of the class, from 0.
        box: x1, y1, x2, y2 in pixels of the image.
        score: left out where None.
        digits: of a pixel's fraction that are kept.
    """
    x1, y1, x2, y2 = box
    xywh = [_number(value, digits) for value in (x1, y1, x2 - x1, y2 - y1)]
    result = {"image_id": image_id, "category_id": int(label) + 1, "bbox": xywh}
    return result if score is None else result | {"score": round(float(score), 6)}


def coco_annotation(
    number: int, result: dict[str, Any], *, area: float | None = None, crowd: bool = False
) -> dict[str, Any]:
    """A result as an annotation of a data set; the area is that of the box, unless given in square pixels."""
    width, height = result["bbox"][2:]
    size = _number(width * height if area is None else area, 6)
    return {"id": number, **result, "area": size, "iscrowd": int(crowd)}


def _number(value: float, digits: int) -> float | int:
    """Whole numbers are written as such."""
    rounded = round(float(value), digits)
    return int(rounded) if rounded == int(rounded) else rounded
