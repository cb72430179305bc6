"""A picture with truth and detections, as it stands in a report: a JPEG inside an SVG, boxes drawn on top."""

import base64
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from falconet.core.images import encode_image, read_image
from falconet.core.types import Detections, Record
from falconet.eval.curves import ImageResult

LONGEST_SIDE = 480


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


def render_image(view: ImageView) -> str:
    """A figure: picture, boxes, caption.

    Raises:
        DataError: the picture cannot be read.
    """
    image, (height, width) = read_image(view.record.path, at_least=(LONGEST_SIDE, LONGEST_SIDE))
    shrink = LONGEST_SIDE / max(image.shape[:2])
    if shrink < 1:
        size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = base64.b64encode(encode_image(image, ".jpg", jpeg_quality=80)).decode()
    shapes, caption = [], escape(view.caption)
    found, result = view.detections, view.result
    if found is not None and result is not None:
        shapes = [*_truth(view.record, result, found.names), *_found(found, result, found.names)]
        caption = caption or f"{result.true} right, {result.false} false, {result.missed} missed"
    font = max(width, height) / 34
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" style="font-size:{font:.1f}px" role="img">'
        f"<title>{escape(view.record.path.name)}: {caption}</title>"
        f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f"{''.join(shapes)}</svg>"
        f"<figcaption><b>{escape(view.record.path.name)}</b><br>{caption}</figcaption></figure>"
    )


def _truth(record: Record, result: ImageResult, names: tuple[str, ...]) -> list[str]:
    """Truth that was not found; what was found is under a detection."""
    shapes = []
    rows = zip(record.boxes.tolist(), record.labels.tolist(), record.crowd, result.truth_found, strict=True)
    for box, label, crowd, found in rows:
        if not found and not crowd:
            shapes.append(_box(box, "missed", f"missed: {names[label]}", ""))
    return shapes


def _found(found: Detections, result: ImageResult, names: tuple[str, ...]) -> list[str]:
    right_ones = result.detection_right.tolist()
    rows = zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), right_ones, strict=True)
    shapes = []
    for box, label, score, right in rows:
        kind = "right" if right else "false"
        shapes.append(_box(box, kind, f"{kind}: {names[label]} {score:.2f}", f"{names[label]} {score:.2f}"))
    return shapes[::-1]  # the best score is drawn last, on top


def _box(box: list[float], kind: str, title: str, label: str) -> str:
    x1, y1, x2, y2 = box
    text = ""
    if label:
        text = f'<text class="{kind}" x="{x1:.1f}" y="{y1:.1f}" dx=".15em" dy="1em">{escape(label)}</text>'
    return (
        f'<rect class="{kind}" x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}">'
        f"<title>{escape(title)}</title></rect>{text}"
    )
