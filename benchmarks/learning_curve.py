"""Does the interval of `falconet data curve` hold what more pictures give? python benchmarks/learning_curve.py

    python benchmarks/learning_curve.py FOLDER STEPS DRAWS OVERRIDE...
    python benchmarks/learning_curve.py made

The first trains NanoDet-Plus-m on parts of a data set, as the command does, then forgets the trainings on all pictures:
from those on an eighth, a quarter and a half, and from those on a quarter and a half alone, it foretells what all
pictures give, and says whether that lies in the interval. As the validation pictures are the same, the narrower
interval counts, that for these very pictures. OVERRIDE are changes of a run, as in data=photos model.input.height=192.

The second makes curves of five kinds, two of which the command does not know, and trainings with luck: how often do
the intervals hold the next points? A curve of one training each, as a user with few minutes has it.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from falconet.api.curve import Length, curve
from falconet.api.curve_result import Curve, Trained
from falconet.eval.bootstrap import Drawn, Interval
from falconet.eval.growth import SPREAD_GROWTH, fit, fit_here, predict

PRESET = "nanodet-plus-m-320"
PARTS = {"1/8, 1/4, 1/2": (1 / 8, 1 / 4, 1 / 2), "1/4, 1/2": (1 / 4, 1 / 2)}
MADE, SHARES = 200, np.array([1 / 8, 1 / 4, 1 / 2, 1, 2, 4])


def foretell(done: Curve) -> list[str]:
    """Rows of a table: what was foretold for all pictures, and what they gave."""
    rows = []
    for name in ("", *done.trained[0].per_class):
        for parts, shares in PARTS.items():
            sizes = {round(share * done.total) for share in shares}
            seen = [one for one in done.trained if one.pictures in sizes]
            counts, reached = [one.pictures for one in seen], [_figure(one, name) for one in seen]
            told = predict(fit(counts, reached), fit_here(counts, reached), done.total)
            whole = [_figure(one, name).value for one in done.trained if one.pictures == done.total]
            within = ["yes" if _holds(told.interval_here, one) else "no" for one in whole]
            given, held = ", ".join(f"{100 * one:.1f}" for one in whole), ", ".join(within)
            cells = (name or done.figure, parts, f"{100 * told.value:.1f}", told.interval_here, told.interval)
            rows.append("| " + " | ".join(map(str, (*cells, given, held))) + " |")
    return rows


def _figure(trained: Trained, name: str) -> Drawn:
    return trained.per_class[name] if name else trained.reached


def _holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


Kind = Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]

KINDS: dict[str, Kind] = {
    "power": lambda x, chance: -(x ** -chance.uniform(0.1, 1.2)),
    "logarithm": lambda x, chance: np.log1p(x / 10 ** chance.uniform(-2, 0.3)),
    "arctan": lambda x, chance: np.arctan(x * 10 ** chance.uniform(-0.3, 1.3)),
    "n / (n + c)": lambda x, chance: x / (x + 10 ** chance.uniform(-0.3, 1)),
    "Weibull": lambda x, chance: 1 - np.exp(-((x * chance.uniform(0.5, 6)) ** chance.uniform(0.4, 1))),
}


def made(kind: Kind, chance: np.random.Generator) -> NDArray[np.float64]:
    """The truth at `SHARES` of the pictures that there are."""
    while True:
        now = chance.uniform(0.3, 0.9)
        first, base = now * chance.uniform(0.2, 0.98), kind(SHARES, chance)
        truth = first + (now - first) * (base - base[0]) / (base[3] - base[0])
        if truth[-1] <= 0.97:
            return truth


def coverage() -> None:
    """Print how often the intervals hold what they should."""
    print("luck  kind         all from 1/8-1/2   twice   four times   gain of four times")
    for luck in (0.005, 0.012, 0.025):
        for name, kind in KINDS.items():
            held = np.array([_held(kind, luck, np.random.default_rng(seed)) for seed in range(MADE)])
            cells = "".join(f"{100 * share:>14.1f}" for share in held.mean(0))
            print(f"{luck:<6}{name:<12}{cells}", flush=True)


def _held(kind: Kind, luck: float, chance: np.random.Generator) -> list[bool]:
    truth = made(kind, chance)
    seen = np.clip(truth + luck * SHARES**-SPREAD_GROWTH * chance.standard_normal(len(truth)), 0, 1)
    pictures = np.round(200 * SHARES).astype(int).tolist()
    reached = [Drawn(value, np.zeros(0), 0) for value in seen.tolist()]
    half = fit_here(pictures[:3], reached[:3])
    whole = fit_here(pictures[:4], reached[:4])
    found = [(half.one(200), seen[3]), (whole.one(400), seen[4]), (whole.one(800), seen[5])]
    found.append((whole.gain(800), truth[5] - truth[3]))
    return [bool(np.quantile(draws, 0.025) <= value <= np.quantile(draws, 0.975)) for draws, value in found]


def main(words: Sequence[str]) -> None:
    """Print the table of a data set, or the share of made curves that are held."""
    if words == ["made"]:
        coverage()
        return
    folder, steps, draws, *overrides = words
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    length = Length(None, int(steps), int(draws))
    done = curve(PRESET, [*overrides, f"output={Path(folder).absolute()}"], length=length)
    print(done)
    print("\n| figure | from | foretold | 95 %, these pictures | others, too | all pictures gave | within |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(foretell(done)))


if __name__ == "__main__":
    main(sys.argv[1:])
