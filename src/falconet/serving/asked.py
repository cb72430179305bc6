"""What a request asks for: its parameters, and the task of the model that answers them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from falconet.core.errors import ConfigError
from falconet.core.strict import Config
from falconet.core.suggest import did_you_mean
from falconet.runtime.tasks import TASKS, Task, open_task
from falconet.serving.hosted import Version
from falconet.serving.problems import Problem

MOST_TASKS = 64
"""Combinations of parameters whose task is kept, of each version."""

ONLY_DETECTORS = ("iou", "max_detections", "operating_point")


class Asked(Config):
    """The parameters of `POST /v1/detect`."""

    model: str | None = Field(default=None, description="name of the model; left out, the first one")
    score: float | None = Field(
        default=None, ge=0, le=1, description="report what scores above this; left out, the model's own threshold"
    )
    operating_point: str | None = Field(
        default=None, description="thresholds that 'falconet calibrate' stored, as in recall=0.95, instead of score"
    )
    classes: str | None = Field(default=None, description="report only these, as in person,car")
    boxes: Literal["absolute", "relative"] = Field(
        default="absolute", description="pixels of the full picture, or fractions of its width and height"
    )
    answer: Literal["json", "jpeg"] = Field(
        default="json", description="JSON, or the picture, of which there must be one, with boxes drawn in"
    )
    iou: float | None = Field(
        default=None, ge=0, le=1, description="of a detector: boxes of a class that overlap more than this are one"
    )
    max_detections: int | None = Field(default=None, ge=1, le=1000, description="of a detector: boxes of a picture")
    top: int | None = Field(default=None, ge=1, le=100_000, description="of a classifier: classes told; left out, five")


def check_given(given: Sequence[tuple[str, str]]) -> None:
    """Raise Problem for parameters that are unknown or given twice."""
    names = [name for name, _ in given]
    for name in names:
        if name not in Asked.model_fields:
            guess = did_you_mean(name, Asked.model_fields) or f"expected some of: {', '.join(Asked.model_fields)}"
            raise Problem("bad-parameter", f"{name[:100]}: there is no such parameter; {guess}")
        if names.count(name) > 1:
            more = "; name several classes as in classes=person,car" if name == "classes" else ""
            raise Problem("bad-parameter", f"{name}: is given {names.count(name)} times; expected once{more}")


def wrong_parameter(error: Mapping[str, Any]) -> Problem:
    """What pydantic says of a parameter, as a sentence."""
    name = str(error["loc"][-1])
    limits = {
        "score": "a number from 0 to 1",
        "iou": "a number from 0 to 1",
        "max_detections": "a whole number from 1 to 1000",
        "top": "a whole number from 1",
        "boxes": "absolute or relative",
        "answer": "json or jpeg",
    }
    expected = limits.get(name, str(error.get("msg", "another value")))
    return Problem("bad-parameter", f"{name}: expected {expected}, but got {str(error.get('input'))[:60]!r}")


def task_for(version: Version, asked: Asked) -> Task[Any]:
    """The task of a model that answers as asked.

    Raises:
        Problem: a class, an operating point or a parameter that means nothing for the model.
    """
    manifest = version.opened.many.manifest
    detects = manifest.task == "detect"
    _check_meaning(asked, TASKS[manifest.task].noun, detects=detects)
    classes = asked_classes(asked)
    if classes is not None:
        check_classes(classes, manifest.classes, version.name)
    if not detects:
        return version.opened.many.task
    key = (asked.score, classes, asked.operating_point, asked.iou, asked.max_detections)
    if (known := version.tasks.get(key)) is not None:
        return known
    changes: dict[str, Any] = {
        "score_threshold": asked.score,
        "iou_threshold": asked.iou,
        "max_detections": asked.max_detections,
    }
    selection = replace(manifest.told_selection, **{name: one for name, one in changes.items() if one is not None})
    try:
        task = open_task(manifest, selection=selection, classes=classes, operating_point=asked.operating_point)
    except ConfigError as error:
        raise Problem("bad-parameter", str(error)) from error
    if len(version.tasks) >= MOST_TASKS:
        version.tasks.clear()
    version.tasks[key] = task
    return task


def asked_classes(asked: Asked) -> tuple[str, ...] | None:
    """The classes to report; None: all.

    Raises:
        Problem: a name is empty.
    """
    if asked.classes is None:
        return None
    names = tuple(word.strip() for word in asked.classes.split(","))
    if not all(names):
        what = "is empty" if not any(names) else f"{asked.classes[:100]!r} has an empty name"
        raise Problem(
            "bad-parameter", f"classes: {what}; expected names, as in classes=person,car, or no such parameter for all"
        )
    return names


def _check_meaning(asked: Asked, noun: str, *, detects: bool) -> None:
    if detects:
        if asked.top is not None:
            raise Problem("bad-parameter", f"top: the model is a {noun}, for which it means nothing; leave it out")
        if asked.score is not None and asked.operating_point is not None:
            raise Problem("bad-parameter", "score, operating_point: both say what is reported; leave one out")
        return
    for name in ONLY_DETECTORS:
        if getattr(asked, name) is not None:
            raise Problem("bad-parameter", f"{name}: the model is a {noun}, for which it means nothing; leave it out")
    if asked.boxes == "relative":
        raise Problem("bad-parameter", f"boxes: the model is a {noun}, whose answers have none; leave it out")


def check_classes(asked: Sequence[str], known: Sequence[str], model: str) -> None:
    """Raise Problem for a class that a model does not know."""
    for name in asked:
        if name not in known:
            guess = did_you_mean(name, known)
            first = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise Problem(
                "unknown-class",
                f"classes: the model '{model}' does not know '{name[:100]}'; {guess or f'its classes are: {first}'}",
            )
