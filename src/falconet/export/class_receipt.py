"""Compare an exported classifier, run as devices run it, with torch, and say what came out."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from pydantic import Field

from falconet.core.config import Config
from falconet.core.errors import DataError, ModelError
from falconet.core.types import Pixels, Record
from falconet.eval.latency import machine
from falconet.export.torch_engine import TorchClassifier, milliseconds_of_both
from falconet.runtime.classifier import ClassifierPredictor, OnnxClassifier
from falconet.runtime.session import default_threads

_log = logging.getLogger(__name__)


class ClassTolerance(Config):
    """How far a file may be from torch. Both compute in float32, but add up in different orders."""

    probability: float = Field(default=1e-3, ge=0, description="largest difference of a probability")
    same: float = Field(default=0.99, ge=0, le=1, description="share of pictures with the same best class")
    top1: float = Field(default=0.002, ge=0, description="difference of top-1, a fraction")


class ClassSide(Config):
    """One of the two that are compared."""

    name: str = Field(description="torch, or the runtime")
    version: str
    top1: float | None = Field(description="fraction; null without truth")
    milliseconds: float = Field(description="median of one picture through the network")
    threads: int = Field(description="for these milliseconds")


class ClassReceipt(Config):
    """What was compared and what came out."""

    task: str = "classify"
    model: str = Field(description="the exported file")
    weights: str = Field(description="what it was exported from")
    sha256: str = Field(description="of the exported file")
    size: int = Field(description="of the exported file, bytes")
    pictures: int = Field(description="compared")
    largest_difference: float = Field(description="of probabilities")
    same: int = Field(description="pictures with the same best class")
    torch: ClassSide
    exported: ClassSide
    tolerance: ClassTolerance
    problems: tuple[str, ...] = Field(default=(), description="where the tolerance was exceeded")
    machine: dict[str, str] = Field(default={}, description="where this was measured")

    def text(self) -> str:
        """The receipt for people, a few lines."""
        left, right = self.torch, self.exported
        lines = [
            f"{self.model}: {self.size / 2**20:.2f} MB, sha256 {self.sha256}",
            f"from {self.weights}, compared on {self.pictures} pictures",
            f"largest difference   probability {self.largest_difference:.2g}",
            f"best class           the same in {self.same} of {self.pictures}",
        ]
        if left.top1 is not None and right.top1 is not None:
            lines.append(f"top-1                {left.top1:.4f} {left.name}, {right.top1:.4f} {right.name}")
        times = [f"{s.milliseconds:.2f} {s.name} ({s.threads} thread{'s' * (s.threads > 1)})" for s in (left, right)]
        lines.append(f"ms per picture       {', '.join(times)}")
        lines.append(f"verdict              {'; '.join(self.problems) or 'the same within tolerance'}")
        return "\n".join(lines) + "\n"


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
    difference, same, seen, rights = 0.0, 0, 0, [0, 0]
    first: Pixels | None = None
    for record in progress(records):
        try:
            pixels = left.prepare(record.path)
        except DataError as error:
            _log.warning("left out: %s", error)
            continue
        one, other = left.engine(pixels[None])[0], right.engine(pixels[None])[0]
        gap = float(np.abs(one - other).max())
        difference = gap if not gap <= difference else difference  # a NaN stays
        same += int(one.argmax() == other.argmax())
        if names is not None:
            truth = names[int(record.labels[0])]
            rights = [rights[i] + (left.names[int(p.argmax())] == truth) for i, p in enumerate((one, other))]
        seen += 1
        first = pixels if first is None else first
    if first is None:
        raise ModelError(f"{model}: an export is compared with torch on pictures, but there are none")
    used = threads or default_threads()
    pixels = first[None]
    times = milliseconds_of_both(lambda: left.engine(pixels), lambda: right.engine(pixels), threads=used)
    top1 = [None, None] if names is None else [count / seen for count in rights]
    content = model.read_bytes()
    receipt = ClassReceipt(
        model=name or model.name,
        weights=weights.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        pictures=seen,
        largest_difference=difference if np.isfinite(difference) else 1e9,
        same=same,
        torch=ClassSide(
            name="torch", version=str(torch.__version__), top1=top1[0], milliseconds=times[0], threads=used
        ),
        exported=ClassSide(
            name="onnxruntime", version=onnxruntime.__version__, top1=top1[1], milliseconds=times[1], threads=used
        ),
        tolerance=tolerance or ClassTolerance(),
        machine=machine(),
    )
    return receipt.model_copy(update={"problems": tuple(find_class_problems(receipt))})


def find_class_problems(receipt: ClassReceipt) -> list[str]:
    """Where a comparison exceeds its tolerance, one sentence each."""
    allowed, problems = receipt.tolerance, []
    if not receipt.largest_difference <= allowed.probability:
        problems.append(
            f"probabilities differ by {receipt.largest_difference:.3g}, allowed are {allowed.probability:g}"
        )
    if receipt.same < allowed.same * receipt.pictures:
        problems.append(
            f"only {receipt.same} of {receipt.pictures} pictures have the same best class, expected {allowed.same:.1%}"
        )
    if receipt.torch.top1 is not None and receipt.exported.top1 is not None:
        change = receipt.exported.top1 - receipt.torch.top1
        if not abs(change) <= allowed.top1:
            problems.append(f"top-1 changes by {change:+.4f}, allowed are {allowed.top1:g}")
    return problems
