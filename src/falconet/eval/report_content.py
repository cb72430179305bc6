"""What a report holds; `falconet.eval.report_sections` says what its page shows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from falconet.eval.accuracy import Accuracy
from falconet.eval.bootstrap import Drawn, Interval, Resampled
from falconet.eval.coco_ap import Metrics
from falconet.eval.curves import Confusion, Curve, ErrorKind
from falconet.eval.latency import Latency
from falconet.eval.operating_point import OperatingPoint
from falconet.eval.picture import ImageView
from falconet.eval.promise import Promise
from falconet.eval.reliability import Reliability
from falconet.eval.wanted_point import WantedPoint


class Finding(NamedTuple):
    """One kind of what is odd about data: its name, what it means and what helps, how often, and the first of it."""

    name: str
    meaning: str
    remedy: str
    severity: str
    number: int
    first: str


class Expected(NamedTuple):
    """What so many training pictures would give: a fraction."""

    pictures: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How a model grows with its training pictures.

    Attributes:
        figure: what is told, "AP" or "top1".
        total: training pictures that there are.
        images: pictures that all was measured on.
        expected: by class name, "all" first, with all pictures, twice and four times as many; empty where the
            trainings are too short to tell.
        sentences: what it comes to.
        svg: the curve drawn, in base64; empty: no picture.
    """

    figure: str
    total: int
    images: int
    expected: Mapping[str, Sequence[Expected]]
    sentences: Sequence[str]
    svg: str


@dataclass(frozen=True, slots=True)
class Report:
    """What goes into a report. Parts that are empty are left out.

    Attributes:
        title: above everything.
        lead: what it comes to, in sentences.
        facts: (what, value) about model and data.
        metrics: of a detector.
        accuracy: of a classifier.
        resampled: how far the figures of either may be off.
        points: what happens to each class above the model's own score threshold; `promises`: with intervals.
        curves, confusion, kinds: see `falconet.eval.curves`.
        reliability: whether scores mean what they say.
        wanted, stored: thresholds for what somebody wants, and those that the model carries, by name.
        worst, best: pictures to show, in this order.
        history: one dictionary per epoch, as in a run's metrics.jsonl.
        latency: by stage; `machine` says where it was measured, `busy` who else computed there, or nothing.
        receipt: of the export, as in its JSON file.
        notes: what is worth telling, pictures left out for example.
        findings: what is odd about the evaluated data, as `falconet data check --quick` has it.
        doubted: labels in doubt, as in suspects.json of the run; `doubted_page` is where they are shown, from the
            report's folder.
        learning_curve: what more pictures would give.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    lead: Sequence[str] = ()
    points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    promises: Mapping[str, Promise] = field(default_factory=dict)
    metrics: Metrics | None = None
    accuracy: Accuracy | None = None
    resampled: Resampled | None = None
    curves: Sequence[Curve] = ()
    confusion: Confusion | None = None
    kinds: Sequence[ErrorKind] = ()
    reliability: Reliability | None = None
    wanted: WantedPoint | None = None
    stored: Mapping[str, Promise] = field(default_factory=dict)
    worst: Sequence[ImageView] = ()
    best: Sequence[ImageView] = ()
    history: Sequence[Mapping[str, Any]] = ()
    latency: Mapping[str, Latency] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    busy: str = ""
    receipt: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    findings: Sequence[Finding] = ()
    doubted: Mapping[str, Any] | None = None
    doubted_page: str = ""
    learning_curve: LearningCurve | None = None

    def interval(self, name: str) -> Interval | None:
        """That of a figure; None where it was not asked for or nothing decides it."""
        return None if self.resampled is None else interval_of(self.resampled.values.get(name))

    def class_interval(self, name: str) -> Interval | None:
        """Likewise of a class."""
        return None if self.resampled is None else interval_of(self.resampled.per_class.get(name))


def interval_of(drawn: Drawn | None) -> Interval | None:
    return None if drawn is None else drawn.interval
