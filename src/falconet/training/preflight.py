"""What is worth a warning before the first step."""

from collections.abc import Sequence

from falconet.core.types import Record
from falconet.data.anchors import FOUND, measure, widths_heights_in_input
from falconet.models.yolov3 import YOLOv3Config
from falconet.training.run_config import RunConfig

LEAST_RECALL = 0.75
"""Share of the boxes that anchors should be able to find; the paper's nine find about 0.8 of COCO's."""


def preflight_warnings(run: RunConfig, train: Sequence[Record]) -> list[str]:
    """Warnings about a run, each with what to do; empty where all is well.

    Args:
        run: the run.
        train: its training pictures.
    """
    if not isinstance(run.model, YOLOv3Config):
        return []
    head = run.model.head
    used = [head.anchors[index] for index in sorted({index for mask in head.masks for index in mask})]
    fit = measure(widths_heights_in_input(train, run.model.input), used)
    if fit.recall >= LEAST_RECALL:
        return []
    size = run.model.input
    split = "" if run.data.train.split is None else f" --split {run.data.train.split}"
    return [
        f"the anchors fit {fit.recall:.0%} of the boxes only (IoU above {FOUND:g} with the best anchor, at "
        f"{size.height} x {size.width}); find better ones with: falconet data anchors "
        f"{run.data.train.annotations}{split} --run RUN.yaml"
    ]
