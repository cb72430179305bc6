"""What differs between training one task and another: one row per task; everything else is the same loop."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from falconet.core.manifest import Selection
from falconet.core.select import select
from falconet.core.types import Record
from falconet.eval import coco_ap
from falconet.eval.accuracy import best_classes, measure_accuracy
from falconet.eval.operating_point import OperatingPoints
from falconet.models import ClassifierConfig, ModelConfig
from falconet.models.deployable import Deployable, DeployableClassifier
from falconet.training.batch import Batch
from falconet.training.distributed import from_all

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask:
    """One task in training.

    Attributes:
        image_level_labels: a label stands for a whole image, not for a box in it.
        key_metric, second_metric: two metrics of a validation; the first one decides which weights are the best.
        deployable: (network, preprocess) -> everything from pixels to outputs; `network` is part of it.
        answers: (outputs of a batch, batch, selection of an evaluation) -> the answer for each of its images.
        measure: (class names, records, answers) -> metrics, as in metrics.jsonl.
    """

    image_level_labels: bool
    key_metric: str
    second_metric: str
    deployable: Callable[..., nn.Module]
    answers: Callable[[Any, Batch, Selection], Sequence[Any]]
    measure: Callable[[Sequence[str], Sequence[Record], Sequence[Any]], dict[str, Any]]


def _detections(outputs: Any, batch: Batch, selection: Selection) -> list[Any]:
    boxes, scores = (part.float().cpu().numpy() for part in outputs)
    return [select(boxes[row], scores[row], where, selection) for row, where in enumerate(batch.placements)]


def _average_precision(names: Sequence[str], records: Sequence[Record], answers: Sequence[Any]) -> dict[str, Any]:
    evaluator = coco_ap.run(names, records, answers)
    metrics = coco_ap.summarize(evaluator, names, records)
    best = OperatingPoints.of(evaluator, records, answers).best()
    chosen = {} if best is None else {"F1": best.f1, **asdict(best)}
    return {**metrics.as_dict(), **chosen, "per_class": dict(metrics.per_class)}


def _ranked(outputs: Any, batch: Batch, selection: Selection) -> Sequence[Any]:  # noqa: ARG001
    return list(best_classes(outputs.float().cpu().numpy()))


def _accuracy(names: Sequence[str], records: Sequence[Record], answers: Sequence[Any]) -> dict[str, Any]:
    metrics = measure_accuracy(names, [int(record.labels[0]) for record in records], answers)
    return {**metrics.as_dict(), "per_class": metrics.per_class}


TASKS: Mapping[str, TrainTask] = {
    "detect": TrainTask(
        image_level_labels=False,
        key_metric="AP",
        second_metric="AP50",
        deployable=Deployable,
        answers=_detections,
        measure=_average_precision,
    ),
    "classify": TrainTask(
        image_level_labels=True,
        key_metric="top1",
        second_metric="top5",
        deployable=DeployableClassifier,
        answers=_ranked,
        measure=_accuracy,
    ),
}
"""By the task's name in a model's manifest."""

SHOWN_METRICS = tuple(name for task in TASKS.values() for name in (task.key_metric, task.second_metric))
"""Metrics of a validation that are told in a line."""


def task_of(config: ModelConfig) -> TrainTask:
    """The task of the network that `config` describes."""
    return TASKS["classify" if isinstance(config, ClassifierConfig) else "detect"]


@torch.inference_mode()
def validate(
    task: TrainTask,
    deployable: nn.Module,
    batches: Iterable[Batch],
    *,
    over: Callable[[], bool] = lambda: False,
    names: Sequence[str],
    records: Sequence[Record],
    selection: Selection,
    device: torch.device,
) -> tuple[dict[str, Any], list[str]]:
    """How good weights in training are, measured as `falconet eval` does: same resize, network, selection.

    Args:
        deployable: of the task, in evaluation mode.
        batches: this process's share of the validation.
        over: whether there is no time for another batch; then the metrics are those of the images so far, and
            "val_images" says how many these are.
        records: all of the validation.
        selection: of a detector, as for an evaluation.

    Returns:
        Metrics over the images of all processes, and why some of this process's were left out.
    """
    assert not deployable.training, "validation runs in evaluation mode"
    found: dict[int, Any] = {}
    problems: list[str] = []
    cut = False
    for batch in batches:
        cut = bool(found) and over()
        if cut:
            break
        problems.extend(batch.problems)
        if len(batch.indices):
            outputs = deployable(batch.pixels.to(device))
            found.update(zip(batch.indices.tolist(), task.answers(outputs, batch, selection), strict=True))
    # No image is in two processes' shares.
    shares = from_all((found, cut))
    everything = {index: answer for share, _ in shares for index, answer in share.items()}
    seen = sorted(everything)
    metrics = task.measure(names, [records[index] for index in seen], [everything[index] for index in seen])
    if any(one_was_cut for _, one_was_cut in shares):
        metrics["val_images"] = len(seen)
        _log.warning("validated on %d of %d images; there is no time for all of them", len(seen), len(records))
    return metrics, problems
