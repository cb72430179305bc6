"""How a figure grows with the number of training pictures, and what it would be with more of them.

Curves of several families are laid through what trainings on parts of the pictures reached: power law, logarithm and
arctan, of those that Mahmood et al. compare ("How Much More Data Do I Need?", arXiv:2207.01725), and an exponential
approach. No family fits all data, and from few points nobody can tell which one does, so that none is chosen: all
curves take part, each by how well it explains the points (Bayes' rule on a grid of shapes; with the shape given, a
curve is linear in its values at both ends, and is solved exactly). What remains possible is wide where the points say
little. A curve never falls with more pictures, and never leaves 0 to 1.

Two kinds of chance move a point: another training, and other validation pictures. The first has a spread that is itself
estimated, from how the points lie and from what is usual; the second comes as draws of the bootstrap, which shift all
points together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.eval.bootstrap import TAIL, Drawn, Draws, Interval

SAMPLES, REPLICATES = 6000, 200
"""Curves that are drawn, and draws of the validation pictures among them."""

ROUNDS = 300
"""How often a curve that falls or leaves its bounds is drawn anew."""

REACH = 8.0
"""Times the largest number of pictures up to which a logarithm, which has no limit, stays within 1."""

SPREADS = np.array([0.003, 0.005, 0.008, 0.013, 0.02, 0.03, 0.045, 0.07, 0.1])
"""Standard deviations over trainings that are considered, at the largest number of pictures."""

USUAL_SPREAD, SPREAD_DOUBT = 0.015, 0.8
"""What is usual among them, and by how much its logarithm may differ: trainings that differ in their seed alone."""

SPREAD_GROWTH = 0.35
"""The spread is larger for fewer pictures, by this power: chance decides which ones these are."""


class Family(NamedTuple):
    """Curves that differ in their shape; each is `base` stretched and moved.

    Attributes:
        base: (share of the largest number of pictures, shape) -> ascending with the former.
        shapes: that are considered.
        end: shape -> the base at the largest number of pictures that is thought of.
    """

    base: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
    shapes: NDArray[np.float64]
    end: Callable[[NDArray[np.float64]], NDArray[np.float64]]


FAMILIES: Mapping[str, Family] = {
    "power": Family(lambda x, c: -(x**-c), np.geomspace(0.05, 2, 24), np.zeros_like),
    "logarithm": Family(lambda x, c: np.log1p(x / c), np.geomspace(0.01, 10, 24), lambda c: np.log1p(REACH / c)),
    "exponential": Family(lambda x, c: -np.exp(-x * c), np.geomspace(0.5, 10, 24), np.zeros_like),
    "arctan": Family(lambda x, c: np.arctan(x * c), np.geomspace(0.3, 30, 24), lambda c: np.full_like(c, np.pi / 2)),
}
"""Power law with its exponent, logarithm of n + c, arctan of c n, and an exponential approach, by which more pictures
may soon help no more; n in shares of the largest number."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Curves that may be the true one; [S] each.

    Attributes:
        smallest, largest: numbers of pictures that were measured.
        family: place in `FAMILIES`.
        shape: of the curve.
        low, high: its value at the smallest and largest number, 0..1.
        spread: standard deviation over trainings at the largest number.
        luck: of one training, standard normal.
    """

    smallest: int
    largest: int
    family: NDArray[np.int64]
    shape: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    spread: NDArray[np.float64]
    luck: NDArray[np.float64]

    def mean(self, pictures: float) -> Draws:
        """[S] what trainings on so many pictures reach on average."""
        return self.low + (self.high - self.low) * self._way(pictures / self.largest)

    def one(self, pictures: float) -> Draws:
        """[S] what a single training on so many reaches."""
        spread = self.spread * (pictures / self.largest) ** -SPREAD_GROWTH
        reached: Draws = np.clip(self.mean(pictures) + spread * self.luck, 0, 1)
        return reached

    def gain(self, pictures: float) -> Draws:
        """[S] by how much the mean rises from the largest number that was measured to so many."""
        return self.mean(pictures) - self.high

    def shares(self) -> dict[str, float]:
        """How much each family counts, by name."""
        return {name: float(np.mean(self.family == place)) for place, name in enumerate(FAMILIES)}

    def _way(self, share: float) -> NDArray[np.float64]:
        """[S] the share of the way from low to high, above 1 beyond the largest number."""
        way = np.empty(len(self.family))
        for place, family in enumerate(FAMILIES.values()):
            own = self.family == place
            way[own] = _way(family, np.array([share]), self.shape[own], self.smallest / self.largest)[:, 0]
        return way


class Prediction(NamedTuple):
    """A figure with a number of training pictures, fractions.

    Attributes:
        pictures: to train on.
        value: the median.
        interval: 95 %, of one training, measured on other validation pictures of the same kind.
        interval_here: likewise, on the same validation pictures.
        gain: over what is reached now, the median.
        gain_interval: 95 %, over trainings and validation pictures.
    """

    pictures: int
    value: float
    interval: Interval
    interval_here: Interval
    gain: float
    gain_interval: Interval


def predict(everywhere: Growth, here: Growth, pictures: int) -> Prediction:
    """What so many pictures would give.

    Args:
        everywhere: fitted with draws of the validation pictures.
        here: fitted without.
        pictures: to train on.
    """
    gain = everywhere.gain(pictures)
    return Prediction(
        pictures,
        float(np.median(here.mean(pictures))),
        _interval(everywhere.one(pictures)),
        _interval(here.one(pictures)),
        float(np.median(gain)),
        _interval(gain),
    )


def _interval(draws: Draws) -> Interval:
    low, high = np.quantile(draws, (TAIL, 1 - TAIL))
    return Interval(float(low), float(high))


def fit(pictures: Sequence[int], reached: Sequence[Drawn], *, seed: int = 0) -> Growth:
    """The curves that may lie behind some trainings.

    Args:
        pictures: trained on, of each training; two different numbers at least.
        reached: by each of them, 0..1, with the same figure in the same draws of the validation pictures; without draws
            the curve is one for these very pictures. What the draws are on average counts for nothing, which differs a
            little from the figure.
        seed: of the curves that are drawn. All fits of the same number of draws go through these in the same order, so
            that those of different seeds can be compared curve by curve; the same seed gives them the same luck, too.
    """
    counts = np.asarray(pictures, np.float64)
    smallest, largest = int(counts.min()), int(counts.max())
    assert smallest < largest, "a curve needs two numbers of pictures"
    observed = np.array([one.value for one in reached])[None] + _shifts([one.draws for one in reached])
    cells = _cells(counts / largest, observed, smallest / largest)
    chance = np.random.default_rng(seed)
    replicate = np.repeat(np.arange(len(observed)), -(-SAMPLES // len(observed)))
    cell, ends = _drawn(cells, replicate, chance)
    luck = chance.standard_normal(len(cell))
    shape, spread = cells.shape[cell], cells.spread[cell]
    return Growth(smallest, largest, cells.family[cell], shape, ends[:, 0], ends[:, 1], spread, luck)


def fit_here(pictures: Sequence[int], reached: Sequence[Drawn], *, seed: int = 0) -> Growth:
    """As `fit`, on these very validation pictures."""
    return fit(pictures, [one._replace(draws=np.zeros(0)) for one in reached], seed=seed)


def _shifts(draws: Sequence[Draws]) -> NDArray[np.float64]:
    """[R, K] by how much each draw of the validation pictures moves each training's figure; [1, K] without draws."""
    drawn = np.stack(draws, 1)[:REPLICATES]
    if not len(drawn):
        return np.zeros((1, len(draws)))
    decided = ~np.isnan(drawn)
    middle = np.where(decided, drawn, 0).sum(0) / np.maximum(decided.sum(0), 1)
    return np.where(decided, drawn - middle, 0.0)


