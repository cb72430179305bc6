"""Do 95 % intervals of AP hold the true AP in 95 of 100 cases? python benchmarks/coverage.py

A detector whose chances are known answers made pictures; its true AP is that of 20,000 of them. Each trial draws fewer
pictures and asks whether the interval that these give holds the true AP: that of the bootstrap with multiplicity and
corrected for bias, which `falconet eval` uses; the same without the correction; and that of a bootstrap in which no
picture counts twice. Then the same of the difference of two detectors on the same pictures, and of what thresholds for
a recall of 0.5 (`falconet eval --operating-point recall=0.5`) promise for recall and precision of all other pictures.
"""

from pathlib import Path

import numpy as np

from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import Interval, resample, weights
from falconet.eval.matching import match_all
from falconet.eval.wanted_point import Wanted, wanted_point

CLASSES = 3
TRUE = 20_000
TRIALS = 200
RESAMPLES = 300
WANTED = Wanted.parse("recall=0.5")


def made(pictures: int, seed: int, skills: tuple[float, ...]) -> tuple[list[Record], list[list[Detections]]]:
    """Pictures of some boxes each, and the answers of a detector of each skill: the share of objects it finds.

    How hard a picture is, is common to its objects and to all detectors.
    """
    chance = np.random.default_rng(seed)
    records: list[Record] = []
    answers: list[list[Detections]] = [[] for _ in skills]
    for number in range(pictures):
        count = 1 + int(chance.poisson(2.0))
        corner, sides = chance.uniform(0, 400, (count, 2)), chance.uniform(40, 160, (count, 2))
        boxes = np.concatenate([corner, corner + sides], 1)
        labels = chance.integers(0, CLASSES, count)
        crowd = np.zeros(count, np.bool_)
        records.append(Record(number, Path(f"{number}.jpg"), 640, 640, boxes.astype(np.float32), labels, crowd))
        ease, luck = chance.normal(0, 0.15), chance.random(count)
        shift, sure = chance.normal(0, 0.06, (count, 4)), chance.beta(4, 2, count)
        false = int(chance.poisson(1.5))
        away, wide = chance.uniform(0, 400, (false, 2)), chance.uniform(40, 160, (false, 2))
        wrong, unsure = chance.integers(0, CLASSES, false), chance.beta(1.5, 4, false)
        for own, skill in zip(answers, skills, strict=True):
            found = luck < skill + ease
            near = boxes + shift * np.tile(sides, 2) * (1.6 - skill)
            own.append(
                Detections(
                    np.concatenate([near[found], np.concatenate([away, away + wide], 1)]).astype(np.float32),
                    np.concatenate([sure[found], unsure]).astype(np.float32),
                    np.concatenate([labels[found], wrong]),
                )
            )
    return records, answers


def main() -> None:
    """Print how often the intervals hold what they should."""
    names, skills = [str(label) for label in range(CLASSES)], (0.7, 0.78)
    records, answers = made(TRUE, 0, skills)
    once = np.ones((1, TRUE), np.float32)
    true = [resample(names, records, one, drawn=once).values["AP"].value for one in answers]
    others = Others(names, records, answers[0])
    print(f"true AP: {100 * true[0]:.2f}, {100 * true[1]:.2f}")
    print("pictures  corrected  plain  without multiplicity  difference of two  recall  precision  mean width of AP")
    for pictures in (40, 80, 200):
        held = np.zeros((TRIALS, 6))
        widths = []
        for trial in range(TRIALS):
            records, answers = made(pictures, trial + 1, skills)
            drawn = weights(pictures, resamples=RESAMPLES, seed=trial)
            one, other = (resample(names, records, found, drawn=drawn).values["AP"] for found in answers)
            singly = resample(names, records, answers[0], drawn=np.minimum(drawn, 1)).values["AP"]
            point = wanted_point(WANTED, names, records, answers[0])
            recall, precision = others.at(list(point.thresholds.values()))
            interval = one.interval
            held[trial] = [
                _holds(interval, true[0]),
                _holds(_middle(one.draws), true[0]),
                _holds(_middle(singly.draws), true[0]),
                _holds(other.less(one).interval, true[1] - true[0]),
                _holds(point.promise.intervals["recall"], recall),
                _holds(point.promise.intervals["precision"], precision),
            ]
            assert interval is not None
            widths.append(interval.high - interval.low)
        shares = "".join(
            f"{100 * share:>{width}.1f}" for share, width in zip(held.mean(0), (11, 7, 22, 19, 8, 11), strict=True)
        )
        print(f"{pictures:>8}{shares}{100 * np.mean(widths):>18.1f}", flush=True)


class Others:
    """What thresholds do on all other pictures."""

    def __init__(self, names: list[str], records: list[Record], answers: list[Detections]) -> None:
        self._matches = match_all(names, records, answers)

    def at(self, thresholds: list[float]) -> tuple[float, float]:
        """Recall and precision."""
        found = said = objects = 0
        for one, threshold in zip(self._matches, thresholds, strict=True):
            above = one.scores > threshold
            found += int((one.right[0] & above).sum())
            said += int(above.sum())
            objects += int(one.objects[0].sum())
        return found / objects, found / said


def _middle(draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, (2.5, 97.5))
    return Interval(float(low), float(high))


def _holds(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


if __name__ == "__main__":
    main()
