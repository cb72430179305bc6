"""Do 95 % intervals hold the true figure in 95 of 100 cases? python benchmarks/coverage.py --out runs/coverage

A detector whose chances are known answers made pictures; its true AP is that of 200,000 of them. Each trial draws fewer
pictures and asks whether the intervals that these give hold the true AP, AP50, AP of each class and difference of two
detectors. `falconet` is what `falconet eval` uses; beside it stand others that are computed from the same draws.
Whoever asks for thresholds of a recall of 0.5 (`falconet eval --operating-point recall=0.5`) is promised recall and
precision on all other pictures: these intervals are in the table as well.

Counts are written to OUT/coverage.json after each ten trials, from where the next call goes on; 1,500 trials know a
share of 95 % to 0.6 points.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from falconet.core.files import replace_file
from falconet.core.types import Detections, Record
from falconet.eval.bootstrap import Drawn, Interval, resample, weights
from falconet.eval.matching import match_all
from falconet.eval.wanted_point import Wanted, wanted_point

TRUE, PART = 200_000, 20_000
"""Pictures whose mean over parts is taken for the truth, and pictures of each part."""

RESAMPLES = 400
BLOCK = 10
WANTED = Wanted.parse("recall=0.5")
NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Setting:
    """Made pictures and detectors.

    Attributes:
        name: of it.
        skills: share of the objects that each detector finds.
        shares: of each class among the objects.
        false: false detections of a picture, on average.
    """

    name: str
    skills: tuple[float, float] = (0.7, 0.78)
    shares: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    false: float = 1.5


EVEN = Setting("three classes")
RARE = Setting("classes from 55 to 5 %", shares=(0.55, 0.3, 0.1, 0.05))
POOR = Setting("poor detectors", skills=(0.45, 0.5), false=6.0)

PLAN = ((EVEN, 40), (EVEN, 80), (EVEN, 200), (RARE, 80), (POOR, 80))


class Trial(NamedTuple):
    """A figure of a trial: with equal weights, in draws, and with one picture left out; `images` there are."""

    value: float
    draws: np.ndarray
    without_one: np.ndarray
    images: int


def made(setting: Setting, pictures: int, seed: int) -> tuple[list[Record], list[list[Detections]]]:
    """Pictures of some boxes each, and the answers of each detector.

    How hard a picture is, is common to its objects and to all detectors.
    """
    chance = np.random.default_rng(seed)
    classes = len(setting.shares)
    records: list[Record] = []
    answers: list[list[Detections]] = [[] for _ in setting.skills]
    for number in range(pictures):
        count = 1 + int(chance.poisson(2.0))
        corner, sides = chance.uniform(0, 400, (count, 2)), chance.uniform(40, 160, (count, 2))
        boxes = np.concatenate([corner, corner + sides], 1)
        labels = chance.choice(classes, count, p=setting.shares)
        crowd = np.zeros(count, np.bool_)
        records.append(Record(number, Path(f"{number}.jpg"), 640, 640, boxes.astype(np.float32), labels, crowd))
        ease, luck = chance.normal(0, 0.15), chance.random(count)
        shift, sure = chance.normal(0, 0.06, (count, 4)), chance.beta(4, 2, count)
        false = int(chance.poisson(setting.false))
        away, wide = chance.uniform(0, 400, (false, 2)), chance.uniform(40, 160, (false, 2))
        wrong, unsure = chance.choice(classes, false, p=setting.shares), chance.beta(1.5, 4, false)
        for own, skill in zip(answers, setting.skills, strict=True):
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


def figures(
    setting: Setting, records: list[Record], answers: list[list[Detections]], drawn: np.ndarray
) -> dict[str, Drawn]:
    """AP, AP50 and AP of each class of the first detector, and what the second one has more of the first two."""
    names = [str(label) for label in range(len(setting.shares))]
    one, other = (resample(names, records, own, drawn=drawn) for own in answers)
    differences = {f"difference of {name}": other.values[name].less(one.values[name]) for name in ("AP", "AP50")}
    classes = {
        f"AP, class of {share:.0%}": one.per_class[name] for name, share in zip(names, setting.shares, strict=True)
    }
    return {"AP": one.values["AP"], "AP50": one.values["AP50"], **classes, **differences}


def truth(setting: Setting) -> dict[str, float]:
    """The figures of very many pictures."""
    parts = []
    for part in range(TRUE // PART):
        records, answers = made(setting, PART, 10**6 + part)
        parts.append(figures(setting, records, answers, np.ones((1, PART), np.float32)))
    return {name: float(np.mean([part[name].value for part in parts])) for name in parts[0]}


def intervals(trial: Trial) -> dict[str, Interval | None]:
    """By method."""
    draws = np.sort(trial.draws[~np.isnan(trial.draws)])
    if np.isnan(trial.value) or not len(draws):
        return {}
    left = trial.without_one[~np.isnan(trial.without_one)]
    below = ((draws < trial.value).mean() + (draws <= trial.value).mean()) / 2
    shift = NORMAL.inv_cdf(min(max(float(below), 1 / (len(draws) + 1)), len(draws) / (len(draws) + 1)))
    slopes = (len(left) - 1) * (left.mean() - left)
    bend = float((slopes**3).sum() / max(1e-30, 6 * (slopes**2).sum() ** 1.5))
    wide, bias = _student(trial.images), float(draws.mean()) - trial.value
    spread = wide * float(draws.std(ddof=1))

    def accelerated(side: float) -> float:
        return shift + (shift + side) / (1 - bend * (shift + side))

    outer = _between(draws, -wide, wide)
    return {
        "falconet": Drawn(trial.value, trial.draws, trial.images).interval,
        "percentiles": _between(draws, -1.96, 1.96),
        "percentiles, expanded": outer,
        "bias-corrected": _between(draws, 2 * shift - 1.96, 2 * shift + 1.96),
        "BCa": _between(draws, accelerated(-1.96), accelerated(1.96)),
        "BCa, expanded": _between(draws, accelerated(-wide), accelerated(wide)),
        "basic, expanded": Interval(2 * trial.value - outer.high, 2 * trial.value - outer.low),
        "t, less the bias": Interval(trial.value - bias - spread, trial.value - bias + spread),
    }


def _between(draws: np.ndarray, low: float, high: float) -> Interval:
    """The draws at so many standard deviations of a normal distribution."""
    places = np.array([NORMAL.cdf(low), NORMAL.cdf(high)]) * (len(draws) + 1)
    return Interval(*np.interp(places, np.arange(1, len(draws) + 1), draws).tolist())


def _student(images: int) -> float:
    """As of `falconet.eval.bootstrap`."""
    normal, freedom = NORMAL.inv_cdf(0.975), images - 1
    student = (
        normal
        + (normal**3 + normal) / (4 * freedom)
        + (5 * normal**5 + 16 * normal**3 + 3 * normal) / (96 * freedom**2)
    )
    return student * math.sqrt(images / freedom)


Counts = dict[str, dict[str, list[float]]]
"""By figure and method: trials, held, true figure below, above, sum of widths."""


def count(counts: Counts, figure: str, method: str, interval: Interval | None, true: float) -> None:
    """One trial more."""
    if interval is None:
        return
    row = counts.setdefault(figure, {}).setdefault(method, [0, 0, 0, 0, 0.0])
    below, above = true < interval.low, true > interval.high
    for place, value in enumerate((1, not (below or above), below, above, interval.high - interval.low)):
        row[place] += float(value)


class Others:
    """What thresholds do on all other pictures."""

    def __init__(self, setting: Setting) -> None:
        records, answers = made(setting, PART, 10**6)
        self._names = [str(label) for label in range(len(setting.shares))]
        self._matches = match_all(self._names, records, answers[0])

    def promised(self, counts: Counts, records: list[Record], answers: list[Detections]) -> None:
        """Count whether the intervals of recall and precision hold what these thresholds do."""
        point = wanted_point(WANTED, self._names, records, answers)
        found = said = objects = 0
        for one, threshold in zip(self._matches, point.thresholds.values(), strict=True):
            above = one.scores > threshold
            found += int((one.right[0] & above).sum())
            said += int((above & ~one.ignored[0]).sum())
            objects += int(one.objects[0].sum())
        for name, true in (("recall", found / objects), ("precision", found / max(1, said))):
            count(counts, f"{name} of thresholds", "falconet", point.promise.intervals[name], true)


def trial_of(
    counts: Counts, setting: Setting, pictures: int, seed: int, true: Mapping[str, float], others: Others
) -> None:
    """Count one trial."""
    records, answers = made(setting, pictures, seed)
    drawn = np.concatenate([weights(pictures, resamples=RESAMPLES, seed=seed), 1 - np.eye(pictures, dtype=np.float32)])
    for name, own in figures(setting, records, answers, drawn).items():
        trial = Trial(own.value, own.draws[:RESAMPLES], own.draws[RESAMPLES:], pictures)
        for method, interval in intervals(trial).items():
            count(counts, name, method, interval, true[name])
    others.promised(counts, records, answers[0])


def table(setting: str, pictures: int, counts: Counts) -> list[str]:
    """Lines for people, in percent."""
    lines = [
        f"\n{setting}, {pictures} pictures",
        f"{'':<24}{'':<24}{'trials':>7}{'held':>7}{'below':>7}{'above':>7}{'width':>7}",
    ]
    for figure, methods in counts.items():
        for method, (trials, *sums) in methods.items():
            cells = "".join(f"{100 * one / trials:>7.1f}" for one in sums)
            lines.append(f"{figure:<24}{method:<24}{trials:>7.0f}{cells}")
    return lines


def main() -> None:
    """Print how often the intervals hold what they should."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("runs/coverage"))
    asked = parser.parse_args()
    path = asked.out / "coverage.json"
    state = json.loads(path.read_text()) if path.is_file() else {}
    truths, found, others = state.setdefault("true", {}), state.setdefault("counts", {}), {}
    for first in range(0, asked.trials, BLOCK):
        for setting, pictures in PLAN:
            own = found.setdefault(f"{setting.name}, {pictures}", {"trials": 0, "counts": {}})
            if own["trials"] > first:
                continue
            if setting.name not in truths:
                truths[setting.name] = truth(setting)
            if setting.name not in others:
                others[setting.name] = Others(setting)
            for number in range(first, first + BLOCK):
                trial_of(own["counts"], setting, pictures, number + 1, truths[setting.name], others[setting.name])
            own["trials"] = first + BLOCK
            replace_file(path, json.dumps(state, indent=1) + "\n")
    for setting, pictures in PLAN:
        print("\n".join(table(setting.name, pictures, found[f"{setting.name}, {pictures}"]["counts"])))


if __name__ == "__main__":
    main()
