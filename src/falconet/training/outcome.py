"""How a finished run went, in plain words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from falconet.core.figures import percent, plural
from falconet.eval.operating_point import OperatingPoint
from falconet.training.plan import FEW_STEPS
from falconet.training.run_config import Train

LAST = 0.25
"""Share of a run, at its end, that is looked at for whether longer training would have helped."""

TELLING, USUAL_MINUTES = 50, 20
"""Steps from which on one can tell how long they take; what is proposed otherwise."""

RISING = 0.01
"""Gain in AP or top-1 in that share from which on it would have."""


def outcome(
    history: Sequence[Mapping[str, Any]], best: Mapping[str, float], train: Train, *, took: str, key: str
) -> list[str]:
    """What to tell at the end of a run.

    Args:
        history: metrics of each epoch, as in metrics.jsonl.
        best: of the best validation: `key`, a second metric, the epoch and, of a detector, its operating point.
        train: the run's settings.
        took: the time of the run in words.
        key: the metric that decides, AP or top1.
    """
    second = next(name for name in best if name not in (key, "epoch"))
    reached = f"best {key} {percent(best[key])} ({second} {percent(best[second])}) in epoch {best['epoch']:.0f}"
    lines = [f"done: {plural(len(history), 'epoch')} in {took}, {reached}"]
    if "val_images" in best:
        few = plural(int(best["val_images"]), "picture")
        lines.append(f"there was time to validate on {few} alone, which says little: 'falconet eval' takes all")
    if "found" in best:
        point = OperatingPoint(best["score"], int(best["found"]), int(best["missed"]), int(best["false"]))
        lines.append(f"at the best threshold, which the weights keep: {point}")
    if best[key] < 0:
        return [*lines, "the validation pictures hold nothing that counts, so nobody knows how good this is"]
    if advice := _advice(history, best[key], train, key=key):
        lines.append(advice)
    return lines


def _advice(history: Sequence[Mapping[str, Any]], best: float, train: Train, *, key: str) -> str:
    """Whether to train longer; empty where that would hardly help."""
    steps = history[-1]["step"]
    if best < 0.005:
        few = steps < FEW_STEPS and f"{plural(steps, 'step')} in all" + (
            f"; from nothing, {FEW_STEPS:,} are the least" if train.weights is None else ""
        )
        why = few or "look at the boxes with 'falconet data show', or lower train.learning_rate"
        return f"it finds nothing yet: {why}. Next: a new run with {_longer(train, steps, least=FEW_STEPS)}" + (
            "" if train.weights is not None else ", or with weights to start from (train.weights)"
        )
    end = history[-1]["epoch"]
    whole = [entry for entry in history if key in entry and "val_images" not in entry]
    before = [entry[key] for entry in whole if entry["epoch"] <= (1 - LAST) * end]
    if before and best - max(before) >= RISING:
        gain = percent(best - max(before))
        longer = _longer(train, steps)
        return f"{key} still rose by {gain} in the last quarter: a longer run will be better, as in {longer}"
    return ""


def _longer(train: Train, steps: int, *, least: int = 0) -> str:
    """The setting of a run twice as long, or of so many steps at `least`.

    Of minutes only where there were steps enough to tell how long they take.
    """
    factor = max(2, math.ceil(least / steps))
    if train.minutes is None:
        return f"train.epochs={factor * train.epochs}"
    if factor == 2 or steps >= TELLING:
        return f"train.minutes={factor * train.minutes:.2g}"
    return f"train.minutes={USUAL_MINUTES}"
