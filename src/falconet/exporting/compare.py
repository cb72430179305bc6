"""What two engines must agree in, task by task: raw outputs, answers, and what these are worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from falconet.core.boxes import pairwise_iou
from falconet.core.manifest import EVALUATION, Manifest
from falconet.core.select import select
from falconet.core.types import Detections, Floats, Placement, Record
from falconet.eval.classes import ClassMatch
from falconet.eval.classification import AllClasses
from falconet.eval.coco_ap import evaluate
from falconet.exporting.receipt import Finding
from falconet.runtime.tasks import Outputs

SAME_BOX = 0.99
"""Detections of both sides are the same from this IoU on, when their class is."""

INFINITE = 1e9
"""Stands in a receipt for infinity and for what is no number, which JSON does not know."""

SideMetrics = tuple[dict[str, float], dict[str, float]]
"""AP or top-1 of both sides by name; empty without ground truth."""


class Comparison(Protocol):
    """Adds up over the images what both sides say of them."""

    def add(self, record: Record, placement: Placement, torch: Outputs, exported: Outputs) -> None:
        """One image: the outputs of both sides, without the batch axis."""
        ...

    def findings(self, metrics: SideMetrics) -> list[Finding]:
        """What was found, each with its tolerance."""
        ...

    def metrics(self) -> SideMetrics:
        """What the answers are worth."""
        ...


@dataclass(slots=True)
class CompareBoxes:
    """Compares detectors.

    Attributes:
        manifest: of both sides.
        match: translates classes of the model to those of the ground truth; None: there is none.
        raw_images: so many images are compared before selection, too.
        tolerance: how far the sides may differ: box (a corner, input pixels), score, matched (share of detections with
            a partner), AP (fraction). Both compute in float32, but add up in different orders.
    """

    manifest: Manifest
    match: ClassMatch | None = None
    raw_images: int = 32
    tolerance: Mapping[str, float] = field(
        default_factory=lambda: {"box": 0.1, "score": 1e-3, "matched": 0.99, "AP": 0.002}
    )
    _records: list[Record] = field(default_factory=list)
    _found: tuple[list[Detections], list[Detections]] = field(default_factory=lambda: ([], []))
    _other_shapes: int = 0
    _raw: int = 0
    _box: float = 0.0
    _score: float = 0.0
    _matched: int = 0

    def add(self, record: Record, placement: Placement, torch: Outputs, exported: Outputs) -> None:
        """See `Comparison`; torch's outputs hold every point of the network, the file's its best ones."""
        pair = [
            select(side["boxes"], side["scores"], placement, EVALUATION, names=self.manifest.classes)
            for side in (torch, exported)
        ]
        for found, one in zip(self._found, pair, strict=True):
            found.append(one)
        self._records.append(record)
        size, (height, width) = self.manifest.preprocess, placement.original
        self._other_shapes += height * size.width != width * size.height
        self._matched += count_matches(*pair)
        if self._raw < self.raw_images:
            box, score = raw_differences(exported["boxes"], exported["scores"], torch["boxes"], torch["scores"])
            self._box, self._score = max(self._box, box), max(self._score, score)
            self._raw += 1

    def metrics(self) -> SideMetrics:
        """AP and AP50."""
        if self.match is None:
            return {}, {}
        sides = []
        for found in self._found:
            metrics = evaluate(self.match.names, self._records, [self.match.apply(one) for one in found])
            sides.append({name: metrics[name] for name in ("AP", "AP50")})
        return sides[0], sides[1]

    def findings(self, metrics: SideMetrics) -> list[Finding]:
        """See `Comparison`."""
        allowed = self.tolerance
        counts = [sum(map(len, found)) for found in self._found]
        most = max(counts)
        share = self._matched / most if most else 1.0
        proportions = f"{self._other_shapes} of {len(self._records)} have other proportions than the input"
        return [
            Finding(key="images", text=proportions, value=len(self._records)),
            at_most(
                "box difference",
                self._box,
                allowed["box"],
                text=f"largest {self._box:.2g} px, of {self._raw} images before selection",
                problem=f"boxes differ by {self._box:.3g} px, allowed are {allowed['box']:g}",
            ),
            at_most(
                "score difference",
                self._score,
                allowed["score"],
                text=f"largest {self._score:.2g}",
                problem=f"scores differ by {self._score:.3g}, allowed are {allowed['score']:g}",
            ),
            at_least(
                "matched detections",
                share,
                allowed["matched"],
                text=f"{self._matched} of {counts[0]} torch, {counts[1]} exported, scores above "
                f"{EVALUATION.score_threshold:g} (same class, IoU > {SAME_BOX})",
                problem=f"only {self._matched} of {most} detections match, expected {allowed['matched']:.1%}",
            ),
            *change_of("AP", metrics, allowed["AP"]),
        ]


@dataclass(slots=True)
class CompareClasses:
    """Compares classifiers.

    Attributes:
        manifest: of both sides.
        match: translates classes of the model to those of the ground truth; None: there is none. Classes that the
            model does not have are never right.
        tolerance: how far the sides may differ: probability, same (share of images with the same best class), top1
            (fraction). Both compute in float32, but add up in different orders.
    """

    manifest: Manifest
    match: AllClasses | None = None
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"probability": 1e-3, "same": 0.99, "top1": 0.002})
    _images: int = 0
    _same: int = 0
    _difference: float = 0.0
    _right: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, record: Record, placement: Placement, torch: Outputs, exported: Outputs) -> None:  # noqa: ARG002
        """See `Comparison`."""
        pair = (torch["probabilities"], exported["probabilities"])
        gap = float(np.abs(pair[0] - pair[1]).max())
        self._difference = gap if not gap <= self._difference else self._difference  # a NaN stays
        self._same += int(pair[0].argmax() == pair[1].argmax())
        self._images += 1
        if self.match is not None:
            for side, probabilities in enumerate(pair):
                self._right[side] += int(self.match.to_names[probabilities.argmax()] == record.labels[0])

    def metrics(self) -> SideMetrics:
        """Top-1."""
        if self.match is None:
            return {}, {}
        first, second = (right / max(1, self._images) for right in self._right)
        return {"top1": first}, {"top1": second}

    def findings(self, metrics: SideMetrics) -> list[Finding]:
        """See `Comparison`."""
        allowed, images = self.tolerance, self._images
        return [
            at_most(
                "probability",
                self._difference,
                allowed["probability"],
                text=f"largest difference {self._difference:.2g}",
                problem=f"probabilities differ by {self._difference:.3g}, allowed are {allowed['probability']:g}",
            ),
            at_least(
                "best class",
                self._same / max(1, images),
                allowed["same"],
                text=f"the same in {self._same} of {images}",
                problem=f"only {self._same} of {images} images have the same best class, "
                f"expected {allowed['same']:.1%}",
            ),
            *change_of("top1", metrics, allowed["top1"]),
        ]


def at_most(key: str, value: float, limit: float, *, text: str, problem: str) -> Finding:
    """A finding that may not be larger than `limit`; what is no number is a problem."""
    written = value if np.isfinite(value) else INFINITE
    return Finding(key=key, text=text, value=written, most=limit, problem="" if value <= limit else problem)


def at_least(key: str, value: float, limit: float, *, text: str, problem: str) -> Finding:
    """A finding that may not be smaller than `limit`."""
    return Finding(key=key, text=text, value=value, least=limit, problem="" if value >= limit else problem)


def change_of(name: str, metrics: SideMetrics, limit: float) -> list[Finding]:
    """How far a figure of the file is from that of torch; nothing without ground truth."""
    torch, exported = metrics
    if name not in torch:
        return []
    change = exported[name] - torch[name]
    problem = f"{name} changes by {change:+.4f}, allowed are {limit:g}"
    return [at_most(f"{name} change", abs(change), limit, text="", problem=problem)]


def raw_differences(boxes: Floats, scores: Floats, all_boxes: Floats, all_scores: Floats) -> tuple[float, float]:
    """Largest differences of boxes (pixels) and scores between rows [N] and the same rows among all rows [P].

    A file returns its best points; which ones, and in what order, is open where two rank equally. So each row is
    compared with the row of the other side that is most like it, and the N best ranks are compared as numbers.

    Args:
        boxes, scores: [N, 4] and [N, C], of the file.
        all_boxes, all_scores: [P, 4] and [P, C], of torch, without a choice of points.
    """
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        return float("inf"), float("inf")
    best, all_best = scores.max(1), all_scores.max(1)
    # A difference of 0.01 in score weighs as much as one of a pixel.
    keys = np.concatenate([boxes, 100 * best[:, None]], 1)
    all_keys = np.concatenate([all_boxes, 100 * all_best[:, None]], 1)
    partner = np.array([np.abs(all_keys - key).sum(1).argmin() for key in keys], np.int64)
    ranks = np.abs(np.sort(best) - np.sort(all_best)[len(all_best) - len(best) :])
    box = np.abs(boxes - all_boxes[partner]).max(initial=0)
    score = np.abs(scores - all_scores[partner]).max(initial=0)
    return float(box), float(max(score, ranks.max(initial=0)))


def count_matches(one: Detections, other: Detections) -> int:
    """Pairs of detections of the same class with an IoU above `SAME_BOX`; each has one partner at most."""
    overlaps = pairwise_iou(one.boxes, other.boxes)
    overlaps[one.labels[:, None] != other.labels[None, :]] = 0
    matched = 0
    for row in overlaps:  # best score first, as detections are
        if len(row) and row.max() > SAME_BOX:
            overlaps[:, row.argmax()] = 0
            matched += 1
    return matched
