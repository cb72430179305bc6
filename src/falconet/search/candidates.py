"""Which networks of a space are fast enough here, and which of these are worth training."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconet.api.find import usual_weights, weights_to_start_from
from falconet.core.errors import FalconetError
from falconet.models import PRESETS, ModelConfig
from falconet.models.related import relation
from falconet.search.halving import in_turn
from falconet.search.space import Shape
from falconet.search.timing import Timing, largest_size
from falconet.zoo.published.table import PUBLISHED

_log = logging.getLogger(__name__)

WHOLE, BACKBONE, NOTHING = "the whole network", "its backbone", "nothing"
"""What is trained already."""

FILLS = ("same", "wider")
"""Networks whose weights fill another one as a whole."""

WHOLE_SHARE = 0.75
"""Of the candidates, for those that start as a whole from trained weights, where there are so many: on small data
these learn in minutes what others need hours for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network within the budget.

    Attributes:
        shape: the network.
        size: (height, width) of its input.
        timing: milliseconds, with fresh weights.
    """

    shape: Shape
    size: tuple[int, int]
    timing: Timing

    @property
    def model(self) -> ModelConfig:
        """Its configuration."""
        return self.shape.at(self.size)


@dataclass(frozen=True, slots=True)
class Start:
    """What a candidate starts from.

    Attributes:
        trained: `WHOLE`, `BACKBONE` or `NOTHING`.
        path: the weights file; None of `NOTHING`.
        name: what it is called.
    """

    trained: str = NOTHING
    path: Path | None = None
    name: str = "scratch"


def within(
    shapes: Sequence[Shape],
    sizes: Sequence[tuple[int, int]],
    budget: float,
    clock: Callable[[ModelConfig], Timing],
    *,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> list[Candidate]:
    """Each network that takes at most `budget` milliseconds (p95), at the largest input at which it does."""
    found: list[Candidate] = []
    first: dict[str, int] = {}  # those of a family take about as long
    for shape in progress(shapes):
        fits = largest_size(shape, sizes, budget, clock, first=first.get(shape.family))
        if fits is not None:
            place, timing = fits
            first[shape.family] = place
            found.append(Candidate(shape, sizes[place], timing))
    return found


class Starts:
    """Trained weights that candidates start from, looked up (and fetched) when they are asked for."""

    def __init__(self) -> None:
        self._known: dict[str, Path | None] = {}

    def wanted(self, shape: Shape) -> Start:
        """What a network would start from, if that can be had; nothing is fetched."""
        name = usual_weights(shape.whole)
        row = None if name is None else PUBLISHED.get(name)
        fills = row is not None and row.task == "detect" and relation(shape.whole, PRESETS[row.model]) in FILLS
        if name is not None and fills:
            return Start(WHOLE, None, name)
        if name is not None and shape.model == shape.whole:
            return Start(BACKBONE, None, name)
        return Start()

    def get(self, shape: Shape) -> Start:
        """What a network does start from."""
        wanted = self.wanted(shape)
        if wanted.trained == NOTHING:
            return wanted
        key = wanted.name if wanted.trained == WHOLE else f"{wanted.name} {shape.whole.backbone.model_dump_json()}"
        if key not in self._known:
            try:
                self._known[key] = weights_to_start_from(wanted.name, shape.whole)
            except FalconetError as error:
                _log.warning("networks such as %s start from scratch: %s", shape.name, error)
                self._known[key] = None
        path = self._known[key]
        return Start() if path is None else Start(wanted.trained, path, wanted.name)


def choose(candidates: Sequence[Candidate], count: int, starts: Starts) -> list[tuple[Candidate, Start]]:
    """The candidates that are trained, with what they start from.

    Those that start from trained weights come first; within a kind, one of each family in turn.
    """
    kinds: dict[str, list[Candidate]] = {WHOLE: [], BACKBONE: [], NOTHING: []}
    for one in candidates:
        kinds[starts.wanted(one.shape).trained].append(one)
    chosen: list[tuple[Candidate, Start]] = []
    wanted = {WHOLE: round(WHOLE_SHARE * count), BACKBONE: round((count + WHOLE_SHARE * count) / 2)}
    for kind in (WHOLE, BACKBONE):
        for one in _in_turn(kinds[kind]):
            if len(chosen) >= wanted[kind]:
                break
            start = starts.get(one.shape)
            if start.trained == NOTHING:
                kinds[NOTHING].append(one)
            else:
                chosen.append((one, start))
    rest = [(one, Start()) for one in _in_turn(kinds[NOTHING])]
    chosen += rest[: count - len(chosen)]
    if len(chosen) < count:  # more of those that know something
        known = {one.shape.name for one, _ in chosen}
        more = [one for kind in (WHOLE, BACKBONE) for one in _in_turn(kinds[kind]) if one.shape.name not in known]
        found = ((one, starts.get(one.shape)) for one in more)
        chosen += [(one, start) for one, start in found if start.trained != NOTHING][: count - len(chosen)]
    return chosen


def _in_turn(candidates: Sequence[Candidate]) -> list[Candidate]:
    families: dict[str, list[Candidate]] = {}
    for one in candidates:
        families.setdefault(one.shape.family, []).append(one)
    return in_turn(list(families.values()))
