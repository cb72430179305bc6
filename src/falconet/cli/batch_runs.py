"""How `falconet batch` runs a model: by which engine, how often at once, with how many threads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.core.errors import ConfigError

if TYPE_CHECKING:
    from falconet.api.threads import Chosen, Point
    from falconet.runtime.engines import Use
    from falconet.runtime.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Opening:
    """How the model is opened, here and by the processes of a cluster."""

    engine: str
    use: "Use"
    given: dict[str, Any]

    def __call__(self, path: Path) -> "Predictor[Any]":
        """A predictor with the model of an exported file."""
        from falconet.api.engines import open_engine
        from falconet.cli.predict import open_predictor

        return open_predictor(open_engine(path, engine=self.engine, use=self.use), self.given)

    def running(self, runs: "Chosen", *, alone: bool = False) -> "Opening":
        """The same with so many runs of so many threads; `alone` with one at a time."""
        return replace(self, use=replace(self.use, threads=runs.threads, streams=1 if alone else runs.at_once))


@dataclass(frozen=True, slots=True)
class Curve:
    """What a machine of a cluster is asked to measure."""

    engine: str
    precision: str

    def __call__(self, path: Path, cpus: int) -> "tuple[Point, ...]":
        """Pictures per second by threads."""
        from falconet.api.threads import curve

        return curve(path, self.engine, self.precision, cpus)


def chosen_engine(path: Path, engine: str, precision: str) -> "tuple[str, Use]":
    """The engine and precision that `falconet tune` found, unless others were asked for."""
    from falconet.api.engines import as_tuned
    from falconet.exporting.engines import ENGINES
    from falconet.runtime.engines import Use, choose_engine

    engine, use = as_tuned(path, engine, Use(precision=precision))
    return choose_engine(path, engine, engines=ENGINES), use


def asked(streams: int | None, threads: int | None, engine: str) -> "Chosen":
    """Runs as they were asked for: with one thread each, and as many as the CPUs have room for, where they were not."""
    from falconet.api.threads import Chosen
    from falconet.cli.predict import MOST_STREAMS
    from falconet.core.cpus import usable_cpus
    from falconet.exporting.engines import ENGINES
    from falconet.runtime.engines import default_threads

    able = ENGINES[engine].streams
    room = max(1, min(usable_cpus() // (threads or 1), MOST_STREAMS)) if able else 1
    named = [f"--{name} {value}" for name, value in (("streams", streams), ("threads", threads)) if value is not None]
    why = f"as asked for by {' and '.join(named)}" if named else "one thread for each CPU"
    each = threads or (default_threads() if streams == 1 else 1)
    return Chosen(each, streams or room, why)


def here(path: Path, opening: Opening, streams: int | None, threads: int | None) -> "Chosen":
    """How many runs go on at once on this machine, and with how many threads each."""
    from falconet.api.threads import Chosen, choose
    from falconet.cli.predict import MOST_STREAMS
    from falconet.core.cpus import usable_cpus
    from falconet.exporting.engines import ENGINES
    from falconet.runtime.engines import default_threads

    if streams is not None or threads is not None:
        return asked(streams, threads, opening.engine)
    if not ENGINES[opening.engine].streams:
        return Chosen(default_threads(), 1, f"engine {opening.engine} has one run at a time")
    return choose(path, opening.engine, opening.use.precision, usable_cpus(), most=MOST_STREAMS)


def on_machines(path: Path, opening: Opening, threads: int | None, say: Callable[[str], None]) -> "Chosen":
    """How many processes the connected cluster starts, and with how many threads each."""
    from falconet.api.threads import Chosen, processor, together
    from falconet.bulk.cluster import PATIENCE, kinds
    from falconet.core.exported_files import model_files

    files = {file.name: file.read_bytes() for file in model_files(path)}
    measure = Curve(opening.engine, opening.use.precision) if threads is None else None
    found = kinds(files, measure, processor)
    if threads is not None and threads > (most := max((one.cpus for one in found), default=1)):
        raise ConfigError(f"--threads {threads}: no machine of the cluster has so many CPUs; expected at most {most}")
    measured = [(one.machines, one.measured) for one in found if one.measured]
    if measured:
        chosen = together(measured)
        say(f"threads: {chosen.threads} for each process; {chosen.why}")
        return chosen
    single = max((one.cpus for one in found), default=1) < 2
    why = "its machines have one CPU each" if single else f"no machine had all CPUs free within {PATIENCE} seconds"
    why = why if threads is None else f"as asked for by --threads {threads}"
    each = threads or 1
    return Chosen(each, sum(one.machines * (one.cpus // each) for one in found), why)
