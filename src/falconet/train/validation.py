"""How good the weights in training are, measured as `falconet eval` does: same resize, network, selection."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import distributed, nn

from falconet.core.manifest import EVALUATION
from falconet.core.select import select
from falconet.core.types import Detections, Ints, Record
from falconet.eval.accuracy import Accuracy, best_classes, measure_accuracy
from falconet.eval.coco_ap import Metrics, evaluate
from falconet.models.deployable import Deployable
from falconet.train.batch import Batch

Found = dict[int, Detections]
"""Detections by position in the validation records."""

Ranked = dict[int, Ints]
"""The best classes, best first, by position in the validation records."""

Answer = TypeVar("Answer")


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


@torch.inference_mode()
def classify(deployable: nn.Module, batches: Iterable[Batch], *, device: torch.device) -> tuple[Ranked, list[str]]:
    """The best classes of every picture that could be read, and why others could not."""
    found: Ranked = {}
    problems: list[str] = []
    for batch in batches:
        problems.extend(batch.problems)
        if len(batch.indices):
            ranked = best_classes(deployable(batch.pixels.to(device)).float().cpu().numpy())
            found.update(zip(batch.indices.tolist(), ranked, strict=True))
    return found, problems


def gather(found: dict[int, Answer]) -> dict[int, Answer]:
    """The answers of all processes, in each of them. No picture is in two processes' shares."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    shares: list[dict[int, Answer] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, found)
    return {index: answer for share in shares if share for index, answer in share.items()}


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


def measure_classes(
    deployable: nn.Module,
    batches: Iterable[Batch],
    *,
    names: Sequence[str],
    records: Sequence[Record],
    device: torch.device,
) -> tuple[Accuracy, list[str]]:
    """Accuracy over the pictures of all processes, and why some of this process's were left out.

    Args:
        deployable: a classifier with everything around it, in evaluation mode.
        batches: this process's share of the validation.
        records: all of the validation; the class of a picture is that of its only box.
    """
    assert not deployable.training, "validation runs in evaluation mode"
    found, problems = classify(deployable, batches, device=device)
    found = gather(found)
    seen = sorted(found)
    labels = [int(records[index].labels[0]) for index in seen]
    return measure_accuracy(names, labels, [found[index] for index in seen]), problems
