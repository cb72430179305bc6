"""Detections as other programs take them; each library is imported when it is asked for, and not needed otherwise."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.core.coco_json import coco_result
from falconet.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from falconet.core.types import Detections

YOLO_DIGITS = 6


def columns(found: "Detections") -> dict[str, list[Any]]:
    """A column per thing that is known of a detection; `file` is None where the picture was given as pixels."""
    sides = found.boxes.astype(float)
    file = str(found.source) if isinstance(found.source, str | Path) else None
    return {
        "file": [file] * len(found),
        "class": [found.name(int(label)) for label in found.labels],
        "label": [int(label) for label in found.labels],
        "score": [float(score) for score in found.scores],
        **{name: sides[:, place].tolist() for place, name in enumerate(("x1", "y1", "x2", "y2"))},
    }


def to_library(found: "Detections", library: str) -> Any:
    """`columns` as a table of pandas, polars or pyarrow.

    Raises:
        ConfigError: the library is not installed.
    """
    module = _library(library)
    table = columns(found)
    if library == "pyarrow":
        kinds = {"file": "string", "class": "string", "label": "int64"}
        arrays = {name: module.array(values, kinds.get(name, "float64")) for name, values in table.items()}
        return module.table(arrays)
    if library == "polars":
        kinds = {"file": module.String, "class": module.String, "label": module.Int64}
        return module.DataFrame(table, schema={name: kinds.get(name, module.Float64) for name in table})
    frame = module.DataFrame(table)
    return frame if len(found) else frame.astype(dict.fromkeys(("score", "x1", "y1", "x2", "y2"), float))


def to_supervision(found: "Detections") -> Any:
    """supervision's Detections: xyxy, confidence, class_id, and the names under data["class_name"].

    Raises:
        ConfigError: supervision is not installed.
    """
    import numpy as np

    module = _library("supervision")
    names = np.array([found.name(int(label)) for label in found.labels], dtype=str)
    return module.Detections(
        xyxy=found.boxes.copy(),
        confidence=found.scores.copy(),
        class_id=found.labels.astype(int),
        data={"class_name": names},
    )


def to_coco(found: "Detections", image_id: int | str) -> list[dict[str, Any]]:
    """A list as COCO's evaluation reads results; category ids count from 1 in the order of the model's classes."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [coco_result(image_id, label, box, score=score) for box, score, label in rows]


def to_yolo(found: "Detections", size: tuple[int, int] | None) -> str:
    """A line per detection: class, centre, width and height as fractions of the picture, score.

    Args:
        size: (height, width) of the picture in pixels; None takes it from the picture.

    Raises:
        DataError: no size, and it is not known which picture this is.
    """
    height, width = size or _size(found)
    lines = []
    for (x1, y1, x2, y2), score, label in zip(
        found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
    ):
        sides = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(label), *(f"{side:.{YOLO_DIGITS}f}" for side in sides), f"{score:.4f}"]))
    return "\n".join(lines) + "\n" if lines else ""


def _size(found: "Detections") -> tuple[int, int]:
    import numpy as np

    if isinstance(found.source, np.ndarray):
        return int(found.source.shape[0]), int(found.source.shape[1])
    if isinstance(found.source, str | Path):
        from falconet.core.images import read_image

        return read_image(found.source)[1]
    raise DataError("the size of the picture is not known; expected size=(height, width) in pixels")


def _library(name: str) -> Any:
    if find_spec(name) is None:
        raise ConfigError(f"{name} is not installed; install it with: pip install {name}")
    return import_module(name)
