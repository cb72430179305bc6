"""Average precision of the weights in training, measured as `falconet eval` does: same resize, network, selection."""

from collections.abc import Iterable, Sequence

import torch
from torch import distributed, nn

from falconet.core.manifest import EVALUATION
from falconet.core.select import select
from falconet.core.types import Detections, Record
from falconet.eval.coco_ap import Metrics, evaluate
from falconet.models.deployable import Deployable
from falconet.train.batch import Batch

Found = dict[int, Detections]
"""Detections by position in the validation records."""


@torch.inference_mode()
def detect(deployable: Deployable, batches: Iterable[Batch], *, device: torch.device) -> tuple[Found, list[str]]:
    """Detections of every picture that could be read, and why others could not."""
    found: Found = {}
    problems: list[str] = []
    for batch in batches:
        problems.extend(batch.problems)
        if not len(batch.indices):
            continue
        boxes, scores = deployable(batch.pixels.to(device))
        boxes, scores = boxes.float().cpu().numpy(), scores.float().cpu().numpy()
        for row, (index, placement) in enumerate(zip(batch.indices.tolist(), batch.placements, strict=True)):
            found[index] = select(boxes[row], scores[row], placement, EVALUATION)
    return found, problems


def gather(found: Found) -> Found:
    """The detections of all processes, in each of them. No picture is in two processes' shares."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    shares: list[Found | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, found)
    return {index: detections for share in shares if share for index, detections in share.items()}


def measure(
    detector: nn.Module,
    batches: Iterable[Batch],
    *,
    deployable: Deployable,
    names: Sequence[str],
    records: Sequence[Record],
    device: torch.device,
) -> tuple[Metrics, list[str]]:
    """COCO figures over the pictures of all processes, and why some of this process's were left out.

    Args:
        detector: in evaluation mode, inside `deployable`.
        batches: this process's share of the validation.
        records: all of the validation.
    """
    assert not detector.training, "validation runs in evaluation mode"
    found, problems = detect(deployable, batches, device=device)
    found = gather(found)
    seen = sorted(found)
    return evaluate(names, [records[index] for index in seen], [found[index] for index in seen]), problems
