"""Suspects as JSON for programs, and as a COCO file for labelling tools. docs/suspects.md names the fields of both."""

import os
from collections.abc import Sequence
from typing import Any

from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.types import Record
from falconet.eval.suspects import Suspect

DIGITS = 2
"""Of a pixel's fraction in a suggested box."""


def rows(names: Sequence[str], records: Sequence[Record], suspects: Sequence[Suspect]) -> list[dict[str, Any]]:
    """An entry for each suspect, in their order."""
    return [_row(names, records[suspect.image], suspect, rank) for rank, suspect in enumerate(suspects, start=1)]


def coco_tree(names: Sequence[str], records: Sequence[Record], suspects: Sequence[Suspect]) -> dict[str, Any]:
    """All pictures with all their labels, those of suspects marked, and the boxes that are suggested beside them.

    Args:
        suspects: those that are marked; labels of others are written as they are.
    """
    names_of_files = file_names(records)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    by_image: dict[int, list[tuple[int, Suspect]]] = {}
    for rank, suspect in enumerate(suspects, start=1):
        by_image.setdefault(suspect.image, []).append((rank, suspect))
    for image, record in enumerate(records):
        size = {"width": record.width, "height": record.height}
        images.append({"id": image + 1, "file_name": names_of_files[image], **size})
        own = by_image.get(image, [])
        marks = {suspect.index: (rank, suspect) for rank, suspect in own if suspect.index is not None}
        for index, box in enumerate(record.boxes.tolist()):
            result = coco_result(image + 1, int(record.labels[index]), box, digits=6)
            area = None if record.areas is None or record.areas[index] != record.areas[index] else record.areas[index]
            note = coco_annotation(len(annotations) + 1, result, area=area, crowd=bool(record.crowd[index]))
            mark = _attributes(names, *marks[index]) if index in marks else {}
            annotations.append(note | ({"attributes": mark} if mark else {}))
        for rank, suspect in own:
            if suspect.suggested_box is not None and suspect.suggested_label is not None:
                result = coco_result(
                    image + 1,
                    suspect.suggested_label,
                    suspect.suggested_box,
                    score=suspect.confidence,
                    digits=DIGITS,
                )
                note = coco_annotation(len(annotations) + 1, result)
                annotations.append(note | {"attributes": {**_attributes(names, rank, suspect), "suggestion": True}})
    return {"images": images, "annotations": annotations, "categories": coco_categories(names)}


def _row(names: Sequence[str], record: Record, suspect: Suspect, rank: int) -> dict[str, Any]:
    index = suspect.index
    return {
        "rank": rank,
        "kind": suspect.kind,
        "doubt": round(suspect.doubt, 4),
        "file": str(record.path),
        "source": record.source,
        "annotation": record.box_keys[index] if index is not None and record.box_keys else None,
        "class": None if suspect.label is None else names[suspect.label],
        "box": _rounded(suspect.box),
        "suggested_class": None if suspect.suggested_label is None else names[suspect.suggested_label],
        "suggested_box": _rounded(suspect.suggested_box),
        "confidence": None if suspect.confidence is None else round(suspect.confidence, 4),
        "sentence": suspect.sentence(names),
    }


def _attributes(names: Sequence[str], rank: int, suspect: Suspect) -> dict[str, Any]:
    """What a labelling tool shows beside a box; flat values, since tools know no others."""
    suggested = "" if suspect.suggested_label is None else names[suspect.suggested_label]
    return {
        "suspect": suspect.kind,
        "rank": rank,
        "doubt": round(suspect.doubt, 4),
        "suggested_class": suggested,
        "suggestion": False,
    }


def _rounded(box: Sequence[float] | None) -> list[float] | None:
    return None if box is None else [round(value, DIGITS) for value in box]


def file_names(records: Sequence[Record]) -> list[str]:
    """Where each picture lies below the folder that all of them share; as a whole path where they share none."""
    paths = [record.path.absolute() for record in records]
    try:
        folder = os.path.commonpath([path.parent for path in paths])
        return [path.relative_to(folder).as_posix() for path in paths]
    except ValueError:  # on several drives
        return [path.as_posix() for path in paths]
