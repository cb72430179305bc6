"""Compare an exported classifier, run as devices run it, with torch."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from falconet.core.errors import DataError, ModelError
from falconet.core.types import Pixels, Record
from falconet.export.receipt import ClassReceipt, ClassSide, ClassTolerance, describe_file, find_class_problems
from falconet.export.torch_engine import TorchClassifier, milliseconds_of_both
from falconet.runtime.classifier import ClassifierPredictor, OnnxClassifier
from falconet.runtime.session import default_threads

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Tally:
    """What adds up over the pictures."""

    pictures: int = 0
    same: int = 0
    difference: float = 0.0
    rights: list[int] = field(default_factory=lambda: [0, 0])
    first: Pixels | None = None


def verify_classifier(
    weights: Path,
    model: Path,
    records: Sequence[Record],
    *,
    names: Sequence[str] | None = None,
    tolerance: ClassTolerance | None = None,
    name: str | None = None,
    threads: int | None = None,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> ClassReceipt:
    """The receipt of an exported classifier.

    Args:
        weights: weights file or run folder it was exported from.
        model: the exported file.
        records: pictures; one that cannot be read is reported and left out.
        names: classes that the labels of the records index; None: no truth. Classes that the model does not have
            are never right.
        tolerance: what is allowed; None takes the defaults.
        name: what to call the model, when its file still has a temporary name.
        threads: of both sides; None takes what the runtime takes by itself.
        progress: wraps the records, to show how far the loop is.

    Raises:
        ModelError: no picture to compare with, or a file that cannot be read.
    """
    left = ClassifierPredictor(TorchClassifier(weights))
    right = ClassifierPredictor(OnnxClassifier(model, threads=threads))
    tally = _tally(left, right, progress(records), names)
    if tally.first is None:
        raise ModelError(f"{model}: an export is compared with torch on pictures, but there are none")
    used = threads or default_threads()
    pixels = tally.first[None]
    times = milliseconds_of_both(lambda: left.engine(pixels), lambda: right.engine(pixels), threads=used)
    top1 = [None, None] if names is None else [count / tally.pictures for count in tally.rights]
    receipt = ClassReceipt(
        **describe_file(model, weights, name),
        pictures=tally.pictures,
        largest_difference=tally.difference if np.isfinite(tally.difference) else 1e9,
        same=tally.same,
        torch=ClassSide(
            name="torch", version=str(torch.__version__), top1=top1[0], milliseconds=times[0], threads=used
        ),
        exported=ClassSide(
            name="onnxruntime", version=onnxruntime.__version__, top1=top1[1], milliseconds=times[1], threads=used
        ),
        tolerance=tolerance or ClassTolerance(),
    )
    return receipt.model_copy(update={"problems": tuple(find_class_problems(receipt))})


def _tally(
    left: ClassifierPredictor, right: ClassifierPredictor, records: Iterable[Record], names: Sequence[str] | None
) -> _Tally:
    """What both sides say of the pictures."""
    tally = _Tally()
    for record in records:
        try:
            pixels = left.prepare(record.path)
        except DataError as error:
            _log.warning("left out: %s", error)
            continue
        one, other = left.engine(pixels[None])[0], right.engine(pixels[None])[0]
        gap = float(np.abs(one - other).max())
        tally.difference = gap if not gap <= tally.difference else tally.difference  # a NaN stays
        tally.same += int(one.argmax() == other.argmax())
        if names is not None:
            truth = names[int(record.labels[0])]
            for side, scores in enumerate((one, other)):
                tally.rights[side] += left.names[int(scores.argmax())] == truth
        tally.pictures += 1
        tally.first = pixels if tally.first is None else tally.first
    return tally
