"""From scored boxes to detections: score threshold, best pairs, class-wise NMS, best boxes.

NMS is ONNX Runtime's `NonMaxSuppression` in a session of one node (`nms.onnx` beside this file): exact within
each class and tens of times faster than a loop in NumPy. The trick of shifting each class by an offset is
avoided: in float32 it changes which boxes are kept.

Equal scores are decided by position: the lower row first, then the lower class. So the same scores give the
same detections, in the same order, everywhere.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

from falconet.core.errors import ModelError
from falconet.core.manifest import Selection
from falconet.core.types import Detections, Floats, Ints, Placement


@lru_cache(maxsize=1)
def _nms_session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = Path(__file__).with_name("nms.onnx").read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def best_pairs(scores: Floats, *, threshold: float, limit: int) -> tuple[Ints, Ints]:
    """The (row, class) pairs of scores [P, C] above `threshold`, at most the `limit` best, by position."""
    flat = scores.ravel()
    # On a flat array NumPy finds the few True values about ten times faster than on [P, C].
    pairs = np.flatnonzero(flat > threshold)
    if len(pairs) > limit:
        values = flat[pairs]
        border = np.partition(values, len(values) - limit)[len(values) - limit]
        better = values > border
        # Pairs that score exactly the border's value fill the places left, by position.
        at_border = np.flatnonzero(values == border)[: limit - int(better.sum())]
        better[at_border] = True
        pairs = pairs[better]
    rows, classes = np.divmod(pairs, max(1, scores.shape[1]))
    return rows, classes


def class_nms(boxes: Floats, scores: Floats, labels: Ints, *, iou_threshold: float) -> Ints:
    """Indices of the boxes that survive greedy NMS within their own class, best score first.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] class indices.
        iou_threshold: a box is dropped when its IoU with a better one of its class is greater than this.
    """
    count = len(boxes)
    if count == 0:
        return np.zeros(0, np.int64)
    # One row of scores per class that occurs, -1 where a box is not of the class.
    occurs = np.bincount(labels) > 0
    row = (np.cumsum(occurs) - 1)[labels]
    table = np.full((1, int(row.max()) + 1, count), -1.0, np.float32)
    table[0, row, np.arange(count)] = scores
    kept = _nms_session().run(
        None,
        {
            "boxes": np.ascontiguousarray(boxes, np.float32)[None],
            "scores": table,
            "iou_threshold": np.array([iou_threshold], np.float32),
        },
    )[0][:, 2]
    kept = np.sort(np.asarray(kept, np.int64))
    return kept[np.argsort(-scores[kept], kind="stable")]


def select(
    boxes: Floats,
    scores: Floats,
    placement: Placement,
    selection: Selection,
    *,
    names: tuple[str, ...] = (),
    classes: Ints | None = None,
) -> Detections:
    """The detections of one picture.

    Args:
        boxes: [P, 4] xyxy in network-input pixels.
        scores: [P, C] 0..1.
        placement: maps boxes back to the original picture, where they are clipped.
        selection: thresholds and limits.
        names: class names to attach.
        classes: indices of the only classes to report; None reports all. Others take no place among the best.

    Raises:
        ModelError: a box that is reported is not finite.
    """
    if classes is not None:
        scores = scores[:, classes]
    rows, columns = best_pairs(scores, threshold=selection.score_threshold, limit=selection.max_candidates)
    candidates, values = boxes[rows], scores[rows, columns]
    labels = columns if classes is None else classes[columns]
    if not np.isfinite(candidates).all():
        raise ModelError("the model puts out boxes that are not finite (NaN or infinity); its weights are damaged")
    kept = class_nms(candidates, values, labels, iou_threshold=selection.iou_threshold)[: selection.max_detections]
    return Detections(placement.to_original(candidates[kept]), values[kept], labels[kept], names)
