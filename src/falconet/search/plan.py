"""What a search is going to train, as it stands in its journal."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from falconet.core.figures import duration, plural
from falconet.search.candidates import Candidate, Start, Starts, choose
from falconet.search.halving import LAST_SHARE, Round, plan_rounds
from falconet.search.journal import Journal
from falconet.search.request import Request
from falconet.search.shared import together
from falconet.search.space import Shape
from falconet.search.timing import Timing
from falconet.search.trial import Trial

_log = logging.getLogger(__name__)


def write_plan(request: Request, found: Sequence[Candidate], journal: Journal, *, networks: int) -> None:
    """Choose what is trained, and for how long, and write it down.

    Args:
        found: candidates within the budget.
        networks: of the space.
    """
    groups = [(one,) for one in found] if request.strategy == "halving" else together(found)
    others = {group[0].shape.name: group[1:] for group in groups}
    first = [group[0] for group in groups]
    chosen = choose(first, plan_rounds(request.minutes, len(first))[0].count, Starts())
    rounds = plan_rounds(request.minutes, len(chosen))
    if len(chosen) == 1 and others[chosen[0][0].shape.name]:  # together first, then the best of them alone
        alone = LAST_SHARE * request.minutes
        rounds = [Round(1, request.minutes - alone), Round(1, alone)]
    trained = []
    for one, start in chosen:
        entry: dict[str, Any] = _plain(one)
        entry["start"] = [start.trained, None if start.path is None else str(start.path), start.name]
        if others[one.shape.name]:
            entry["slices"] = [_plain(other) for other in others[one.shape.name]]
        trained.append(entry)
    journal.write("plan", within=len(found), trained=trained, rounds=rounds)
    _log.info(
        "%d of %s within the budget; training: %s",
        len(found),
        plural(networks, "network"),
        "; then ".join(f"{plural(one.count, 'network')} for {duration(60 * one.minutes)}" for one in rounds),
    )
    for entry in trained:
        if "slices" in entry:
            _log.info("%s: %d widths learn in one training", entry["name"], 1 + len(entry["slices"]))


def _plain(one: Candidate) -> dict[str, Any]:
    return {"name": one.shape.name, "size": one.size, "timing": one.timing}


class Plan:
    """What a journal says that is trained.

    Args:
        journal: in which a plan is written.
        shapes: of the space.

    Attributes:
        rounds: one after the other.
    """

    def __init__(self, journal: Journal, shapes: Sequence[Shape]) -> None:
        event = journal.first("plan")
        assert event is not None, "it was written before"
        self.rounds = [Round(*one) for one in event["rounds"]]
        self._entries: list[dict[str, Any]] = event["trained"]
        self._shapes = {shape.name: shape for shape in shapes}

    def trials(self, folder: Path) -> list[Trial]:
        """What is trained, before its first training; widths that learn together are one trial, the widest first."""
        return [self._trial(entry, folder) for entry in self._entries]

    def _trial(self, entry: dict[str, Any], folder: Path) -> Trial:
        trained, path, name = entry["start"]
        start = Start(trained, None if path is None else Path(path), name)
        one, *others = (
            Trial(
                Candidate(self._shapes[plain["name"]], tuple(plain["size"]), Timing(*plain["timing"])),
                start,
                folder,
                0.0,
                (),
            )
            for plain in (entry, *entry.get("slices", ()))
        )
        return one if not others else Trial(one.candidate, start, folder, 0.0, (), siblings=tuple(others))

    def place(self, trial: Trial) -> tuple[int, int]:
        """Number of a trial among all, from 1, and its place among the widths that learn together, from 0."""
        for number, entry in enumerate(self._entries, start=1):
            names = [plain["name"] for plain in (entry, *entry.get("slices", ()))]
            if trial.candidate.shape.name in names:
                return number, names.index(trial.candidate.shape.name)
        raise AssertionError(f"{trial.candidate.shape.name} is no part of the plan")
