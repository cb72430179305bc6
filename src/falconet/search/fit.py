"""`falconet.fit`: the most accurate detector within milliseconds on this machine, found on the user's data."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.api.bench import tell_busy
from falconet.api.export import Progress
from falconet.api.train import few_words
from falconet.core.config import validate
from falconet.core.cpus import busy_cpus
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.figures import duration, percent
from falconet.core.lock import locked
from falconet.core.run_files import BEST, RUN_FILE
from falconet.core.terminal import argument
from falconet.core.terminate import Terminated
from falconet.eval.bootstrap import Interval
from falconet.search.candidates import Candidate, within
from falconet.search.finish import TABLE, Finished, finish, fitting_size, measured_ap, read_finished, write_run
from falconet.search.halving import Round
from falconet.search.journal import Journal
from falconet.search.pictures import input_form, some_pictures
from falconet.search.plan import Plan, write_plan
from falconet.search.request import Request, reward
from falconet.search.shared import shared_run, slice_folder
from falconet.search.space import at_size, input_sizes, shapes
from falconet.search.timing import Stopwatch, Timing, Way
from falconet.search.trial import Trial

if TYPE_CHECKING:
    from falconet.training import RunConfig
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

JOURNAL, TRIALS = "journal.jsonl", "trials"

HEADROOM = 0.93
"""Of the budget, for networks with fresh weights: trained ones find more boxes, and a quick measurement errs."""


class Search:
    """A search, from the pictures to the file.

    Args:
        request: what is asked for.
        journal: what was found out before, and where all that is found out is written.
        progress: a title -> what wraps a loop, to show how far it is.
        callback: follows each training.
    """

    def __init__(
        self, request: Request, journal: Journal, *, progress: Progress, callback: "Callback | None" = None
    ) -> None:
        from falconet.training.run_data import load_data

        self.request, self.journal = request, journal
        self._progress, self._callback = progress, callback
        self._shapes = shapes(request.space, seed=request.seed)
        data = load_data(self._run(self._shapes[0].preset).data)
        for note in data.notes:
            _log.info("%s", note)
        self.classes = data.names
        if not data.val:
            raise DataError(f"{request.data}: has no pictures to validate on, by which candidates are compared")
        self._val = data.val
        self._pictures = some_pictures(data.val)
        self.form = input_form(request.space, data.train)
        self.sizes = input_sizes(request.space.sides, self.form)
        self.way = self._choose_way()

    def candidates(self) -> list[Candidate]:
        """The networks of the space that are fast enough, each at its largest input.

        Raises:
            ConfigError: there is none.
        """
        budget = HEADROOM * self.request.budget_ms
        clock = self._clock(self.way)
        with self._progress("timing networks") as bar:
            found = within(self._shapes, self.sizes, budget, clock, progress=bar)
        if not found:
            height, width = self.sizes[0]
            last = {shape.family: shape for shape in self._shapes}.values()
            least = min(clock(shape.at(self.sizes[0])).p95 for shape in last)
            raise ConfigError(
                f"--budget {self.request.budget_ms:g}ms: no network of the space is that fast here; at {width} x "
                f"{height} pixels the fastest of one of each family takes {least:.2f} ms (p95, {self.way}). "
                "Expected a larger budget, more "
                "--threads, or a --space with smaller networks or inputs"
            )
        return found

    def run(self, folder: Path) -> Finished:
        """Search and train, all of it within `folder`."""
        if self.journal.first("plan") is None:
            write_plan(self.request, self.candidates(), self.journal, networks=len(self._shapes))
        self.plan = Plan(self.journal, self._shapes)
        trials = self.plan.trials(folder)
        dropped: list[Trial] = []
        for number, one in enumerate(self.plan.rounds):
            better = self._better(trials, one.count)
            dropped += [member for trial in trials if trial not in better for member in trial.members]
            if one.count == 1 and number:
                dropped += better[0].siblings  # the best of them goes on alone
                better = [self._settled(replace(better[0], siblings=()))]
            trials = [self._train(trial, number, one, folder) for trial in better]
            if one.count > 1 and not any(trial.ap[-1] > 0 for trial in trials):
                _log.warning(
                    "round %d: none of them finds anything yet, so the first ones go on; --minutes should be more",
                    number + 1,
                )
            if all(trial.failed for trial in trials):
                raise ModelError(trials[0].failed)
        self._write_run(trials[0], folder)
        return finish(self.request, self.way, [*trials, *dropped], folder, self.sizes, self._val, self.journal)

    def _better(self, trials: Sequence[Trial], count: int) -> list[Trial]:
        """So many of the trials, the best first; all of those that were not trained yet."""
        if not trials[0].ap:
            return list(trials[:count])

        return sorted(trials, key=self._worth, reverse=True)[:count]

    def _worth(self, trial: Trial) -> tuple[bool, float]:
        return not trial.failed, reward(self.request, trial.ap[-1], trial.candidate.timing.p95)

    def _settled(self, trial: Trial) -> Trial:
        """A trial whose input fits the weights it has now: they find other boxes than fresh ones, a quick look errs."""
        known = self.journal.first("settled")
        if known is None:
            budget, size = self.request.budget_ms, trial.candidate.size
            found, latency = fitting_size(trial, self.way, self.sizes, budget, self._val, larger=True)
            if found != size:
                longer = "longer" if found < size else "less"
                _log.info("with trained weights it takes %s: the input becomes %d x %d", longer, found[1], found[0])
            size = found
            self.journal.write("settled", size=size, timing=(latency.p50, latency.p95))
            known = self.journal.all("settled")[0]
        timing = Timing(*known["timing"])
        return replace(trial, candidate=replace(trial.candidate, size=tuple(known["size"]), timing=timing))

    def _train(self, trial: Trial, number: int, one: Round, folder: Path) -> Trial:
        """Train a candidate for the minutes of a round, or go on where that stopped; one that cannot learn is told."""
        out = folder / TRIALS / f"{self.plan.place(trial)[0]:02d}-{number + 1}"
        done = [event for event in self.journal.all("trained") if event["folder"] == out.name]
        if not done:
            self._tell(trial, number, one)
            failed, found = "", [(0.0, None)] * len(trial.members)
            try:
                self._fit(trial, one, out)
                found = self._measured(trial, out)
            except ModelError as error:  # such as a loss that is not finite
                if one.count == 1:
                    raise
                failed = str(error)
                _log.warning("round %d: %s is left out: %s", number + 1, trial.candidate.shape.name, failed)
            members = [
                {"name": member.candidate.shape.name, "AP": ap, "interval": interval}
                for member, (ap, interval) in zip(trial.members, found, strict=True)
            ]
            for member in members if not failed else ():
                _log.info("round %d: %s: AP %s", number + 1, member["name"], percent(member["AP"]))
            self.journal.write("trained", folder=out.name, failed=failed, **_one_or_all(members))
            done = self.journal.all("trained")[-1:]
        (event,) = done
        return self._after(trial, event, one, out)

    def _after(self, trial: Trial, event: dict[str, Any], one: Round, out: Path) -> Trial:
        """A trial as its training has left it; of widths that learnt together the best, with the others beside it."""
        known = {member["name"]: member for member in event.get("slices", ())}
        after = []
        for member in trial.members:
            told = known.get(member.candidate.shape.name, event)
            interval = None if told["interval"] is None else Interval(*told["interval"])
            after.append(
                replace(
                    member,
                    folder=slice_folder(out, self.plan.place(member)[1]) if trial.siblings else out,
                    minutes=member.minutes + one.minutes,
                    shared=member.shared + (one.minutes if trial.siblings else 0.0),
                    ap=(*member.ap, told["AP"]),
                    interval=interval,
                    failed=event["failed"],
                    siblings=(),
                )
            )
        best, *others = sorted(after, key=self._worth, reverse=True)
        return replace(best, siblings=tuple(others))

    def _measured(self, trial: Trial, out: Path) -> list[tuple[float, Interval | None]]:
        """AP of each network that learnt in a training, at its own input."""
        if not trial.siblings:
            return [measured_ap(out / BEST, out, None)]
        from falconet.training.slice_files import write_slices

        folders = [slice_folder(out, self.plan.place(member)[1]) for member in trial.members]
        models = [member.candidate.model for member in trial.members]
        write_slices(out, list(zip(models, folders, strict=True)))
        return [measured_ap(own / BEST, own, None) for own in folders]

    def _tell(self, trial: Trial, number: int, one: Round) -> None:
        (height, width), start = trial.candidate.size, trial.start.name if number == 0 else "its weights"
        name, ms = trial.candidate.shape.name, trial.candidate.timing.p95
        if trial.siblings:
            widths = ", ".join(member.candidate.shape.name for member in trial.members)
            _log.info("round %d: %s together, from %s, %s", number + 1, widths, start, duration(60 * one.minutes))
            return
        text = "round %d: %s at %d x %d, %.1f ms, from %s, %s"
        _log.info(text, number + 1, name, width, height, ms, start, duration(60 * one.minutes))

    def _fit(self, trial: Trial, one: Round, out: Path) -> None:
        from falconet import training

        with few_words():
            if (out / RUN_FILE).is_file():
                training.resume(out, callback=self._callback)
            else:
                started = time.monotonic()
                training.fit(self._trial_run(trial, one, out), callback=self._callback, started=started)

    def _write_run(self, trial: Trial, folder: Path) -> None:
        """The run file that trains the best network anew, in one go."""
        run = self._first_run(trial)
        train = run.train.model_copy(update={"minutes": trial.minutes})
        output = folder.with_name(f"{folder.name}-again")
        write_run(run.model_copy(update={"train": train, "output": output}), folder)

    def _trial_run(self, trial: Trial, one: Round, out: Path) -> "RunConfig":
        run = self._shared_run(trial) if trial.siblings else self._own_run(trial)
        train = run.train.model_copy(update={"minutes": one.minutes})
        return run.model_copy(update={"train": train, "output": out})

    def _shared_run(self, trial: Trial) -> "RunConfig":
        """A training of all widths of a network, from the start, or from the weights that they share already."""
        from falconet.training.run_folder import RunFolder

        if trial.ap:
            before = RunFolder(trial.folder.parent)
            run = before.read_run()
            return run.model_copy(update={"train": run.train.model_copy(update={"weights": before.last})})
        members = [member.candidate for member in trial.members]
        return shared_run(self._first_run(trial), members, trial.start.path)

    def _own_run(self, trial: Trial) -> "RunConfig":
        """A training of one network, from the start, or from the weights that it has now."""
        from falconet.training.run_folder import RunFolder

        if not trial.ap:
            return self._first_run(trial)
        run = RunFolder(trial.folder).read_run()
        sizes = self._run(trial.candidate.shape.preset).train.multi_scale  # those of its siblings are none of its own
        train = run.train.model_copy(update={"weights": trial.folder / BEST, "multi_scale": sizes})
        return run.model_copy(update={"model": at_size(run.model, trial.candidate.size), "train": train})

    def _first_run(self, trial: Trial) -> "RunConfig":
        run = self._run(trial.candidate.shape.preset)
        train = run.train.model_copy(update={"weights": trial.start.path})
        return run.model_copy(update={"model": trial.candidate.model, "train": train})

    def _run(self, preset: str) -> "RunConfig":
        """The run of a preset on the data."""
        from falconet.training import read_run

        own = [f"data={self.request.data}", f"seed={self.request.seed}", "train.weights=none", "train.loggers=[]"]
        return read_run(preset, [*own, *self.request.overrides])

    def _choose_way(self) -> Way:
        """How networks are run: as asked for, or as a network of the space is fastest here."""
        from falconet.exporting.engines import ENGINES
        from falconet.runtime.engines import choose_engine

        known = self.journal.first("way")
        if known is not None:
            return Way(known["engine"], known["precision"], known["threads"])
        request = self.request
        if request.engine == "auto":
            names = [name for name, row in ENGINES.items() if ".onnx" in row.suffixes and find_spec(row.module)]
        else:
            names = [choose_engine(Path("model.onnx"), request.engine)]
        ways = [Way(name, one, request.threads) for name in names for one in ENGINES[name].computes()]
        way = ways[0]
        if len(ways) > 1:
            model = self._shapes[0].at(self.sizes[len(self.sizes) // 2])
            took = {way: self._clock(way, remember=False)(model).p50 for way in ways}
            way = min(ways, key=took.__getitem__)
            _log.info("%s", ", ".join(f"{one.engine} in {one.precision} {ms:.1f} ms" for one, ms in took.items()))
        self.journal.write("way", engine=way.engine, precision=way.precision, threads=way.threads)
        _log.info("milliseconds are those of %s", way)
        return way

    def _clock(self, way: Way, *, remember: bool = True) -> Stopwatch:
        known = {e["model"]: Timing(*e["timing"]) for e in self.journal.all("timed")} if remember else {}

        def measured(model: str, timing: Timing) -> None:
            if remember:
                self.journal.write("timed", model=model, timing=timing)

        return Stopwatch(way, self.classes, self._pictures, known, measured)


def _one_or_all(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the journal says of networks that learnt in one training: of the only one, or of each."""
    best = max(members, key=lambda member: member["AP"])
    told = {"AP": best["AP"], "interval": best["interval"]}
    return told if len(members) == 1 else told | {"slices": list(members)}


