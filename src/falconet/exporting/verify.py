"""Compare an exported file, run as devices run it, with torch: on the same images, in float32, on equal pixels."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from falconet.core.cpus import BUSY, busy_cpus, usable_cpus
from falconet.core.errors import DataError, ModelError
from falconet.core.types import Record
from falconet.eval.classes import ClassMatch
from falconet.eval.classification import AllClasses
from falconet.exporting.compare import CompareBoxes, CompareClasses, Comparison
from falconet.exporting.engines import ENGINES
from falconet.exporting.receipt import Receipt, Side, describe_file
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine, milliseconds_of_both
from falconet.runtime.engines import Use, choose_engine, default_threads
from falconet.runtime.predictor import Predictor, Prepared

_log = logging.getLogger(__name__)

BATCH = 8
"""Images that go through torch together."""

COMPARISONS: dict[str, Callable[..., Comparison]] = {"detect": CompareBoxes, "classify": CompareClasses}
"""What is compared, by task: (manifest, match) -> comparison."""


def verify(
    weights: Path,
    model: Path,
    records: Sequence[Record],
    *,
    match: ClassMatch | AllClasses | None = None,
    engine: str = "auto",
    comparison: Comparison | None = None,
    name: str | None = None,
    threads: int | None = None,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> Receipt:
    """The receipt of an exported file.

    Args:
        weights: weights file or run folder it was exported from.
        model: the exported file.
        records: images; one that cannot be read is reported and left out. Their ground truth counts when `match`
            is given.
        match: translates classes of the model to those of the ground truth; None: there is no AP, no top-1.
        engine: what runs the file, see `falconet.runtime.engines`.
        comparison: what is compared and how far it may differ; None takes that of the task.
        name: what to call the model, when its file still has a temporary name.
        threads: of both sides; None takes what the runtime takes by itself.
        progress: wraps the records, to show how far the loop is.

    Returns:
        The receipt; it is a drift when it has `problems`.

    Raises:
        ModelError: no image to compare with, or a file that cannot be read.
        ConfigError: an engine that is not known or not installed.
    """
    used = threads or default_threads()
    # Every point of torch's network is decoded: which points a file decodes is part of what is compared.
    right: Predictor[Any] = Predictor(ENGINES[choose_engine(model, engine, engines=ENGINES)].open(model, Use(used)))
    size = (right.manifest.preprocess.height, right.manifest.preprocess.width)
    left: Predictor[Any] = Predictor(TorchEngine(weights, max_points=ALL_POINTS, size=size))
    comparison = comparison or COMPARISONS[right.manifest.task](right.manifest, match)
    count, first = _compare(left, right, progress(records), comparison)
    pixels, shipped = first.pixels[None], TorchEngine(weights, size=size)
    busy = busy_cpus() or 0.0
    times = milliseconds_of_both(lambda: shipped(pixels), lambda: right.engine(pixels), threads=used)
    metrics = comparison.metrics()
    sides = [
        Side(name=one.name, version=one.version, milliseconds=took, threads=used, metrics=own)
        for one, took, own in zip((left.engine, right.engine), times, metrics, strict=True)
    ]
    findings = comparison.findings(metrics)
    return Receipt(
        **describe_file(model, weights, name),
        busy=f"others kept {busy:.1f} of {usable_cpus()} CPUs busy" if busy >= BUSY else "",
        task=right.manifest.task,
        images=count,
        findings=tuple(findings),
        problems=tuple(one.problem for one in findings if one.problem),
        torch=sides[0],
        exported=sides[1],
    )


def _compare(
    left: Predictor[Any], right: Predictor[Any], records: Iterable[Record], comparison: Comparison
) -> tuple[int, Prepared]:
    """How many images entered the comparison, and the first of them."""
    first: Prepared | None = None
    count = 0
    for batch in _batches(left, records):
        # Torch runs the images together, which saves it time; the file one by one, as devices do.
        together = left.run([prepared for _, prepared in batch])
        for index, (record, prepared) in enumerate(batch):
            alone = right.run([prepared])
            torch = {key: value[index] for key, value in together.items()}
            comparison.add(record, prepared.placement, torch, {key: value[0] for key, value in alone.items()})
            first = first or prepared
            count += 1
    if first is None:
        raise ModelError("an export is compared with torch on images, but there are none that can be read")
    return count, first


def _batches(predictor: Predictor[Any], records: Iterable[Record]) -> Iterator[list[tuple[Record, Prepared]]]:
    """Images that could be read, `BATCH` at a time."""
    waiting: list[tuple[Record, Prepared]] = []
    for record in records:
        try:
            waiting.append((record, predictor.prepare(record.path)))
        except DataError as error:
            _log.warning("left out: %s", error)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
