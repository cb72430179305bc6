"""Selection inside of an exported file, for programs of a few lines: score threshold, class-wise NMS, the best boxes.

`detections` float32 [N, 6] is a further output: x1, y1, x2, y2 in input pixels, score, class index; the best first.
Boxes and scores stay, so that `falconet` runs the same file with other thresholds.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from falconet.core.errors import ModelError
from falconet.core.manifest import Selection
from falconet.core.select import best_pairs, class_nms
from falconet.core.types import Floats, Pixels

OUTPUT = "detections"


def add_selection(model: onnx.ModelProto, selection: Selection) -> None:
    """Add the output `OUTPUT` to a detector for one picture, in place.

    As `falconet.core.select` selects, but for pairs that score exactly as the last one among `max_candidates`: these
    all stay in.
    """
    constants = {
        "most_pairs": np.array([selection.max_candidates], np.int64),
        "most": np.array([selection.max_detections], np.int64),
        "overlap": np.array([selection.iou_threshold], np.float32),
        "least_score": np.array([selection.score_threshold], np.float32),
        "flat": np.array([-1], np.int64),
        "rows": np.array([-1, 4], np.int64),
        "column": np.array([-1, 1], np.int64),
        "nothing": np.array(0, np.float32),
        "one": np.array(1, np.int64),
        "two": np.array(2, np.int64),
    }
    steps = [
        ("Transpose", ["scores"], ["by_class"], {"perm": [0, 2, 1]}),
        ("Reshape", ["by_class", "flat"], ["all"], {}),
        ("Shape", ["all"], ["pairs"], {}),
        ("Min", ["pairs", "most_pairs"], ["wanted"], {}),
        ("TopK", ["all", "wanted"], ["best", "best_places"], {"sorted": 0}),
        ("ReduceMin", ["best"], ["border"], {"keepdims": 0}),
        ("GreaterOrEqual", ["by_class", "border"], ["among"], {}),
        ("Where", ["among", "by_class", "nothing"], ["candidates"], {}),
        ("NonMaxSuppression", ["boxes", "candidates", "most", "overlap", "least_score"], ["kept"], {}),
        ("Gather", ["kept", "one"], ["label"], {"axis": 1}),
        ("Gather", ["kept", "two"], ["place"], {"axis": 1}),
        ("Reshape", ["boxes", "rows"], ["boxes_in_rows"], {}),
        ("Shape", ["boxes_in_rows"], ["points"], {"start": 0, "end": 1}),
        ("Mul", ["label", "points"], ["before"], {}),
        ("Add", ["before", "place"], ["pair"], {}),
        ("Gather", ["all", "pair"], ["score"], {}),
        ("Shape", ["score"], ["found"], {}),
        ("Min", ["found", "most"], ["taken"], {}),
        ("TopK", ["score", "taken"], ["score_in_order", "order"], {}),
        ("Gather", ["place", "order"], ["place_in_order"], {}),
        ("Gather", ["label", "order"], ["label_in_order"], {}),
        ("Gather", ["boxes_in_rows", "place_in_order"], ["box"], {"axis": 0}),
        ("Reshape", ["score_in_order", "column"], ["score_column"], {}),
        ("Cast", ["label_in_order"], ["label_float"], {"to": TensorProto.FLOAT}),
        ("Reshape", ["label_float", "column"], ["label_column"], {}),
        ("Concat", ["box", "score_column", "label_column"], [OUTPUT], {"axis": 1}),
    ]
    ours = {"boxes", "scores", OUTPUT}
    for number, (kind, inputs, outputs, attributes) in enumerate(steps):
        names = [[one if one in ours else f"select_{one}" for one in side] for side in (inputs, outputs)]
        model.graph.node.append(helper.make_node(kind, *names, name=f"select_{number}_{kind}", **attributes))
    model.graph.initializer.extend(
        numpy_helper.from_array(value, f"select_{name}") for name, value in constants.items()
    )
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", 6]))


def check_selection(path: Path, selection: Selection, pictures: Iterable[Pixels]) -> int:
    """Run a file with `OUTPUT` on pictures uint8 [H, W, 3], and compare with what our own selection makes of its boxes
    and scores; the number of detections.

    Raises:
        ModelError: they differ.
    """
    run, count = _runner(path), 0
    for number, pixels in enumerate(pictures):
        boxes, scores, found = run(pixels[None])
        expected = _selected(boxes[0], scores[0], selection)
        count += len(expected)
        if len(found) != len(expected) or not np.allclose(_sorted(found), _sorted(expected), atol=1e-4):
            raise ModelError(
                f"{path}: the selection inside of the file finds {len(found)} objects in picture {number}, ours "
                f"{len(expected)}, or others"
            )
    return count


def _runner(path: Path) -> Callable[[Pixels], Sequence[Floats]]:
    """Pixels [1, H, W, 3] -> boxes, scores and detections of a file or a pair."""
    names = ["boxes", "scores", OUTPUT]
    if path.suffix == ".xml":
        from falconet.runtime.openvino_engine import open_outputs

        return open_outputs(path, names)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(names, {"pixels": pixels})


def _selected(boxes: Floats, scores: Floats, selection: Selection) -> Floats:
    rows, labels = best_pairs(scores, threshold=selection.score_threshold, limit=selection.max_candidates)
    values = scores[rows, labels]
    kept = class_nms(boxes[rows], values, labels, iou_threshold=selection.iou_threshold)[: selection.max_detections]
    return np.concatenate([boxes[rows[kept]], values[kept, None], labels[kept, None]], axis=1).astype(np.float32)


def _sorted(rows: Floats) -> Floats:
    """Equal scores have no order among different programs."""
    return rows[np.lexsort(rows.T)]