def fit(
    request: Request,
    folder: Path,
    *,
    progress: Progress = lambda _: nullcontext(iter),
    callback: "Callback | None" = None,
) -> Finished:
    """Find a detector, as `falconet fit` does.

    Args:
        request: what is asked for.
        folder: of the search, which must not hold another one.
        progress: shows how far a loop is.
        callback: follows each training.

    Raises:
        ConfigError: nothing in the space is fast enough, a folder that holds another search, or wrong changes.
        DataError, ModelError, ProcessError: as `falconet.train` and `falconet.export`.
    """
    request.check()
    folder = folder.absolute()
    if (folder / JOURNAL).exists() and Journal(folder / JOURNAL).first("plan") is not None:
        raise ConfigError(
            f"{folder}: already holds a search; go on with it by --resume {argument(folder)}, or choose another --out"
        )
    tell_busy(busy_cpus())
    search = Search(request, Journal(None), progress=progress, callback=callback)
    with _removed_where_nothing_was_planned(folder), locked(folder):
        (folder / JOURNAL).unlink(missing_ok=True)  # of a search that ended before anything was planned
        journal = Journal(folder / JOURNAL)
        journal.write("request", **request.model_dump(mode="json"))
        journal.write("way", **asdict(search.way))
        search.journal = journal
        return _run(search, folder)


