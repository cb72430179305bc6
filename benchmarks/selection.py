"""Selection with NMS on [1000, 80] scores with a few dozen pairs above 0.25; the peer is OpenCV's NMS per class.

python benchmarks/selection.py
"""

import cv2
import numpy as np
from common import in_turns, milliseconds, write

from falconet.core.manifest import Selection
from falconet.core.select import select
from falconet.core.types import Floats, Placement


def scene(seed: int) -> tuple[Floats, Floats]:
    """Boxes [1000, 4] and scores [1000, 80] as a detector gives them for a picture with ten objects."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(40, 280, (10, 2)), rng.uniform(20, 120, (10, 2))
    owner = rng.integers(0, 10, 1000)
    middle = centres[owner] + rng.normal(0, 6, (1000, 2))
    side = sides[owner] * rng.uniform(0.8, 1.2, (1000, 2))
    boxes = np.concatenate([middle - side / 2, middle + side / 2], 1).clip(0, 320)
    scores = rng.uniform(0, 0.05, (1000, 80))
    strong = rng.choice(1000, 60, replace=False)
    scores[strong, owner[strong]] = rng.uniform(0.2, 0.9, 60)
    return boxes.astype(np.float32), scores.astype(np.float32)


def opencv(boxes: Floats, scores: Floats, selection: Selection) -> int:
    """The same choice with `cv2.dnn.NMSBoxes`, class by class."""
    kept = 0
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(scores[:, label] > selection.score_threshold)
        if len(rows):
            corners = boxes[rows]
            sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
            kept += len(cv2.dnn.NMSBoxes(sides, scores[rows, label], 0.0, selection.iou_threshold))
    return kept


def main() -> None:
    """Measure both."""
    selection = Selection(score_threshold=0.25)
    placement = Placement((0.5, 0.5), (0.0, 0.0), (640, 640))
    boxes, scores = scene(0)
    assert len(select(boxes, scores, placement, selection)) == opencv(boxes, scores, selection)
    seconds = in_turns(
        {
            "falconet.core.select": lambda: select(boxes, scores, placement, selection),
            "cv2.dnn.NMSBoxes per class": lambda: opencv(boxes, scores, selection),
        },
        rounds=500,
        warm_up=20,
    )
    peer = float(np.median(seconds["cv2.dnn.NMSBoxes per class"]))
    table = [
        {"selection": name, **milliseconds(values), "x OpenCV": f"{np.median(values) / peer:.2f}"}
        for name, values in seconds.items()
    ]
    pairs = int((scores > selection.score_threshold).sum())
    write(
        "select",
        "Selection with NMS",
        "python benchmarks/selection.py",
        table,
        f"[1000, 80] scores, {pairs} pairs above 0.25, NMS at IoU 0.6 within a class.",
    )


if __name__ == "__main__":
    main()
