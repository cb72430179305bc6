"""What a comparison of an exported file with torch found, for programs (JSON) and for people."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from falconet.core.config import Config
from falconet.core.errors import ModelError
from falconet.core.files import replace_file
from falconet.eval.latency import machine

SAME_BOX = 0.99
"""Detections of both sides are the same from this IoU on, when their class is."""


class Tolerance(Config):
    """How far a file may be from torch. Both compute in float32, but add up in different orders."""

    box: float = Field(default=0.1, ge=0, description="largest difference of a corner, input pixels")
    score: float = Field(default=1e-3, ge=0, description="largest difference of a score")
    matched: float = Field(default=0.99, ge=0, le=1, description="share of detections with a partner")
    ap: float = Field(default=0.002, ge=0, description="difference of AP, a fraction")


class AnySide(Config):
    """One of the two that are compared, whatever the task."""

    name: str = Field(description="torch, or the runtime")
    version: str
    milliseconds: float = Field(description="median of one picture through the network")
    threads: int = Field(description="for these milliseconds")


class Side(AnySide):
    """One of two detectors."""

    detections: int = Field(description="in all pictures")
    ap: float | None = Field(description="fraction; null without truth")
    ap50: float | None = Field(description="fraction; null without truth")


class AnyReceipt(Config):
    """What was compared and what came of it, whatever the task."""

    model: str = Field(description="the exported file")
    weights: str = Field(description="what it was exported from")
    sha256: str = Field(description="of the exported file")
    size: int = Field(description="of the exported file, bytes")
    pictures: int = Field(description="compared")
    problems: tuple[str, ...] = Field(default=(), description="where the tolerance was exceeded")
    machine: dict[str, str] = Field(default={}, description="where this was measured")

    def page(self, compared: str, findings: Sequence[str], sides: Sequence[AnySide]) -> str:
        """The receipt for people: the file, what the task found, times, verdict."""
        times = [f"{s.milliseconds:.2f} {s.name} ({s.threads} thread{'s' * (s.threads > 1)})" for s in sides]
        lines = [
            f"{self.model}: {self.size / 2**20:.2f} MB, sha256 {self.sha256}",
            f"from {self.weights}, compared on {self.pictures} pictures{compared}",
            *findings,
            f"ms per picture       {', '.join(times)}",
            f"verdict              {'; '.join(self.problems) or 'the same within tolerance'}",
        ]
        return "\n".join(lines) + "\n"


def describe_file(model: Path, weights: Path, name: str | None) -> dict[str, Any]:
    """The fields of a receipt that say which file it is about; `name` stands for that of a file that will move."""
    content = model.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {
        "model": name or model.name,
        "weights": weights.name,
        "sha256": digest,
        "size": len(content),
        "machine": machine(),
    }


class Receipt(AnyReceipt):
    """What was compared of a detector and what came out."""

    other_shapes: int = Field(description="of these, with other proportions than the network's input")
    raw_pictures: int = Field(description="of these, compared before selection, too")
    score_threshold: float = Field(description="detections above this entered")
    largest_box_difference: float = Field(description="of raw boxes, input pixels")
    largest_score_difference: float = Field(description="of raw scores")
    matched: int = Field(description=f"pairs of detections of one class with an IoU above {SAME_BOX}")
    torch: Side
    exported: Side
    tolerance: Tolerance

    def text(self) -> str:
        """The receipt for people, a few lines."""
        left, right = self.torch, self.exported
        findings = [
            f"largest difference   box {self.largest_box_difference:.2g} px, score {self.largest_score_difference:.2g}",
            f"detections           {left.detections} {left.name}, {right.detections} {right.name}, "
            f"{self.matched} matched (same class, IoU > {SAME_BOX})",
        ]
        if left.ap is not None and right.ap is not None:
            findings.append(f"AP                   {left.ap:.4f} {left.name}, {right.ap:.4f} {right.name}")
        return self.page(f", {self.other_shapes} of other proportions than the input", findings, (left, right))


class ClassTolerance(Config):
    """How far a file may be from torch. Both compute in float32, but add up in different orders."""

    probability: float = Field(default=1e-3, ge=0, description="largest difference of a probability")
    same: float = Field(default=0.99, ge=0, le=1, description="share of pictures with the same best class")
    top1: float = Field(default=0.002, ge=0, description="difference of top-1, a fraction")


class ClassSide(AnySide):
    """One of two classifiers."""

    top1: float | None = Field(description="fraction; null without truth")


class ClassReceipt(AnyReceipt):
    """What was compared of a classifier and what came out."""

    task: str = "classify"
    largest_difference: float = Field(description="of probabilities")
    same: int = Field(description="pictures with the same best class")
    torch: ClassSide
    exported: ClassSide
    tolerance: ClassTolerance

    def text(self) -> str:
        """The receipt for people, a few lines."""
        left, right = self.torch, self.exported
        findings = [
            f"largest difference   probability {self.largest_difference:.2g}",
            f"best class           the same in {self.same} of {self.pictures}",
        ]
        if left.top1 is not None and right.top1 is not None:
            findings.append(f"top-1                {left.top1:.4f} {left.name}, {right.top1:.4f} {right.name}")
        return self.page("", findings, (left, right))


def find_problems(receipt: Receipt) -> list[str]:
    """Where a comparison exceeds its tolerance, one sentence each."""
    allowed, problems = receipt.tolerance, []
    # Written so that a NaN is a problem.
    if not receipt.largest_box_difference <= allowed.box:
        problems.append(f"boxes differ by {receipt.largest_box_difference:.3g} px, allowed are {allowed.box:g}")
    if not receipt.largest_score_difference <= allowed.score:
        problems.append(f"scores differ by {receipt.largest_score_difference:.3g}, allowed are {allowed.score:g}")
    most = max(receipt.torch.detections, receipt.exported.detections)
    if receipt.matched < allowed.matched * most:
        problems.append(f"only {receipt.matched} of {most} detections match, expected {allowed.matched:.1%}")
    if receipt.torch.ap is not None and receipt.exported.ap is not None:
        change = receipt.exported.ap - receipt.torch.ap
        if not abs(change) <= allowed.ap:
            problems.append(f"AP changes by {change:+.4f}, allowed are {allowed.ap:g}")
    return problems


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


def receipt_paths(model: Path) -> tuple[Path, Path]:
    """Where the receipt of a model file lies: JSON, text."""
    return model.with_suffix(".receipt.json"), model.with_suffix(".receipt.txt")


def write_receipt(receipt: Receipt | ClassReceipt, model: Path) -> tuple[Path, Path]:
    """Write the receipt beside the model file; returns where. Raises DataError when it cannot be written."""
    as_json, as_text = receipt_paths(model)
    replace_file(as_json, receipt.model_dump_json(indent=2) + "\n")
    replace_file(as_text, receipt.text())
    return as_json, as_text


def read_receipt(path: Path) -> Receipt:
    """A receipt that `write_receipt` wrote.

    Raises:
        ModelError: missing, or not a receipt.
    """
    try:
        return Receipt.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: is not a receipt of this version of 'falconet export'") from error
