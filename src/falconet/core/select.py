"""From scored boxes to detections: score threshold, best pairs, class-wise NMS, best boxes.

NMS is ONNX Runtime's `NonMaxSuppression` in a session of one node (`nms.onnx` beside this file): exact within
each class and tens of times faster than a loop in NumPy. The trick of shifting each class by an offset is
avoided: in float32 it changes which boxes are kept.
"""

from functools import lru_cache
from importlib.resources import files

import numpy as np
import onnxruntime

from falconet.core.manifest import Selection
from falconet.core.types import Detections, Floats, Ints, Placement


@lru_cache(maxsize=1)
def _nms_session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = files("falconet.core").joinpath("nms.onnx").read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def best_pairs(scores: Floats, *, threshold: float, limit: int) -> tuple[Ints, Ints]:
    """The (row, class) pairs of scores [P, C] above `threshold`, at most the `limit` best, in no order."""
    rows, classes = np.nonzero(scores > threshold)
    if len(rows) > limit:
        # Equal scores at the border are decided by position, so that every platform keeps the same ones.
        best = np.argsort(-scores[rows, classes], kind="stable")[:limit]
        rows, classes = rows[best], classes[best]
    return rows.astype(np.int64), classes.astype(np.int64)


def class_nms(boxes: Floats, scores: Floats, labels: Ints, *, iou_threshold: float) -> Ints:
    """Indices of the boxes that survive greedy NMS within their own class, best score first.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] class indices.
        iou_threshold: a box is dropped when its IoU with a better one of its class is greater than this.
    """
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    present, compact = np.unique(labels, return_inverse=True)
    table = np.full((1, len(present), len(boxes)), -1.0, np.float32)
    table[0, compact, np.arange(len(boxes))] = scores
    kept = _nms_session().run(
        None,
        {
            "boxes": np.ascontiguousarray(boxes, np.float32)[None],
            "scores": table,
            "iou_threshold": np.array([iou_threshold], np.float32),
        },
    )[0][:, 2]
    kept = np.asarray(kept, np.int64)
    return kept[np.argsort(-scores[kept], kind="stable")]


def select(
    boxes: Floats,
    scores: Floats,
    placement: Placement,
    selection: Selection,
    *,
    names: tuple[str, ...] = (),
) -> Detections:
    """The detections of one picture.

    Args:
        boxes: [P, 4] xyxy in network-input pixels.
        scores: [P, C] 0..1.
        placement: maps boxes back to the original picture, where they are clipped.
        selection: thresholds and limits.
        names: class names to attach.
    """
    rows, labels = best_pairs(scores, threshold=selection.score_threshold, limit=selection.max_candidates)
    candidates, values = boxes[rows], scores[rows, labels]
    kept = class_nms(candidates, values, labels, iou_threshold=selection.iou_threshold)[: selection.max_detections]
    return Detections(placement.to_original(candidates[kept]), values[kept], labels[kept], names)
