"""A run over all blocks on this machine: what is there already stays, what is missing is done."""

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyarrow import ArrowException, parquet

from falconet.bulk.ahead import AT_ONCE, EACH, ReadAhead
from falconet.bulk.blocks import Block
from falconet.bulk.listing import Sources
from falconet.bulk.plan import Plan
from falconet.bulk.storage import is_remote, join, storage
from falconet.bulk.table import Row, encode, row
from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.runtime.pipeline import predict_frames
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import ImageBytes

HEAD = "_falconet.json"
"""Says what a folder of results is about. Readers of data sets pass over names that begin with an underscore."""

SUPERSEDED = "_superseded"
"""Folder for tables whose pictures are not there any more, or are others now."""

LISTING = 15.0
"""Seconds after which it is said how many pictures are listed."""

ABOUT_THE_RUN = ("version", "engine_version", "runs")
"""Of what is said about a folder; may be another for each run into it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        pictures: that are in tables.
        total: that there are.
        kept: of those in tables, how many were there before.
        broken: that could not be read, of those done by this run.
        kept_broken: of those in tables before, where these lie on this machine.
        seconds: since the first picture of this run.
    """

    pictures: int
    total: int
    kept: int
    broken: int
    seconds: float
    kept_broken: int = 0

    @property
    def rate(self) -> float:
        """Pictures per second of this run."""
        return (self.pictures - self.kept) / self.seconds if self.seconds > 0 else 0.0


