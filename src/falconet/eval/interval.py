"""How far AP may be off because the pictures are few: the bootstrap over pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from falconet.core.types import Detections, Record
from falconet.eval import coco_ap

RESAMPLES = 200


class Interval(NamedTuple):
    """The middle 95 % of what other pictures of the same kind would have given."""

    low: float
    high: float


def ap_interval(
    names: Sequence[str],
    records: Sequence[Record],
    answers: Sequence[Detections],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The 95 % interval of AP; None where nothing decides it.

    Pictures are drawn with replacement, as many as there are, and one that is drawn twice counts twice (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        names, records, answers: as of `coco_ap.evaluate`.
        resamples: draws.
        seed: of them.
    """
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(resamples if records else 0):
        drawn = chance.integers(0, len(records), len(records))
        metrics = coco_ap.evaluate(names, [records[one] for one in drawn], [answers[one] for one in drawn])
        if metrics["AP"] > coco_ap.UNDEFINED:
            found.append(metrics["AP"])
    if not found:
        return None
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(float(low), float(high))
