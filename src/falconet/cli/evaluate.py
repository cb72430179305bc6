"""`falconet eval`: COCO figures of a run, a weights file or an exported model; report and detections as files."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from falconet.cli.truth import Truth, open_engine, open_truth, progress, require, run_folder
from falconet.core.errors import ConfigError, ModelError
from falconet.core.manifest import EVALUATION

if TYPE_CHECKING:
    from hotcoco import COCOeval

    from falconet.core.types import Detections, Record
    from falconet.eval.coco_ap import Metrics
    from falconet.eval.latency import Latency
    from falconet.eval.picture import PictureView
    from falconet.eval.voc_ap import VocMetrics
    from falconet.runtime.engines import Engine
    from falconet.runtime.predictor import Predictor

SHOWN = 6
"""Worst and best pictures in a report, each."""

TIMED = 50
"""Pictures that are timed for a report, stage by stage."""

SHOWN_NOTES = 10
"""What was left out is told in so many lines."""


def evaluate(
    model: Annotated[Path, typer.Argument(help="Run folder, weights file (.safetensors) or exported .onnx file.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="COCO .json, VOC folder or list, YOLO .yaml; of a classifier a folder of classes' folders "
            "[default: validation data of the run]."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, where it cannot be told.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html, metrics.json, detections.json.", show_default=False)
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Detections above this enter the figures.")
    ] = EVALUATION.score_threshold,
    engine: Annotated[
        Literal["auto", "torch", "onnxruntime"], typer.Option(help="What runs the model; auto tells by the file.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="For the network.")] = None,
    voc: Annotated[bool, typer.Option("--voc", help="Also AP at IoU 0.5 by the protocols of Pascal VOC.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, as fractions.")] = False,
) -> None:
    """Measure a model: average precision on pictures with truth, top-1 and top-5 of a classifier.

    Pictures are resized, run and selected as on the device; classes are matched by name.
    """
    from falconet.cli.classify import evaluate_classifier, is_classifier

    if is_classifier(model):
        if images is not None or split is not None or voc:
            raise ConfigError(
                f"{model}: is a classifier; its data are one folder: --data FOLDER without --images, --split, --voc"
            )
        if engine != "auto" or score != EVALUATION.score_threshold:
            raise ConfigError(f"{model}: is a classifier; --engine and --score are for detectors")
        evaluate_classifier(model, data, out=out, threads=threads, as_json=as_json)
        return
    require(["hotcoco"], extra="eval", purpose="eval")
    runner = open_engine(model, engine=engine, threads=threads)
    done = _evaluated(model, runner, open_truth(model, data, images, split), score=score, voc=voc)
    if out is not None:
        save(done, out)
    if as_json:
        print(json.dumps(as_dict(done), indent=2, allow_nan=False))
    else:
        _print_table(done.metrics, done.voc)
        if out is not None:
            print(f"report: {out / 'report.html'}")


def _evaluated(model: Path, runner: "Engine", truth: Truth, *, score: float, voc: bool) -> "Evaluation":
    """Detections of all pictures above `score`, and what they are worth."""
    from falconet.eval import coco_ap
    from falconet.eval.classes import match
    from falconet.eval.detect import detect
    from falconet.eval.voc_ap import evaluate_voc
    from falconet.runtime.predictor import Predictor

    classes = match(truth.names, runner.manifest.classes, data=truth.source, model=str(model))
    predictor = Predictor(runner, selection=replace(EVALUATION, score_threshold=score))
    _tell(truth, classes.note)
    with progress("evaluating") as bar:
        result = detect(lambda path: classes.apply(predictor.predict(path)), truth.records, progress=bar)
    evaluator = coco_ap.run(truth.names, result.records, result.detections)
    metrics = coco_ap.summarize(evaluator, truth.names, result.records)
    return Evaluation(
        model=model,
        truth=truth,
        records=result.records,
        detections=result.detections,
        evaluator=evaluator,
        metrics=metrics,
        predictor=predictor,
        notes=(*([classes.note] if classes.note else []), *truth.notes, *result.left_out),
        voc=evaluate_voc(truth.names, result.records, result.detections) if voc else None,
    )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation and what it was made of."""

    model: Path
    truth: Truth
    records: "list[Record]"
    detections: "list[Detections]"
    evaluator: "COCOeval"
    metrics: "Metrics"
    predictor: "Predictor"
    notes: tuple[str, ...]
    voc: "VocMetrics | None"


def as_dict(done: Evaluation) -> dict[str, Any]:
    """The figures for programs: COCO's twelve by name, as fractions (-1: nothing to decide it), and where from."""
    return {
        **done.metrics.as_dict(),
        **_voc_dict(done.voc),
        "per_class": done.metrics.per_class,
        "per_class_AP50": done.metrics.per_class_ap50,
        "boxes": done.metrics.truths,
        "images": done.metrics.images,
        "model": str(done.model),
        "data": done.truth.source,
        "score_threshold": done.predictor.selection.score_threshold,
        "notes": list(done.notes),
    }


def _voc_dict(voc: "VocMetrics | None") -> dict[str, Any]:
    """The figures of VOC, if they were asked for."""
    if voc is None:
        return {}
    return {"VOC_AP50": voc.area, "VOC07_AP50": voc.eleven_points, "per_class_VOC_AP50": voc.per_class}