class Results:
    """The folder of a run's tables.

    Args:
        folder: on this machine, or an address.
        head: what the tables say about the model; sources: what the run is about.
        runs: how many runs of the network go on at once, with how many threads, and why; plain values.

    Raises:
        DataError: the folder holds the results of another model or of other sources.
    """

    def __init__(
        self, folder: str, head: Mapping[str, Any], sources: Sources, runs: Mapping[str, Any] | None = None
    ) -> None:
        self._runs = dict(runs or {})
        self.folder, self._storage, self.head = folder, storage(folder), dict(head)
        self._about = {
            **self.head,
            "sources": [str(one) for one in sources.arguments],
            "images": sources.images,
            "column": sources.column,
            "block": sources.pictures,
        }
        self._check()

    def _check(self) -> None:
        path = join(self.folder, HEAD)
        if self._storage.find(path) is None:
            if self.finished():
                raise DataError(
                    f"{self.folder}: holds tables, but no {HEAD} that says of which model; choose another folder"
                )
            return
        try:
            there = dict(json.loads(self._storage.read(path)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); choose another folder") from error
        for key, now in self._about.items():
            if key not in ABOUT_THE_RUN and there.get(key) != now:
                other = _difference(key, there, self._about)
                raise DataError(f"{self.folder}: holds the results of {other}; choose another folder")

    def begin(self) -> None:
        """Write what the folder is about, and how this run does it."""
        about = json.dumps({**self._about, "runs": self._runs}, indent=2, ensure_ascii=False) + "\n"
        self._storage.write(join(self.folder, HEAD), about.encode())

    def finished(self) -> set[str]:
        """Names of the tables that are there."""
        if not self._storage.is_folder(self.folder):
            return set()
        names = (one.path.rpartition("/") for one in self._storage.walk(self.folder))
        own = self.folder.rstrip("/")
        return {name for parent, _, name in names if parent == own and name.endswith(".parquet")}

    def unreadable(self, names: Iterable[str]) -> dict[str, int]:
        """Of these tables those with pictures that could not be read, and how many."""
        found = {}
        for name in names:
            path = join(self.folder, name)
            try:
                with self._storage.open(path) as stream, parquet.ParquetFile(stream) as file:
                    count = file.metadata.num_rows - file.read(columns=["error"]).column("error").null_count
            except (ArrowException, OSError) as error:
                raise DataError(f"{path}: cannot be read: {error}; remove it, and it is done anew") from error
            if count:
                found[name] = count
        return found

    def write(self, block: Block, rows: list[Row]) -> None:
        """The table of a block; it appears when it is whole."""
        self._storage.write(join(self.folder, block.file), encode(rows, {**self.head, "block": block.name}))

    def supersede(self, names: set[str]) -> None:
        """Put tables aside."""
        for name in sorted(names):
            self._storage.move(join(self.folder, name), join(join(self.folder, SUPERSEDED), name))


class Step(NamedTuple):
    """Pictures whose answers came."""

    pictures: int
    broken: int
    """of them could not be read"""


Work = Callable[[Iterator[Block]], Generator[Step, None, None]]
"""Answers for blocks and writes their tables, telling each step: `in_streams`, or a cluster's processes."""


def run_blocks(
    work: Work,
    sources: Sources,
    results: Results,
    *,
    retry: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Progress:
    """Answer for all pictures whose table is not there, and put those aside whose pictures changed or went.

    Pictures are listed once, before the first is answered. Memory does not grow with their number.

    Of several parts the first one puts aside what nobody wants any more; where tars were passed over, none does, since
    none knows: a run without parts then does.

    Args:
        retry: do tables anew in which a picture could not be read.
        tell: is told after every step.
        say: takes sentences.

    Raises:
        DataError: sources that are not there, results that cannot be written.
        StorageError: a storage that cannot be reached. Tables that are written stay, and the next run goes on.
    """
    there = results.finished()
    again = set(results.unreadable(there)) if retry else set()
    with closing(Plan()) as plan:
        listed = _listed(sources, there - again, plan, say)
        if listed.kept:
            say(f"{results.folder}: has {listed.kept:,} of {listed.total:,} pictures already")
        if sources.others:
            say(f"{plural(sources.others, 'file')} left out: neither pictures nor tars or tables of them")
        results.begin()
        kept = (there - again) & listed.wanted
        kept_broken = 0 if is_remote(results.folder) else sum(results.unreadable(kept).values())
        done, broken, start = listed.kept, 0, time.monotonic()
        with closing(work(plan.blocks())) as steps:
            for step in steps:
                done, broken = done + step.pictures, broken + step.broken
                tell(Progress(done, listed.total, listed.kept, broken, time.monotonic() - start))
    if sources.part.number == 1 and not sources.skipped and (gone := there - listed.wanted):
        results.supersede(gone)
        say(f"{len(gone)} tables of pictures that changed or went away lie in {results.folder}/{SUPERSEDED} now")
    return Progress(done, max(done, listed.total), listed.kept, broken, time.monotonic() - start, kept_broken)


class _Listed(NamedTuple):
    """What a listing comes to: pictures of this part, those of them in tables, and the tables that all parts write."""

    total: int
    kept: int
    wanted: set[str]


def _listed(sources: Sources, there: set[str], plan: Plan, say: Callable[[str], None]) -> _Listed:
    """List all pictures, and put the blocks of this part that are missing into the plan."""
    total = kept = found = 0
    wanted: set[str] = set()
    last = time.monotonic()
    for block in sources.blocks():
        wanted.add(block.file)
        found += block.count
        if sources.part.has(block):
            total += block.count
            if block.file in there:
                kept += block.count
            else:
                plan.put(block)
        if time.monotonic() - last >= LISTING:
            last = time.monotonic()
            say(f"{found:,} pictures listed so far")
    if sources.part.of > 1:
        passed = (
            f", and {plural(sources.skipped, 'tar')} of other parts were not looked into" if sources.skipped else ""
        )
        say(f"part {sources.part} has {total:,} of {found:,} pictures{passed}")
    return _Listed(total, kept, wanted)


def in_streams(predictor: Predictor[Any], results: Results, *, top: int = 5) -> Work:
    """Work of this machine, with as many runs of the network at once as the predictor has.

    Blocks are written in order, each when its last picture is answered; the pictures of the next are read
    meanwhile, those of object storage many at once.
    """

    def work(blocks: Iterator[Block]) -> Generator[Step, None, None]:
        waiting: deque[Block] = deque()

        def pictures() -> Iterator[ImageBytes]:
            for block in blocks:
                waiting.append(block)  # drawn from in another thread; a deque bears that
                yield from block.pictures()

        rows: list[Row] = []
        ahead = ReadAhead(max(AT_ONCE, EACH * predictor.streams))
        with closing(predict_frames(predictor, ahead.over(pictures()))) as answers:
            try:
                for item in answers:
                    rows.append(row(item, top=top))
                    step = Step(1, int("error" in rows[-1]))
                    if len(rows) == waiting[0].count:
                        results.write(waiting.popleft(), rows)
                        rows = []
                    yield step
            finally:
                ahead.stop()  # before the threads that draw are waited for

    return work


def _difference(key: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key == "model":
        old, new = there.get("model") or {}, now["model"]
        return f"another model, {_called(old)}; this one is {_called(new)}"
    return f"another run, with {key} {there.get(key)!r}; this one has {now[key]!r}"


def _called(model: Mapping[str, Any]) -> str:
    return f"{model.get('file')} (sha256 {str(model.get('sha256'))[:12]})"
