"""A picture with truth and detections for a page: what is right, false and missed."""

from dataclasses import dataclass

import numpy as np

from falconet.core.page_picture import PagePicture, PictureBox
from falconet.core.types import Detections, Record
from falconet.eval.curves import Found, ImageResult


@dataclass(frozen=True, slots=True)
class ImageView:
    """One picture for the report.

    Attributes:
        record: with its truth.
        detections: above the score the result was made with, labels and names as those of the record; None where the
            answer is about the whole picture.
        result: which of them are right.
        caption: what is told below it; empty: how many detections are right, false and missed.
        apart: [G] objects that one of two models alone finds, in a comparison.
    """

    record: Record
    detections: Detections | None = None
    result: ImageResult | None = None
    caption: str = ""
    apart: Found | None = None

    def read(self) -> PagePicture:
        """The picture with its boxes.

        Raises:
            DataError: the picture cannot be read.
        """
        boxes, caption = [], self.caption
        found, result = self.detections, self.result
        if found is not None and result is not None:
            boxes = [*_truth(self, result, found.names), *_found(found, result, found.names)]
            caption = caption or f"{result.true} right, {result.false} false, {result.missed} missed"
        return PagePicture.read(self.record.path, boxes, caption=caption)


def _truth(view: ImageView, result: ImageResult, names: tuple[str, ...]) -> list[PictureBox]:
    """Truth that was not found, or by one of two models alone; other truth is under a detection."""
    record = view.record
    apart = np.zeros(len(record.boxes), np.bool_) if view.apart is None else view.apart
    rows = zip(record.boxes.tolist(), record.labels.tolist(), record.crowd, result.truth_found, apart, strict=True)
    boxes = []
    for box, label, crowd, found, alone in rows:
        if alone:
            whose = "this one" if found else "the other"
            boxes.append(PictureBox(box, "won" if found else "lost", f"found by {whose} alone: {names[label]}"))
        elif not found and not crowd:
            boxes.append(PictureBox(box, "missed", f"missed: {names[label]}"))
    return boxes


def _found(found: Detections, result: ImageResult, names: tuple[str, ...]) -> list[PictureBox]:
    right_ones = result.detection_right.tolist()
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), right_ones, strict=True)
    boxes = []
    for box, label, score, right in rows:
        kind, text = "right" if right else "false", f"{names[label]} {score:.2f}"
        boxes.append(PictureBox(box, kind, f"{kind}: {text}", text))
    return boxes[::-1]  # the best score is drawn last, on top
