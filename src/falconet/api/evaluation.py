"""A model measured on images with ground truth, as on the device: the same resize, network and selection."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from falconet.api.find import FoundModel
from falconet.api.ground_truth import GroundTruth
from falconet.api.report_curve import own_curve, read_curve
from falconet.api.report_data import doubted, findings
from falconet.api.require import require
from falconet.core.cpus import busy_cpus, said_busy
from falconet.core.errors import ConfigError, ModelError
from falconet.core.figures import duration, plural
from falconet.core.files import replace_file
from falconet.core.images import read_image
from falconet.core.manifest import EVALUATION, Selection
from falconet.core.run_files import METRICS
from falconet.core.types import Record
from falconet.eval.answers import answer_records
from falconet.eval.classes import match
from falconet.eval.classification import ClassificationResults, match_all
from falconet.eval.detection import DetectionResults
from falconet.eval.differing import Differing, differing_classifications, differing_detections
from falconet.eval.latency import Latency, machine, measure_stages
from falconet.eval.report import read_history, write_report
from falconet.eval.report_content import Report
from falconet.eval.wanted_point import Wanted
from falconet.exporting.receipt import read_receipt, receipt_paths
from falconet.runtime.engines import Engine
from falconet.runtime.predictor import Predictor
from falconet.runtime.tasks import TASKS

_log = logging.getLogger(__name__)

PROTOCOLS: Mapping[str, Callable[[Selection], Selection]] = {
    "model": lambda own: replace(own, score_threshold=min(own.score_threshold, EVALUATION.score_threshold)),
    "coco": lambda own: replace(own, score_threshold=0.001, max_candidates=30_000, max_detections=100),
}
"""What enters the figures of a detector: as on the device, with a low score threshold; as most others measure."""

TIMED = 50
"""Images that are timed for a report, stage by stage."""


SHOWN_NOTES = 10
"""What was left out is told in so many lines."""


class Results(Protocol):
    """What a task's answers are worth."""

    def as_dict(self) -> dict[str, Any]: ...
    def lines(self) -> list[str]: ...
    def documents(self) -> dict[str, Any]: ...
    def facts(self) -> list[tuple[str, str]]: ...
    def sentences(self) -> list[str]: ...
    def report_parts(self, score: float) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """How one task is measured.

    Attributes:
        options: that mean something for it.
        match: translates classes of the model to those of the data, by name.
        predictor: (engine, selection) -> predictor that selects for an evaluation.
        results: (match, records, answers, **options) -> results.
        differing: (results, results of another model) -> pictures on which the two differ most.
    """

    options: frozenset[str]
    match: Callable[..., Any]
    predictor: Callable[[Engine, Selection], Predictor[Any]]
    results: Callable[..., Results]
    differing: Callable[[Any, Any], Differing]


