"""A picture with truth and detections for a page: what is right, false and missed."""

from dataclasses import dataclass

from falconet.core.page_picture import PagePicture, PictureBox
from falconet.core.types import Detections, Record
from falconet.eval.curves import ImageResult


@dataclass(frozen=True, slots=True)
class ImageView:
    """One picture for the report.

    Attributes:
        record: with its truth.
        detections: above the score the result was made with, labels and names as those of the record; None where the
            answer is about the whole picture.
        result: which of them are right.
        caption: what is told below it; empty: how many detections are right, false and missed.
    """

    record: Record
    detections: Detections | None = None
    result: ImageResult | None = None
    caption: str = ""

    def read(self) -> PagePicture:
        """The picture with its boxes.

        Raises:
            DataError: the picture cannot be read.
        """
        boxes, caption = [], self.caption
        found, result = self.detections, self.result
        if found is not None and result is not None:
            boxes = [*_missed(self.record, result, found.names), *_found(found, result, found.names)]
            caption = caption or f"{result.true} right, {result.false} false, {result.missed} missed"
        return PagePicture.read(self.record.path, boxes, caption=caption)


def _missed(record: Record, result: ImageResult, names: tuple[str, ...]) -> list[PictureBox]:
    """Truth that was not found; what was found is under a detection."""
    rows = zip(record.boxes.tolist(), record.labels.tolist(), record.crowd, result.truth_found, strict=True)
    return [
        PictureBox(box, "missed", f"missed: {names[label]}")
        for box, label, crowd, found in rows
        if not found and not crowd
    ]


def _found(found: Detections, result: ImageResult, names: tuple[str, ...]) -> list[PictureBox]:
    right_ones = result.detection_right.tolist()
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), right_ones, strict=True)
    boxes = []
    for box, label, score, right in rows:
        kind, text = "right" if right else "false", f"{names[label]} {score:.2f}"
        boxes.append(PictureBox(box, kind, f"{kind}: {text}", text))
    return boxes[::-1]  # the best score is drawn last, on top
