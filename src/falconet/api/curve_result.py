"""A learning curve: what was trained, what more pictures would give, and how that is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from falconet.core.figures import percent
from falconet.core.terminal import one_line
from falconet.eval.bootstrap import Drawn
from falconet.eval.growth import Growth, Prediction, fit, fit_here, predict

TIMES = {2: "twice", 4: "four times"}
"""How many times as many pictures are asked about."""

SURE, LIKELY = 0.95, 0.8
"""Probability from which on a class is said to gain most, and probably so."""

WORTH = 0.01
"""Gain from which on more pictures help."""

FALL = 0.03
"""Loss from a part of the pictures to all of them that is more than chance."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A training on a part of the pictures.

    Attributes:
        path: its folder.
        seed: of the training, and of which pictures the part holds.
        pictures: in the part.
        reached: the figure, with draws of the validation pictures.
        per_class: likewise, by name.
    """

    path: Path
    seed: int
    pictures: int
    reached: Drawn
    per_class: Mapping[str, Drawn]


class Curves(NamedTuple):
    """What may lie behind the figures of all trainings.

    Attributes:
        everywhere: on validation pictures of this kind.
        here: on these very ones.
    """

    everywhere: Growth
    here: Growth


class Most(NamedTuple):
    """The class that gains most from twice the pictures.

    Attributes:
        name: of the class.
        probability: that it does.
    """

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Curve:
    """How a model grows with the number of its pictures.

    Attributes:
        path: folder of all trainings.
        figure: what is told, "AP" or "top1".
        trained: in the order of training.
        steps: of each.
        images: pictures that all were measured on.
        curves: behind the figures.
        predicted: for now, and for each of `TIMES`.
        per_class: likewise, by name; classes that the validation pictures do not show are missing.
        most: None with a single class.
        notes: what else is worth knowing.
    """

    path: Path
    figure: str
    trained: tuple[Trained, ...]
    steps: int
    images: int
    curves: Curves
    predicted: tuple[Prediction, ...]
    per_class: Mapping[str, tuple[Prediction, ...]]
    most: Most | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def total(self) -> int:
        """All training pictures."""
        return max(one.pictures for one in self.trained)

    @property
    def falls(self) -> bool:
        """Whether more pictures gave less, so that the trainings are too short to say anything about still more."""
        means = self._means()
        return max(means.values()) - means[self.total] > FALL

    def lines(self) -> list[str]:
        """Tables in percent, and what they come to."""
        expected = [] if self.falls else [*self._expected(), ""]
        return [*self._measured(), "", *expected, *self.sentences()]

    def sentences(self) -> list[str]:
        """What it comes to."""
        if self.falls:
            means = self._means()
            best = max(means, key=means.__getitem__)
            return [
                f"{self.figure} falls from {percent(means[best])} with {best:,} pictures to "
                f"{percent(means[self.total])} with all {self.total:,}: {self.steps:,} steps are too few to learn from "
                f"so many, and say nothing about more pictures. Next: --steps {4 * self.steps}, or more --minutes, and "
                "output=NEW."
            ]
        twice, four = self.predicted[1:]
        lines = [
            f"Twice the pictures ({twice.pictures:,}): {self.figure} {percent(twice.value)}, {twice.interval}; four "
            f"times ({four.pictures:,}): {percent(four.value)}, {four.interval} (95 %: another training, other "
            "validation pictures, other curves that fit).",
            f"{self._verdict(twice)} Twice as many add {percent(twice.gain)} ({twice.gain_interval}), four times as "
            f"many {percent(four.gain)} ({four.gain_interval}).",
        ]
        if self.most is not None:
            lines.append(self._gains_most(self.most))
        return [*lines, *self.notes]

    def as_dict(self) -> dict[str, Any]:
        """For programs; fractions."""
        return {
            "path": str(self.path),
            "figure": self.figure,
            "images": self.images,
            "steps": self.steps,
            "falls": self.falls,
            "measured": [
                {
                    "folder": str(one.path),
                    "seed": one.seed,
                    "pictures": one.pictures,
                    self.figure: one.reached.value,
                    "interval": one.reached.interval,
                    "per_class": {
                        name: None if np.isnan(own.value) else own.value for name, own in one.per_class.items()
                    },
                }
                for one in self.trained
            ],
            "predicted": [one._asdict() for one in self.predicted],
            "per_class": {name: [one._asdict() for one in own] for name, own in self.per_class.items()},
            "gains_most": None if self.most is None else self.most._asdict(),
            "families": self.curves.everywhere.shares(),
            "spread": float(np.median(self.curves.everywhere.spread)),
            "notes": list(self.notes),
            "sentences": self.sentences(),
        }

    def _means(self) -> dict[int, float]:
        """Over the seeds, by number of pictures."""
        pictures = sorted({one.pictures for one in self.trained})
        return {
            count: float(np.mean([one.reached.value for one in self.trained if one.pictures == count]))
            for count in pictures
        }

    def _measured(self) -> list[str]:
        seeds = sorted({one.seed for one in self.trained})
        by_place = {(one.pictures, one.seed): percent(one.reached.value) for one in self.trained}
        heads = [f"{self.figure}, seed {seed}" for seed in seeds]
        lines = ["".join(["pictures", *(f"{head:>14}" for head in heads)])]
        for pictures in sorted({one.pictures for one in self.trained}):
            cells = (f"{by_place.get((pictures, seed), ''):>14}" for seed in seeds)
            lines.append(f"{pictures:>8,}{''.join(cells)}".rstrip())
        return lines

    def _expected(self) -> list[str]:
        heads = ["now", *(f"{word} the pictures" if times == 2 else word for times, word in TIMES.items())]
        rows = {"all": self.predicted, **self.per_class} if len(self.per_class) > 1 else {"all": self.predicted}
        names = {name: one_line(name, longest=30) for name in rows}
        width = max(len("class"), *map(len, names.values()))
        lines = [f"{'class':<{width}}  {heads[0]:>6}  {heads[1]:<22}  {heads[2]:<22}  95 % intervals"]
        for name, (now, *more) in rows.items():
            cells = "".join(f"  {f'{percent(one.value):>4}  {one.interval}':<22}" for one in more)
            lines.append(f"{names[name]:<{width}}  {percent(now.value):>6}{cells}".rstrip())
        return lines

    def _verdict(self, twice: Prediction) -> str:
        low, high = twice.gain_interval
        if low >= WORTH:
            return "More pictures of this kind help."
        if high < WORTH:
            return "More pictures of this kind hardly help."
        return "More pictures of this kind may help, which these trainings cannot tell for sure."

    def _gains_most(self, most: Most) -> str:
        name, gain = one_line(most.name), self.per_class[most.name][1]
        told = f"{percent(gain.gain)}, {gain.gain_interval}, with twice the pictures"
        if most.probability >= SURE:
            return f"{name} gains most: {told}."
        if most.probability >= LIKELY:
            return f"{name} probably gains most ({most.probability:.0%}): {told}."
        return f"Which class gains most cannot be told; {name} ({most.probability:.0%}): {told}."


def predictions(curves: Curves, total: int) -> tuple[Prediction, ...]:
    """For now, and for each of `TIMES`."""
    return tuple(predict(curves.everywhere, curves.here, times * total) for times in (1, *TIMES))


def most_gaining(growths: Mapping[str, Growth], total: int) -> Most | None:
    """The class that gains most from twice the pictures in most of the curves; None with a single class."""
    if len(growths) < 2:
        return None
    gains = np.stack([growth.gain(2 * total) for growth in growths.values()])
    count = np.bincount(gains.argmax(0), minlength=len(gains))
    return Most(list(growths)[int(count.argmax())], float(count.max() / gains.shape[1]))


def curves_of(pictures: Sequence[int], reached: Sequence[Drawn], *, seed: int = 0) -> Curves:
    """The curves behind the figures of trainings on so many pictures each; classes have seeds of their own."""
    return Curves(fit(pictures, reached, seed=seed), fit_here(pictures, reached, seed=seed))
