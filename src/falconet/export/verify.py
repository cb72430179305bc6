"""Compare an exported file, run as devices run it, with torch: on the same pictures, in float32, on equal pixels."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from falconet.core.boxes import pairwise_iou
from falconet.core.errors import DataError, ModelError
from falconet.core.manifest import EVALUATION
from falconet.core.types import Detections, Floats, Record
from falconet.eval.classes import ClassMatch
from falconet.eval.coco_ap import evaluate
from falconet.export.receipt import SAME_BOX, Receipt, Side, Tolerance, describe_file, find_problems
from falconet.export.torch_engine import ALL_POINTS, TorchEngine, milliseconds_of_both
from falconet.runtime.engines import OnnxEngine
from falconet.runtime.predictor import Predictor, Prepared
from falconet.runtime.session import default_threads

_log = logging.getLogger(__name__)

BATCH = 8
"""Pictures that go through torch together."""


@dataclass(slots=True)
class _Tally:
    """What adds up over the pictures."""

    records: list[Record] = field(default_factory=list)
    torch: list[Detections] = field(default_factory=list)
    exported: list[Detections] = field(default_factory=list)
    other_shapes: int = 0
    raw_pictures: int = 0
    box: float = 0.0
    score: float = 0.0
    matched: int = 0
    first: Prepared | None = None


def verify(
    weights: Path,
    model: Path,
    records: Sequence[Record],
    *,
    match: ClassMatch | None = None,
    raw_pictures: int = 32,
    tolerance: Tolerance | None = None,
    name: str | None = None,
    threads: int | None = None,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> Receipt:
    """The receipt of an exported file.

    Args:
        weights: weights file or run folder it was exported from.
        model: the exported file.
        records: pictures; one that cannot be read is reported and left out. Their truth counts when `match`
            is given.
        match: translates classes of the model to those of the truth; None: no AP.
        raw_pictures: so many pictures are compared before selection, too.
        tolerance: what is allowed; None takes the defaults.
        name: what to call the model, when its file still has a temporary name.
        threads: of both sides; None takes what the runtime takes by itself.
        progress: wraps the records, to show how far the loop is.

    Returns:
        The receipt; it is a drift when it has `problems`.

    Raises:
        ModelError: no picture to compare with, or a file that cannot be read.
    """
    left = Predictor(TorchEngine(weights, max_points=ALL_POINTS), selection=EVALUATION)
    right = Predictor(OnnxEngine(model, threads=threads), selection=EVALUATION)
    tally = _tally(left, right, progress(records), raw_pictures=raw_pictures)
    if tally.first is None:
        raise ModelError(f"{model}: an export is compared with torch on pictures, but there are none")
    used = threads or default_threads()
    pixels, torch_side = tally.first.pixels[None], TorchEngine(weights)
    times = milliseconds_of_both(lambda: torch_side(pixels), lambda: right.engine(pixels), threads=used)
    sides = _sides(tally, match, times, used)
    receipt = Receipt(
        **describe_file(model, weights, name),
        pictures=len(tally.records),
        other_shapes=tally.other_shapes,
        raw_pictures=tally.raw_pictures,
        score_threshold=EVALUATION.score_threshold,
        largest_box_difference=tally.box,
        largest_score_difference=tally.score,
        matched=tally.matched,
        torch=sides[0],
        exported=sides[1],
        tolerance=tolerance or Tolerance(),
    )
    return receipt.model_copy(update={"problems": tuple(find_problems(receipt))})


def _tally(left: Predictor, right: Predictor, records: Iterable[Record], *, raw_pictures: int) -> _Tally:
    """What both sides say of the pictures, `BATCH` at a time."""
    tally = _Tally()
    waiting: list[tuple[Record, Prepared]] = []
    for record in records:
        try:
            waiting.append((record, left.prepare(record.path)))
        except DataError as error:
            _log.warning("left out: %s", error)
        if len(waiting) == BATCH:
            _compare(tally, left, right, waiting, raw_pictures=raw_pictures)
            waiting.clear()
    if waiting:
        _compare(tally, left, right, waiting, raw_pictures=raw_pictures)
    return tally


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


def _compare(
    tally: _Tally, left: Predictor, right: Predictor, pictures: Sequence[tuple[Record, Prepared]], *, raw_pictures: int
) -> None:
    """Torch runs the pictures together, which saves it time; the file one by one, as devices do."""
    input_height, input_width = left.input_size
    all_boxes, all_scores = left.run([prepared for _, prepared in pictures])
    for index, (record, prepared) in enumerate(pictures):
        boxes, scores = right.run([prepared])
        one = left.select(all_boxes[index], all_scores[index], prepared.placement)
        other = right.select(boxes[0], scores[0], prepared.placement)
        height, width = prepared.placement.original
        tally.records.append(record)
        tally.torch.append(one)
        tally.exported.append(other)
        tally.other_shapes += height * input_width != width * input_height
        tally.matched += count_matches(one, other)
        tally.first = tally.first or prepared
        if tally.raw_pictures < raw_pictures:
            box, score = raw_differences(boxes[0], scores[0], all_boxes[index], all_scores[index])
            tally.box, tally.score = max(tally.box, box), max(tally.score, score)
            tally.raw_pictures += 1


def _sides(tally: _Tally, match: ClassMatch | None, times: tuple[float, float], threads: int) -> tuple[Side, Side]:
    def side(name: str, version: str, found: list[Detections], milliseconds: float) -> Side:
        ap = ap50 = None
        if match is not None:
            metrics = evaluate(match.names, tally.records, [match.apply(one) for one in found])
            ap, ap50 = metrics["AP"], metrics["AP50"]
        return Side(
            name=name,
            version=version,
            detections=sum(map(len, found)),
            ap=ap,
            ap50=ap50,
            milliseconds=milliseconds,
            threads=threads,
        )

    return (
        side("torch", str(torch.__version__), tally.torch, times[0]),
        side("onnxruntime", onnxruntime.__version__, tally.exported, times[1]),
    )
