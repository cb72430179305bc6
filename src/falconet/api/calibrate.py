"""`falconet.calibrate`: scores that mean what they say, and thresholds for what a user wants, stored in the model."""

import glob
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from falconet.api import evaluation
from falconet.api.engines import open_engine
from falconet.api.find import FoundModel, find_model, tell_unfinished
from falconet.api.ground_truth import open_ground_truth
from falconet.core.calibration import calibrated
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.figures import percent
from falconet.core.files import replace_file
from falconet.core.manifest import ADDED, MANIFEST_KEY, Manifest, ScoreMap, StoredPoint, Target
from falconet.core.suggest import spelling
from falconet.core.types import Detections, Record
from falconet.eval.detection import DetectionResults
from falconet.eval.reliability import (
    SHOWN,
    TARGETS,
    Bin,
    Errors,
    Scored,
    bins,
    common_map,
    cross_fitted,
    errors,
    fit_maps,
)
from falconet.eval.wanted_point import Wanted, WantedPoint, wanted_point
from falconet.runtime.engines import Use

USUAL = ("f1", "precision=0.9", "recall=0.9")
"""Operating points that are stored where nobody names others, as far as they are reached."""

LEAST = 20
"""Detections that are right, and wrong, from which on scores can be calibrated."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model whose scores were calibrated.

    Attributes:
        path: the file that was written.
        source: the file that was read.
        target: what scores say.
        images, detections: that the maps were made of.
        before, after: errors of scores; after calibration on pictures that the maps were not made of.
        own, told: detections by score, before and after, likewise.
        threshold: of the model now, `own_threshold`: of its own scores; as many detections lie above either.
        points: operating points that were stored; `refused`: sentences of those that were not.
        notes: what is worth telling.
    """

    path: Path
    source: Path
    target: Target
    images: int
    detections: int
    before: Errors
    after: Errors
    own: tuple[Bin, ...]
    told: tuple[Bin, ...]
    threshold: float
    own_threshold: float
    points: tuple[WantedPoint, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """For people."""
        says = "right, %" if self.target == "precision" else "mean IoU, %"
        lines = [
            f"{'':<8}{'score':>10}{says:>13}{'detections':>13}",
            *(_row("before", one) for one in self.own),
            *(_row("after", one) for one in self.told),
            "",
            f"error of scores (D-ECE, LaECE), %: {_pair(self.before)} before, {_pair(self.after)} after, on pictures "
            "that they were not calibrated by",
            f"score threshold: {self.threshold:.3f} instead of {self.own_threshold:.3f}; as many boxes lie above it",
        ]
        if self.points:
            lines += ["", "stored for --operating-point of predict, with what they will do (95 % intervals):"]
            lines += [f"  {point.line()}" for point in self.points]
        return [*lines, *self.refused, f"model: {self.path}"]

    def as_dict(self) -> dict[str, Any]:
        """For programs; shares as fractions."""
        return {
            "format": 1,
            "model": str(self.path),
            "source": str(self.source),
            "target": self.target,
            "images": self.images,
            "detections": self.detections,
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "bins_before": [one._asdict() for one in self.own],
            "bins_after": [one._asdict() for one in self.told],
            "score_threshold": self.threshold,
            "own_score_threshold": self.own_threshold,
            "operating_points": {point.wanted.text: point.as_dict() for point in self.points},
            "refused": list(self.refused),
            "notes": list(self.notes),
        }


def calibrate(
    model: "str | os.PathLike[str]",
    data: str | Path | None = None,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    target: str = "precision",
    operating_points: Sequence[str] | None = None,
    out: str | Path | None = None,
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> Calibrated:
    """Make the scores of a detector say how often it is right, and store thresholds for what somebody wants.

    Boxes and their order within each class stay, so AP does. Numbers beside a model's scores, its threshold above all,
    change: as many boxes as before lie above the new one.

    Args:
        model: run folder, weights file, or exported .onnx file. A model that is calibrated already is calibrated anew,
            from its own scores.
        data, images, split: pictures with truth that the model did not learn from; None: what it was validated on.
        target: what scores are to say: "precision", how many of such detections are right (IoU above 0.5), or "iou",
            their mean IoU, 0 for wrong ones.
        operating_points: as in `falconet.eval.wanted_point`; None: `USUAL`, as far as they are reached.
        out: file to write; None: the model's own.
        engine, threads, precision: see `falconet.load`.
        progress: wraps the records, to show how far it is.

    Raises:
        ConfigError: a classifier, a file that cannot carry it, an operating point that is none or is not reached.
        DataError: too few detections, right or wrong ones; or nothing to calibrate by.
        ModelError: nothing there, or a file that is none.
    """
    chosen = next((one for one in TARGETS if one == target), None)
    if chosen is None:
        raise ConfigError(f"--target {target}: is not known; expected {' or '.join(TARGETS)}")
    asked = USUAL if operating_points is None else operating_points
    wanted = list(dict.fromkeys(Wanted.parse(text) for text in asked))
    found = find_model(os.fspath(model), weights=engine == "torch")
    path = _refuse(found, model, None if out is None else Path(out))
    tell_unfinished(found)
    opened = open_engine(found.path, engine=engine, use=Use(threads, precision=precision))
    if opened.manifest.task != "detect":
        raise ConfigError(f"{found.path}: is a classifier; expected a detector, whose scores can be calibrated")
    paths = [None if one is None else Path(one) for one in (data, images)]
    truth = open_ground_truth(found, paths[0], paths[1], split, task="detect")
    measured = evaluation.evaluate(found, opened, truth, progress=progress)
    done, manifest = _fitted(measured, path, chosen, wanted, strict=operating_points is not None)
    _write(found.path, path, manifest)
    replace_file(path.with_suffix(".calibration.json"), json.dumps(done.as_dict(), indent=2, allow_nan=False) + "\n")
    return done


def _fitted(
    measured: evaluation.Evaluation, path: Path, target: Target, wanted: Sequence[Wanted], *, strict: bool
) -> tuple[Calibrated, Manifest]:
    """What came of it, and the manifest that says so."""
    results, before = measured.results, measured.predictor.manifest
    assert isinstance(results, DetectionResults)
    scored = Scored.of(results.names, results.records, results.own_answers)
    _refuse_few(scored, measured.ground_truth.source)
    maps, common = fit_maps(scored, target), common_map(scored, target)
    own = before.selection.score_threshold
    told = _calibrated(results, maps)
    points, refused = _points(wanted, results, told, strict=strict)
    threshold = _threshold(results, told, own)
    manifest = _described(before, results.names, maps, common, points, threshold)
    manifest = replace(manifest, calibration_target=target)
    crossed = cross_fitted(scored, target)
    done = Calibrated(
        path=path,
        source=measured.model.path,
        target=target,
        images=len(results.records),
        detections=len(scored.scores),
        before=errors(scored, scored.scores),
        after=errors(scored, crossed),
        own=tuple(bins(scored.scores, scored.target(target), count=SHOWN)),
        told=tuple(bins(crossed, scored.target(target), count=SHOWN)),
        threshold=threshold,
        own_threshold=own,
        points=points,
        refused=refused,
        notes=measured.notes,
    )
    return done, manifest


def undo(model: "str | os.PathLike[str]", out: str | Path | None = None) -> Path:
    """Give a model its own scores and threshold back; its operating points, which are of calibrated scores, go.

    Args:
        model: as of `calibrate`.
        out: file to write; None: the model's own.

    Raises:
        ConfigError: a model that is not calibrated, or a file that cannot be.
    """
    found = find_model(os.fspath(model))
    path = _refuse(found, model, None if out is None else Path(out))
    manifest = open_engine(found.path, engine="auto", use=Use()).manifest
    if not manifest.calibration:
        raise ConfigError(f"{found.path}: is not calibrated; there is nothing to undo")
    _write(found.path, path, replace(manifest, **ADDED))
    path.with_suffix(".calibration.json").unlink(missing_ok=True)
    return path


def _calibrated(results: DetectionResults, maps: Sequence[ScoreMap]) -> list[Detections]:
    """The detections with calibrated scores, in the order of the network's own."""
    return [replace(one, scores=calibrated(one.scores, one.labels, maps)) for one in results.own_answers]


def _refuse(found: FoundModel, model: "str | os.PathLike[str]", out: Path | None) -> Path:
    """The file to write. Raises ConfigError where it cannot carry the scores of a detector."""
    kinds = (".safetensors", ".onnx")
    if found.path.suffix not in kinds:
        raise ConfigError(
            f"{found.path}: expected a run folder, a weights file or an exported .onnx file; calibrate the weights, "
            "then export them again"
        )
    if out is None and not Path(model).exists():
        raise ConfigError(
            f"{model}: is published, and its file is shared; name one for the calibrated model: --out FILE"
        )
    if out is not None and out.suffix != found.path.suffix:
        raise ConfigError(f"--out {out}: expected a name that ends in {found.path.suffix}, as the model's does")
    return found.path if out is None else out


def _refuse_few(scored: Scored, source: str) -> None:
    right = int(scored.right.sum())
    wrong = len(scored.scores) - right
    if min(right, wrong) < LEAST:
        raise DataError(
            f"{source}: the model has {right} right detections there and {wrong} wrong ones; expected {LEAST} of each "
            "at least to calibrate scores by: take more pictures (--data, --split)"
        )


def _points(
    wanted: Sequence[Wanted], results: DetectionResults, told: Sequence[Detections], *, strict: bool
) -> tuple[tuple[WantedPoint, ...], tuple[str, ...]]:
    """The operating points, and of those that are not reached why; which is an error where they were asked for."""
    points, refused = [], []
    for one in wanted:
        try:
            points.append(wanted_point(one, results.names, results.records, told))
        except ConfigError as error:
            if strict:
                raise
            refused.append(f"not stored: {str(error).removeprefix('--operating-point ')}")
    return tuple(points), tuple(refused)


def _threshold(results: DetectionResults, told: Sequence[Detections], own: float) -> float:
    """The calibrated score above which there are as many detections as above `own` among the network's scores."""
    count = sum(int((one.scores > own).sum()) for one in results.own_answers)
    scores = np.sort(np.concatenate([np.ones(1), *(one.scores for one in told), np.zeros(1)]))[::-1]
    return round(float(scores[count] + scores[count + 1]) / 2, 6)


def _described(
    manifest: Manifest,
    names: Sequence[str],
    maps: Sequence[ScoreMap],
    common: ScoreMap,
    points: Sequence[WantedPoint],
    threshold: float,
) -> Manifest:
    """The manifest with all this; classes that the data do not know take what is common."""
    place = {spelling(name): label for label, name in enumerate(names)}
    labels = [place.get(spelling(name)) for name in manifest.classes]
    return replace(
        manifest,
        calibration=tuple(common if label is None else maps[label] for label in labels),
        calibrated_score_threshold=threshold,
        operating_points=tuple(
            StoredPoint(
                name=point.wanted.text,
                thresholds=tuple(
                    round(point.common if label is None else point.thresholds[names[label]], 6) for label in labels
                ),
            )
            for point in points
        ),
    )


def _write(source: Path, path: Path, manifest: Manifest) -> None:
    """The file `source`, with what is told about its scores, as `path`; receipts beside it stay those of this file."""
    if source.suffix == ".safetensors":
        from falconet.models.weights import read_card, replace_card

        card = read_card(source)
        replace_card(source, card.model_copy(update={name: getattr(manifest, name) for name in ADDED}), path)
        return
    import onnx

    before = source.read_bytes()
    model = onnx.load_model_from_string(before)
    others = {one.key: one.value for one in model.metadata_props}
    onnx.helper.set_model_props(model, {**others, MANIFEST_KEY: manifest.to_json()})
    after = model.SerializeToString()
    replace_file(path, after)
    if path == source:
        _renew_receipts(path, sha256(before).hexdigest(), after)


def _renew_receipts(path: Path, before: str, content: bytes) -> None:
    """Let receipts of the file say that they are of it still: its network is the same."""
    from falconet.exporting.receipt import read_receipt

    for file in path.parent.glob(f"{glob.escape(path.stem)}*.receipt.json"):
        with suppress(ModelError):
            receipt = read_receipt(file)
            if receipt.sha256 == before:
                renewed = receipt.model_copy(update={"sha256": sha256(content).hexdigest(), "size": len(content)})
                replace_file(file, renewed.model_dump_json(indent=2) + "\n")
                replace_file(file.with_suffix(".txt"), renewed.text())


def _pair(found: Errors) -> str:
    return ", ".join(percent(one) for one in found)


def _row(name: str, one: Bin) -> str:
    return f"{name:<8}{one.score:>10.2f}{percent(one.right):>13}{one.number:>13}"