def save(done: Evaluation, out: Path) -> None:
    """Write metrics.json, detections.json (COCO form) and report.html into the folder `out`."""
    from falconet.core.files import replace_file
    from falconet.eval.report import write_report

    replace_file(out / "metrics.json", json.dumps(as_dict(done), indent=2, allow_nan=False) + "\n")
    replace_file(out / "detections.json", json.dumps(_coco(done)) + "\n")
    write_report(_report(done), out / "report.html")


def _coco(done: Evaluation) -> dict[str, Any]:
    """Detections as a COCO file: images under their own ids, categories 1, 2, ... in the order of the data."""
    annotations: list[dict[str, Any]] = []
    for record, found in zip(done.records, done.detections, strict=True):
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": round(score, 5),
                }
            )
    return {
        "images": [
            {"id": r.image_id, "file_name": r.path.name, "width": r.width, "height": r.height} for r in done.records
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(done.truth.names, start=1)],
        "annotations": annotations,
    }


def _report(done: Evaluation) -> Any:
    from falconet.eval import curves
    from falconet.eval.latency import machine
    from falconet.eval.report import Report, read_history

    score = done.predictor.manifest.selection.score_threshold
    results = curves.pictures(done.truth.names, done.records, done.detections, score=score)
    worst, best = curves.worst_and_best(results, count=SHOWN)
    folder = run_folder(done.model)
    log = None if folder is None else folder / "metrics.jsonl"
    return Report(
        title=f"{done.predictor.manifest.model}: {done.model}",
        facts=_facts(done, score),
        metrics=done.metrics,
        curves=curves.precision_recall(done.evaluator, done.truth.names),
        confusion=curves.confusion(done.evaluator, done.truth.names, score=score),
        kinds=curves.error_kinds(done.evaluator),
        worst=_views(done, worst, score),
        best=_views(done, best, score),
        history=read_history(log) if log is not None and log.is_file() else [],
        latency=_latency(done),
        machine=machine(),
        receipt=_receipt(done.model, folder),
        notes=done.notes,
    )


def _facts(done: Evaluation, score: float) -> list[tuple[str, str]]:
    manifest, sizes = done.predictor.manifest, done.metrics.truths
    rule = manifest.preprocess
    empty = sum(1 for record in done.records if not len(record.boxes))
    return [
        ("model", f"{manifest.model}, input {rule.width} x {rule.height}, {rule.resize}"),
        ("file", str(done.model)),
        ("source, licence", ", ".join(part for part in (manifest.source, manifest.licence) if part) or "not stated"),
        ("data", done.truth.source),
        ("pictures", f"{len(done.records)}, {empty} of them without boxes"),
        ("boxes", f"{sum(sizes.values())} in {len(sizes)} classes"),
        ("left out", f"{len(done.truth.records) - len(done.records)} pictures that could not be read"),
        ("detections", f"score above {done.predictor.selection.score_threshold:g} for the figures, {score:g} below"),
    ]


def _views(done: Evaluation, results: Sequence[Any], score: float) -> "list[PictureView]":
    from falconet.eval.picture import PictureView

    return [PictureView(done.records[r.index], done.detections[r.index].above(score), r) for r in results]


def _latency(done: Evaluation) -> "dict[str, Latency]":
    from falconet.core.images import read_image
    from falconet.eval.latency import measure_stages

    predictor = done.predictor
    if not done.records:
        return {}
    stages = [
        ("read and decode", lambda path: read_image(path, at_least=predictor.input_size)),
        ("resize", lambda read: predictor.fit(*read)),
        ("network", lambda prepared: (predictor.run([prepared]), prepared.placement)),
        ("select", lambda raw: predictor.select(raw[0][0][0], raw[0][1][0], raw[1])),
    ]
    return measure_stages(stages, [record.path for record in done.records[:TIMED]])


def _receipt(model: Path, folder: Path | None) -> dict[str, Any] | None:
    """The receipt of the exported file, or the newest one in the run's folder; one that is broken is left out."""
    from falconet.export.receipt import read_receipt, receipt_paths

    beside = receipt_paths(model)[0]
    found = [beside] if model.suffix == ".onnx" and beside.is_file() else []
    if folder is not None:
        found += sorted(folder.glob("**/*.receipt.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found:
        return None
    try:
        return read_receipt(found[0]).model_dump()
    except ModelError as error:
        print(error, file=sys.stderr)
        return None


def _tell(truth: Truth, note: str) -> None:
    lines = [*([note] if note else []), *truth.notes[:SHOWN_NOTES]]
    if len(truth.notes) > SHOWN_NOTES:
        lines.append(f"and {len(truth.notes) - SHOWN_NOTES} more; 'falconet data check' lists all")
    for line in lines:
        print(line, file=sys.stderr)


def _print_table(metrics: "Metrics", voc: "VocMetrics | None") -> None:
    from falconet.eval.report import percent

    for key, value in metrics.as_dict().items():
        print(f"{key:<6} {percent(value):>6}")
    if voc is not None:
        print(f"AP50 by VOC's protocol {percent(voc.area)}, by that of 2007 {percent(voc.eleven_points)}")
    print()
    width = max((len(name) for name in metrics.per_class), default=0)
    print(f"{'class':<{width}}  {'boxes':>6}  {'AP':>6}  {'AP50':>6}")
    for name, value in metrics.per_class.items():
        fifty = percent(metrics.per_class_ap50[name])
        print(f"{name:<{width}}  {metrics.truths[name]:>6}  {percent(value):>6}  {fifty:>6}")
