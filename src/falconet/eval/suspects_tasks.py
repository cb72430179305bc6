"""Pictures with doubted labels as tasks of Label Studio: labels as annotations, suggested boxes as predictions.

The form is that of labelstud.io/guide/tasks and /guide/predictions: a list of tasks, rectangles in percent of the
picture.
"""

from collections.abc import Sequence
from typing import Any

from falconet.core.images import image_size
from falconet.core.types import Record
from falconet.eval.suspects import Suspect
from falconet.eval.suspects_files import file_names

LOCAL = "/data/local-files/?d="
"""Before a path below the folder that Label Studio serves pictures from (`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`)."""

FROM, TO = "label", "image"
"""What the interface in docs/suspects.md calls its labels and its picture."""


def label_studio_tasks(
    names: Sequence[str], records: Sequence[Record], suspects: Sequence[Suspect]
) -> list[dict[str, Any]]:
    """A task for each picture that has suspects, in their order; those of the most doubtful first.

    Raises:
        DataError: a picture whose size is not known cannot be read.
    """
    files = file_names(records)
    by_image: dict[int, list[tuple[int, Suspect]]] = {}
    for rank, suspect in enumerate(suspects, start=1):
        by_image.setdefault(suspect.image, []).append((rank, suspect))
    return [_task(names, records[image], files[image], own) for image, own in by_image.items()]


def _task(names: Sequence[str], record: Record, file: str, own: Sequence[tuple[int, Suspect]]) -> dict[str, Any]:
    size = image_size(record.path) if record.width is None or record.height is None else (record.height, record.width)
    doubted = {suspect.index: suspect for _, suspect in own if suspect.index is not None}
    labels = []
    for index, box in enumerate(record.boxes.tolist()):
        region = _region(f"label{index}", size, box, names[int(record.labels[index])])
        if index in doubted:
            region["meta"] = {"text": [doubted[index].sentence(names)]}
        labels.append(region)
    suggested = []
    for rank, suspect in own:
        box = suspect.box if suspect.kind == "wrong class" else suspect.suggested_box
        if box is not None and suspect.suggested_label is not None:
            region = _region(f"suspect{rank}", size, box, names[suspect.suggested_label])
            suggested.append(region | {"score": suspect.confidence, "meta": {"text": [suspect.sentence(names)]}})
    first, most = own[0][0], max(suspect.doubt for _, suspect in own)
    task: dict[str, Any] = {
        "data": {
            TO: LOCAL + file,
            "rank": first,
            "doubt": round(most, 4),
            "kinds": ", ".join(one.kind for _, one in own),
        },
        "annotations": [{"result": labels}],
    }
    if suggested:
        scores = [one["score"] for one in suggested if one["score"] is not None]
        prediction = {"model_version": "falconet data suspects", "result": suggested}
        task["predictions"] = [prediction | ({"score": max(scores)} if scores else {})]
    return task


def _region(name: str, size: tuple[int, int], box: Sequence[float], label: str) -> dict[str, Any]:
    height, width = size
    x1, y1, x2, y2 = box
    return {
        "id": name,
        "type": "rectanglelabels",
        "from_name": FROM,
        "to_name": TO,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x1 / width,
            "y": 100 * y1 / height,
            "width": 100 * (x2 - x1) / width,
            "height": 100 * (y2 - y1) / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }
