"""What a classifier's answers are worth: top-1, top-5, confusions, and the parts of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from falconet.core.errors import DataError
from falconet.core.types import Classification, Floats, Ints, Record
from falconet.eval.accuracy import KEPT, Accuracy, measure_accuracy
from falconet.eval.bootstrap import Resampled, resample_shares
from falconet.eval.picture import ImageView

SHOWN = 10
"""Confusions that are printed, and worst images in a report."""


class Ranked(NamedTuple):
    """The classes of one image, best first."""

    labels: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class AllClasses:
    """How classes of a model translate to those of a data set and, behind these, those that only the model knows.

    Attributes:
        names: of both; an answer outside the data set's classes is an answer too.
        to_names: [C of the model] index in `names`.
        note: what is worth telling; empty when the model knows all classes of the data set.
    """

    names: tuple[str, ...]
    to_names: Ints
    note: str

    def apply(self, found: Classification) -> Ranked:
        """All classes of the model, ranked."""
        order = found.ranked(len(found))
        return Ranked(self.to_names[order], found.probabilities[order])


def match_all(data_names: Sequence[str], model_names: Sequence[str], *, data: str, model: str) -> AllClasses:
    """Match by name. A class that the model does not know counts as wrong.

    Args:
        data, model: what to call the two in a message.

    Raises:
        DataError: the model knows none of the data set's classes.
    """
    unknown = [name for name in data_names if name not in model_names]
    if len(unknown) == len(data_names):
        raise DataError(
            f"{data}: {model} knows none of its classes\n  data:  {', '.join(data_names[:20])}\n"
            f"  model: {', '.join(model_names[:20])}"
        )
    names = (*data_names, *(name for name in model_names if name not in data_names))
    note = f"{data}: the model does not know {', '.join(unknown)}; all of these count as wrong" if unknown else ""
    return AllClasses(names, np.array([names.index(name) for name in model_names], np.int64), note)


@dataclass(frozen=True, slots=True)
class ClassificationResults:
    """A classifier's evaluation.

    Attributes:
        names: of the classes of data and model.
        records, answers: aligned; labels of both index `names`.
        metrics: top-1, top-5 and what goes with them.
        resampled: these in many draws of the pictures, where it was asked for.
    """

    names: tuple[str, ...]
    records: Sequence[Record]
    answers: Sequence[Ranked]
    metrics: Accuracy
    resampled: Resampled | None = None

    @classmethod
    def of(
        cls, match: AllClasses, records: Sequence[Record], answers: Sequence[Ranked], *, intervals: bool = False
    ) -> "ClassificationResults":
        """Measure ranked classes; the true one is the label of a record's only box."""
        labels = [int(record.labels[0]) for record in records]
        metrics = measure_accuracy(match.names, labels, [answer.labels for answer in answers])
        drawn = _resampled(match.names, labels, answers) if intervals and records else None
        return cls(match.names, records, answers, metrics, drawn)

    def as_dict(self) -> dict[str, Any]:
        """The figures, as fractions."""
        return {
            **self.metrics.as_dict(),
            **({} if self.resampled is None else self.resampled.as_dict()),
            "per_class": self.metrics.per_class,
            "pictures_per_class": self.metrics.counts,
            "confusions": [list(one) for one in self.metrics.confusions],
            "images": self.metrics.images,
        }

    def lines(self) -> list[str]:
        """The figures as a table, in percent."""
        metrics = self.metrics
        width = max((len(name) for name in metrics.per_class), default=0)
        drawn = self.resampled
        intervals = {} if drawn is None else {name: one.interval for name, one in drawn.values.items()}
        classes = {} if drawn is None else {name: one.interval for name, one in drawn.per_class.items()}
        lines = [] if drawn is None else [f"{'':<13}  95 % interval"]
        for title, key in (("top-1", "top1"), ("top-5", "top5")):
            lines.append(f"{title}  {100 * metrics.as_dict()[key]:6.2f}  {intervals.get(key) or ''}".rstrip())
        last = "" if drawn is None else "  95 % interval"
        lines += ["", f"{'class':<{width}}  {'images':>8}  {'top-1':>6}{last}"]
        lines += [
            f"{name:<{width}}  {metrics.counts[name]:>8}  {100 * value:>6.2f}  {classes.get(name) or ''}".rstrip()
            for name, value in metrics.per_class.items()
        ]
        lines += [f"{number} x {true} taken for {said}" for true, said, number in metrics.confusions[:SHOWN]]
        return lines

    def documents(self) -> dict[str, Any]:
        """Files for programs, by name: the best classes of each image."""
        return {
            "classes.json": {
                "images": [
                    {
                        "file_name": record.path.name,
                        "class": self.names[int(record.labels[0])],
                        "found": [
                            {"class": self.names[label], "score": round(score, 6)}
                            for label, score in zip(answer.labels[:5].tolist(), answer.scores[:5].tolist(), strict=True)
                        ],
                    }
                    for record, answer in zip(self.records, self.answers, strict=True)
                ]
            }
        }

    def facts(self) -> list[tuple[str, str]]:
        """What the data hold."""
        return [("images", f"{self.metrics.images} in {len(self.metrics.counts)} classes")]

    def sentences(self) -> list[str]:
        """What it comes to, for somebody who knows nothing of it."""
        images = self.metrics.images
        right = round(self.metrics.top1 * images)
        return [f"Of {images:,} pictures the model names {right:,} rightly ({self.metrics.top1:.0%})."]

    def report_parts(self, score: float) -> Mapping[str, Any]:  # noqa: ARG002
        """The parts of a report that only classifiers have: figures, and the images that are wrong most surely."""
        wrong = [
            index
            for index, (record, answer) in enumerate(zip(self.records, self.answers, strict=True))
            if answer.labels[0] != record.labels[0]
        ]
        wrong.sort(key=lambda index: -float(self.answers[index].scores[0]))
        return {
            "metrics": None,
            "accuracy": self.metrics,
            "resampled": self.resampled,
            "worst": [self._view(index) for index in wrong[:SHOWN]],
        }

    def _view(self, index: int) -> ImageView:
        """An image, what it shows, and what it was taken for."""
        record, answer = self.records[index], self.answers[index]
        truth, found = self.names[int(record.labels[0])], self.names[int(answer.labels[0])]
        caption = f"{truth}, taken for {found} with a score of {float(answer.scores[0]):.2f}"
        return ImageView(record, caption=caption)


def _resampled(names: Sequence[str], labels: Sequence[int], answers: Sequence[Ranked]) -> Resampled:
    true = np.array(labels, np.int64)
    right = np.array([one.labels[0] for one in answers]) == true
    among = np.array([label in one.labels[:KEPT] for one, label in zip(answers, labels, strict=True)], np.bool_)
    classes = {name: true == label for label, name in enumerate(names) if label in labels}
    return resample_shares({"top1": right, "top5": among}, classes)
