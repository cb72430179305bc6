"""What is worth a warning, or no beginning, before the first step."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.data.anchors import FOUND, measure, widths_heights_in_input
from falconet.models.yolov3 import YOLOv3Config
from falconet.training.run_config import RunConfig

LEAST_RECALL = 0.75
"""Share of the boxes that anchors should be able to find; the paper's nine find about 0.8 of COCO's."""


WEIGHTS, CHECKPOINT = 1, 4
"""What an averaged network takes on the disk, and what a checkpoint does with the average and AdamW's two moments,
over what the networks take in memory."""

SMALL_FILES = 1 << 20
"""Bytes of logs and curves, at least."""


def check_space(folder: Path, networks: nn.Module, *, resumed: bool) -> None:
    """Raise DataError where the files of a run find no room: before the first step, not after an epoch.

    Args:
        folder: of the run; exists.
        networks: what is trained.
        resumed: its files are there, and are replaced one by one.
    """
    size = sum(value.nbytes for value in networks.state_dict().values())
    # Each file is written beside the one that it replaces.
    files = CHECKPOINT if resumed else 2 * WEIGHTS + 2 * CHECKPOINT
    needed, free = files * size + SMALL_FILES, shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: {free / 2**20:.0f} MB are free, but the weights and checkpoints of this run take about "
            f"{needed / 2**20:.0f} MB; free some, or choose another folder with output=..."
        )


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
        f"{run.data.train.place}{split} --run RUN.yaml"
    ]