class _Cells(NamedTuple):
    """All shapes with all spreads; [M] each.

    Attributes:
        family, shape, spread: of the cell.
        limit: [M] the way at the end, which has to stay within 1.
        mean: [M, R, 2] the best values at both ends in each draw.
        root: [M, 2, 2] what turns standard normal numbers into their errors.
        chance: [M, R] the cell's, in each draw; the sum over cells is 1.
    """

    family: NDArray[np.int64]
    shape: NDArray[np.float64]
    spread: NDArray[np.float64]
    limit: NDArray[np.float64]
    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    chance: NDArray[np.float64]


def _cells(shares: NDArray[np.float64], observed: NDArray[np.float64], first: float) -> _Cells:
    """What the points say about each shape and spread; bounds are not looked at yet.

    Args:
        shares: [K] of the largest number of pictures.
        observed: [R, K] figures.
        first: the smallest share.
    """
    ways = [_way(family, shares, family.shapes, first) for family in FAMILIES.values()]
    limits = [_limit(family, first) for family in FAMILIES.values()]
    family = np.repeat(np.arange(len(ways)), [len(one) for one in ways])
    shape = np.concatenate([one.shapes for one in FAMILIES.values()])
    way, limit = np.concatenate(ways), np.concatenate(limits)
    count = len(SPREADS)
    family, shape, limit, way = (np.repeat(one, count, 0) for one in (family, shape, limit, way))
    spread = np.tile(SPREADS, len(shape) // count)
    design = np.stack([1 - way, way], -1)  # [M, K, 2]
    weight = (spread[:, None] * shares**-SPREAD_GROWTH) ** -2.0
    precision = np.einsum("mki,mk,mkj->mij", design, weight, design)
    right = np.einsum("mki,mk,rk->mri", design, weight, observed)
    covariance = np.linalg.inv(precision)
    mean = np.einsum("mij,mrj->mri", covariance, right)
    misfit = np.einsum("mk,rk->mr", weight, observed**2) - np.einsum("mri,mri->mr", right, mean)
    usual = -(((np.log(spread) - np.log(USUAL_SPREAD)) / SPREAD_DOUBT) ** 2) / 2
    constant = usual + np.log(weight).sum(1) / 2 - np.linalg.slogdet(precision)[1] / 2
    score = constant[:, None] - misfit / 2
    chance = np.exp(score - score.max(0))
    return _Cells(family, shape, spread, limit, mean, np.linalg.cholesky(covariance), chance / chance.sum(0))


def _drawn(
    cells: _Cells, replicate: NDArray[np.int64], chance: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """([S], [S, 2]) cells, and values at both ends that keep within bounds, for each of the replicates."""
    cell = np.zeros(len(replicate), np.int64)
    ends = np.zeros((len(replicate), 2))
    count = len(cells.family)
    steps = (np.minimum(np.cumsum(cells.chance, 0), 1) + np.arange(cells.chance.shape[1])).T.ravel()  # ascending
    open_ = np.arange(len(replicate))
    for _ in range(ROUNDS):
        own = replicate[open_]
        place = np.searchsorted(steps, own + chance.random(len(open_)), side="right")
        cell[open_] = picked = np.minimum(place - own * count, count - 1)
        noise = np.einsum("sij,sj->si", cells.root[picked], chance.standard_normal((len(open_), 2)))
        ends[open_] = cells.mean[picked, own] + noise
        low, high = ends[open_].T
        fits = (low >= 0) & (high >= low) & (low + (high - low) * cells.limit[picked] <= 1)
        open_ = open_[~fits]
        if not len(open_):
            break
    ends[open_] = np.clip(ends[open_].mean(1, keepdims=True), 0, 1)  # figures that fall by far: nothing is gained
    return cell, ends


def _way(family: Family, shares: NDArray[np.float64], shapes: NDArray[np.float64], first: float) -> NDArray[np.float64]:
    """[M, K] the share of the way from the value at `first` to that at 1, for each shape."""
    column = shapes[:, None]
    start, end = family.base(np.array([first]), column), family.base(np.ones(1), column)
    return (family.base(shares, column) - start) / (end - start)


def _limit(family: Family, first: float) -> NDArray[np.float64]:
    """[M] likewise, at the end of what is thought of."""
    column = family.shapes[:, None]
    start, end = family.base(np.array([first]), column), family.base(np.ones(1), column)
    return ((family.end(column) - start) / (end - start))[:, 0]