EVALUATIONS: Mapping[str, EvaluationRow] = {
    "detect": EvaluationRow(
        options=frozenset({"score", "protocol", "voc", "intervals", "operating_point"}),
        match=match,
        # Figures are those of the network's own scores; calibration leaves them as they are.
        predictor=lambda engine, selection: Predictor(engine, selection=selection, calibration=()),
        results=DetectionResults.of,
        differing=differing_detections,
    ),
    "classify": EvaluationRow(
        options=frozenset({"intervals"}),
        match=match_all,
        predictor=lambda engine, selection: Predictor(engine),  # noqa: ARG005
        results=ClassificationResults.of,
        differing=differing_classifications,
    ),
}
"""By task."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation and what it was made of.

    Attributes:
        selection: by which detections entered.
        milliseconds: by stage, of some of the images; `busy`: CPUs that others computed on meanwhile.
        notes: what is worth telling, images left out for example.
    """

    model: FoundModel
    ground_truth: GroundTruth
    predictor: Predictor[Any]
    results: Results
    selection: Selection
    latency: Mapping[str, Latency]
    left_out: int
    notes: tuple[str, ...]
    busy: float = 0.0

    def __getitem__(self, key: str) -> Any:
        """One of the figures: `result["AP50"]`, a fraction."""
        return self.as_dict()[key]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The figures for people, in percent, and how they came about."""
        lines = list(self.results.lines())
        if self.predictor.manifest.task == "detect":
            lines += ["", f"detections: {describe_selection(self.selection)}"]
        if (network := self.latency.get("network")) is not None:
            truth = self.ground_truth
            count = len(truth.records) - self.left_out
            busy = f" ({told})" if (told := said_busy(self.busy)) else ""
            lines.append(f"{count} images of {truth.source}, {network.p50:.2f} ms in the network{busy}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The figures for programs, and where from."""
        takes_score = "score" in EVALUATIONS[self.predictor.manifest.task].options
        network = self.latency.get("network")
        return {
            **self.results.as_dict(),
            "model": str(self.model.path),
            "data": self.ground_truth.source,
            **(
                {"score_threshold": self.selection.score_threshold, "selection": asdict(self.selection)}
                if takes_score
                else {}
            ),
            "milliseconds": 0.0 if network is None else network.p50,
            "busy_cpus": round(self.busy, 2),
            "notes": list(self.notes),
        }

    def save(self, out: str | Path, *, curve: str | Path | None = None) -> Path:
        """Write metrics.json, the answers and report.html into the folder `out`; returns the report's path.

        Args:
            curve: folder of `falconet data curve` that the report shows; None: one of the run, or beside it, where
                there is one of the same network and data.

        Raises:
            ConfigError: Jinja2 is not installed, or there is no such curve.
            DataError: a file cannot be written, or a picture not be read any more.
        """
        require(["jinja2"], extra="eval", purpose="a report")
        shown = own_curve(self.model.run) if curve is None else read_curve(Path(curve))
        out = Path(out)
        replace_file(out / "metrics.json", json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n")
        for name, document in self.results.documents().items():
            replace_file(out / name, json.dumps(document, allow_nan=False) + "\n")
        write_report(replace(self._report(out), learning_curve=shown), out / "report.html")
        return out / "report.html"

    def _report(self, out: Path) -> Report:
        manifest, log = self.predictor.manifest, None if self.model.run is None else self.model.run / METRICS
        history = read_history(log) if log is not None and log.is_file() else []
        return Report(
            title=f"{manifest.model}: {self.model.name}",
            facts=self.facts(),
            lead=[*self.results.sentences(), self._circumstances(history)],
            history=history,
            latency=self.latency,
            machine=machine(),
            busy=said_busy(self.busy),
            receipt=_receipt(self.model),
            notes=self.notes,
            findings=findings(self.ground_truth) if manifest.task == "detect" else (),
            **doubted(self.model.run, out),
            **self.results.report_parts(manifest.told_selection.score_threshold),
        )

    def _circumstances(self, history: Sequence[Mapping[str, Any]]) -> str:
        """When, where and after which training this was measured."""
        seconds = sum(entry["seconds"] for entry in history if isinstance(entry.get("seconds"), int | float))
        trained = f", after {plural(len(history), 'epoch')} in {duration(seconds)} of training" if history else ""
        return measured(f"{self.ground_truth.source}{trained}")

    def facts(self) -> list[tuple[str, str]]:
        """(what, value) about model and data, for people."""
        manifest = self.predictor.manifest
        rule, shown = manifest.preprocess, manifest.told_selection.score_threshold
        facts = [
            ("model", f"{manifest.model}, input {rule.width} x {rule.height}, {rule.resize}"),
            ("file", str(self.model.path)),
            ("source, licence", ", ".join(filter(None, (manifest.source, manifest.licence))) or "not stated"),
            ("data", self.ground_truth.source),
            *self.results.facts(),
            ("left out", f"{self.left_out} images that could not be read"),
        ]
        if "score" in EVALUATIONS[manifest.task].options:
            facts.append(
                ("detections", f"{describe_selection(self.selection)} for the figures; score above {shown:.3g} below")
            )
        return facts


def evaluate(
    model: FoundModel,
    engine: Engine,
    ground_truth: GroundTruth,
    *,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
    **options: Any,
) -> Evaluation:
    """The evaluation of a model in an engine.

    Args:
        progress: wraps the records, to show how far the loop is.
        options: of the task, None where not given: `protocol`, a key of `PROTOCOLS`; `score`, above which detections
            enter instead of the protocol's; `voc`, figures by VOC's protocols too, which limit no number of detections;
            `intervals`, how far figures may be off since the pictures are few; `operating_point`, what a threshold is
            to reach, as in "recall=0.95".

    Raises:
        ConfigError: an option that means nothing for this task.
        DataError: classes of data and model do not fit.
    """
    task = engine.manifest.task
    row = EVALUATIONS[task]
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if foreign := sorted(given.keys() - row.options):
        raise ConfigError(f"--{foreign[0]}: {model.path} is a {TASKS[task].noun}, for which it means nothing")
    if "operating_point" in given:
        Wanted.parse(given["operating_point"])  # a mistake is told before anything takes time
    selection = _selection(engine.manifest.selection, given)
    matched = row.match(ground_truth.names, engine.manifest.classes, data=ground_truth.source, model=str(model.path))
    tell([*filter(None, (matched.note,)), *ground_truth.notes])
    wide = replace(selection, max_detections=selection.max_candidates) if given.get("voc") else selection
    predictor = row.predictor(engine, wide)
    if task == "detect":
        given |= {
            "limit": selection.max_detections,
            "own_score": engine.manifest.told_selection.score_threshold,
            "calibration": engine.manifest.calibration,
            "target": engine.manifest.calibration_target,
            "stored": engine.manifest.operating_points,
            "least": selection.score_threshold,
        }
    answered = answer_records(
        lambda path: matched.apply(predictor.predict(path)), ground_truth.records, progress=progress
    )
    results = row.results(matched, answered.records, answered.answers, **given)
    busy = (busy_cpus() or 0.0) if answered.records else 0.0
    return Evaluation(
        model=model,
        ground_truth=ground_truth,
        predictor=predictor,
        results=results,
        selection=selection,
        latency=_latency(predictor, answered.records),
        left_out=len(answered.left_out),
        notes=(*filter(None, (matched.note,)), *ground_truth.notes, *answered.left_out),
        busy=busy,
    )


def check_comparable(models: Sequence[tuple[FoundModel, Engine]], truth: GroundTruth) -> None:
    """Refuse models that cannot be measured on the same pictures.

    Raises:
        ConfigError: a detector and a classifier.
        DataError: classes of data and of one of the models do not fit.
    """
    if len({engine.manifest.task for _, engine in models}) > 1:
        named = " and ".join(str(found.path) for found, _ in models)
        raise ConfigError(f"{named}: a detector and a classifier do not compare")
    for found, engine in models:
        row = EVALUATIONS[engine.manifest.task]
        row.match(truth.names, engine.manifest.classes, data=truth.source, model=str(found.path))


def _selection(own: Selection, given: dict[str, Any]) -> Selection:
    """What enters the figures, by the options `score` and `protocol`, which are taken out of `given`."""
    protocol = given.pop("protocol", "model")
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol {protocol}: is not known; expected one of {', '.join(PROTOCOLS)}")
    selection = PROTOCOLS[protocol](own)
    return replace(selection, score_threshold=given.pop("score")) if "score" in given else selection


def describe_selection(selection: Selection) -> str:
    """ "score above 0.05, NMS at 0.6, at most 100 per image"."""
    return (
        f"score above {selection.score_threshold:g}, NMS at {selection.iou_threshold:g}, at most "
        f"{selection.max_detections} per image"
    )


def tell(notes: Sequence[str]) -> None:
    """Log what is worth telling, the first lines of it."""
    for note in notes[:SHOWN_NOTES]:
        _log.warning("%s", note)
    if len(notes) > SHOWN_NOTES:
        _log.warning("and %d more; 'falconet data check' lists all", len(notes) - SHOWN_NOTES)


def measured(what: str) -> str:
    """A sentence that says when and on which machine something was measured on `what`."""
    facts = machine()
    day = f"{date.today():%-d %B %Y}" if os.name != "nt" else f"{date.today():%d %B %Y}"
    return f"Measured on {day} on {what}, on {facts['processor']} ({plural(int(facts['cores']), 'core')})."


def _latency(predictor: Predictor[Any], records: Sequence[Record]) -> dict[str, Latency]:
    if not records:
        return {}
    stages = [
        ("read and decode", lambda path: read_image(path, at_least=predictor.input_size)),
        ("resize", lambda read: predictor.resize(*read)),
        ("network", lambda prepared: (predictor.run([prepared]), prepared.placement)),
        ("postprocess", lambda found: predictor.task.answer(found[0], 0, found[1])),
    ]
    return measure_stages(stages, [record.path for record in records[:TIMED]])


def _receipt(model: FoundModel) -> dict[str, Any] | None:
    """The receipt of the exported file, or the newest one in the run's folder; one that is broken is left out."""
    beside = receipt_paths(model.path)[0]
    found = [beside] if beside.is_file() else []
    if model.run is not None:
        found += sorted(model.run.glob("**/*.receipt.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found:
        return None
    try:
        return read_receipt(found[0]).model_dump()
    except ModelError as error:
        _log.warning("%s", error)
        return None