@contextmanager
def _removed_where_nothing_was_planned(folder: Path) -> Iterator[None]:
    """A search in which nothing is fast enough leaves nothing to go on with, so nothing at all."""
    there = folder.exists()
    try:
        yield
    except ConfigError:
        if (folder / JOURNAL).is_file() and Journal(folder / JOURNAL).first("plan") is None:
            (folder / JOURNAL).unlink()
            with suppress(OSError):  # it holds something else
                if not there:
                    folder.rmdir()
        raise


def resume(
    folder: Path, *, progress: Progress = lambda _: nullcontext(iter), callback: "Callback | None" = None
) -> Finished:
    """Go on with the search in a folder: what was measured counts, what was trained is not trained again.

    Raises:
        ConfigError: not the folder of a search.
        Otherwise as `fit`.
    """
    folder = folder.absolute()
    if not (folder / JOURNAL).is_file():
        raise ConfigError(f"{folder}: holds no {JOURNAL}; expected the folder of a search of 'falconet fit'")
    with locked(folder):
        journal = Journal(folder / JOURNAL)
        asked = journal.first("request")
        if asked is None:
            raise ConfigError(f"{folder / JOURNAL}: does not say what was asked for; start the search anew")
        if journal.first("finished") is not None and (folder / TABLE).is_file():
            _log.info("%s: this search is finished; what it found:", folder)
            return read_finished(folder)
        tell_busy(busy_cpus())
        tree = {key: value for key, value in asked.items() if key != "kind"}
        request = validate(Request, tree, name=str(folder / JOURNAL))
        return _run(Search(request, journal, progress=progress, callback=callback), folder)


def _run(search: Search, folder: Path) -> Finished:
    try:
        return search.run(folder)
    except (KeyboardInterrupt, Terminated):
        _log.info("interrupted; go on with it by: falconet fit --resume %s", argument(folder))
        raise
