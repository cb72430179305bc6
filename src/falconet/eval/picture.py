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
        detections: above the score the result was made with, labels and names as those of the record.
        result: which of them are right.
    """

    record: Record
    detections: Detections
    result: ImageResult


def render_image(view: ImageView) -> str:
    """A figure: picture, boxes, counts.

    Raises:
        DataError: the picture cannot be read.
    """
    image, (height, width) = read_image(view.record.path, at_least=(LONGEST_SIDE, LONGEST_SIDE))
    shrink = LONGEST_SIDE / max(image.shape[:2])
    if shrink < 1:
        size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = base64.b64encode(encode_image(image, ".jpg", jpeg_quality=80)).decode()
    names = view.detections.names
    shapes = [*_truth(view, names), *_found(view, names)]
    font = max(width, height) / 34
    result = view.result
    counts = f"{result.true} right, {result.false} false, {result.missed} missed"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" style="font-size:{font:.1f}px" role="img">'
        f"<title>{escape(view.record.path.name)}: {counts}</title>"
        f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f"{''.join(shapes)}</svg>"
        f"<figcaption><b>{escape(view.record.path.name)}</b><br>{counts}</figcaption></figure>"
    )


def _truth(view: ImageView, names: tuple[str, ...]) -> list[str]:
    """Truth that was not found; what was found is under a detection."""
    shapes = []
    for box, label, crowd, found in zip(
        view.record.boxes.tolist(), view.record.labels.tolist(), view.record.crowd, view.result.truth_found, strict=True
    ):
        if not found and not crowd:
            shapes.append(_box(box, "missed", f"missed: {names[label]}", ""))
    return shapes


def _found(view: ImageView, names: tuple[str, ...]) -> list[str]:
    found = view.detections
    rows = zip(
        found.boxes.tolist(),
        found.labels.tolist(),
        found.scores.tolist(),
        view.result.detection_right.tolist(),
        strict=True,
    )
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
