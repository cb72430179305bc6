"""What is left of a search: an exported file within the budget, a table, a picture, and the run that trains it anew."""

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.api.bench import bench, picture_seconds
from falconet.api.engines import open_engine
from falconet.api.evaluation import evaluate
from falconet.api.find import FoundModel
from falconet.api.ground_truth import open_ground_truth
from falconet.core.config import write_yaml
from falconet.core.errors import ModelError
from falconet.core.figures import percent
from falconet.core.files import replace_file
from falconet.core.run_files import BEST, RUN_FILE
from falconet.core.types import Record
from falconet.eval.bootstrap import Interval
from falconet.eval.latency import Latency, machine
from falconet.profile.scatter import Point, scatter
from falconet.runtime.engines import Use
from falconet.search.request import Request
from falconet.search.timing import SURE, Way
from falconet.search.trial import Trial

if TYPE_CHECKING:
    from falconet.search.journal import Journal

_log = logging.getLogger(__name__)

NAME = "model"
TABLE, PICTURE = "fit.json", "fit.svg"

PROCESSES, CALLS = 3, 100
"""In which the finished file is measured; calls in each."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network that was trained.

    Attributes:
        name: of the family, and what was chosen.
        height, width: of its input.
        ms, p95: milliseconds from pixels to boxes, half and 95 % of the pictures; of the finished file with its own
            weights, of others with fresh ones.
        start: what it started from.
        minutes: that it was trained.
        ap: on the validation pictures, a fraction.
        interval: its 95 % interval; None where it was not measured.
        folder: of its last training.
        shared: minutes of those in which other widths of the network learnt with it, on the same weights.
    """

    name: str
    height: int
    width: int
    ms: float
    p95: float
    start: str
    minutes: float
    ap: float
    interval: Interval | None
    folder: str
    shared: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a search has found.

    Attributes:
        path: the exported file.
        run: folder of its training.
        folder: of the search.
        best: the network that was found, measured in the file.
        rows: all that were trained, the best first.
        way: what the milliseconds were measured with.
        budget_ms: that was asked for.
        within: whether the file keeps it.
    """

    path: Path
    run: Path
    folder: Path
    best: Row
    rows: tuple[Row, ...]
    way: Way
    budget_ms: float
    within: bool

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "path": str(self.path),
            "run": str(self.run),
            "budget_ms": self.budget_ms,
            "within_budget": self.within,
            **asdict(self.way),
            "machine": machine(),
            "best": asdict(self.best),
            "trained": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        notes = []
        if len(self.rows) > 1:
            notes += [
                "p95 of the first network is that of the file, in processes of its own; of the others of a quick look"
            ]
        if any(row.shared for row in self.rows):
            notes.append("+: minutes in which all widths of a network learnt together")
        return "\n".join([table(self.rows), *notes, "", self.sentence()])

    def sentence(self) -> str:
        """What came out, in words."""
        best = self.best
        kept = "within" if self.within else "ABOVE"
        between = "" if best.interval is None else f" ({percent(best.interval.low)} to {percent(best.interval.high)})"
        return (
            f"{best.name} at {best.width} x {best.height}: AP {percent(best.ap)}{between}, {best.p95:.1f} ms (p95; "
            f"half of the pictures take {best.ms:.1f}), {kept} {self.budget_ms:g} ms in {self.way}"
        )


def table(rows: Sequence[Row]) -> str:
    """The networks that were trained, one per line."""
    lines = [("network", "input", "p95, ms", "AP, %", "95 %", "min", "from")]
    for row in rows:
        between = "" if row.interval is None else f"{percent(row.interval.low)}-{percent(row.interval.high)}"
        size = f"{row.width}x{row.height}"
        lines.append((row.name, size, f"{row.p95:.1f}", percent(row.ap), between, _minutes(row), row.start))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(_line(line, widths) for line in lines)


def _minutes(row: Row) -> str:
    """Those that it shared with others, and those that it had for itself."""
    if not row.shared:
        return f"{row.minutes:.1f}"
    alone = row.minutes - row.shared
    return f"{row.shared:.1f}+" + (f" {alone:.1f}" if alone > 0.01 else "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns: names to the left, figures to the right."""
    first, last = 0, len(cells) - 1
    padded = [
        f"{cell:<{wide}}" if place in (first, last) else f"{cell:>{wide}}"
        for place, (cell, wide) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def finish(
    request: Request,
    way: Way,
    trials: Sequence[Trial],
    folder: Path,
    sizes: Sequence[tuple[int, int]],
    val: Sequence[Record],
    journal: "Journal",
) -> Finished:
    """Export the first of the trials at the largest input that keeps the budget, and write down what was found.

    Args:
        trials: the best first.
        folder: of the search.
        sizes: (height, width) of inputs, ascending.
        val: pictures that milliseconds are measured with.
    """
    from falconet.api.export import export

    best = trials[0]
    size, latency = fitting_size(best, way, sizes, request.budget_ms, val)
    if size != best.candidate.size:
        _log.info("with its own weights it takes longer: the input becomes %d x %d", size[1], size[0])
    done = export(best.folder, folder, name=NAME, size=size, engines=[way.engine])
    ap, interval = measured_ap(done.path, best.folder, way)
    row = _row(best, folder)
    found = replace(row, height=size[0], width=size[1], ms=latency.p50, p95=latency.p95, ap=ap, interval=interval)
    within = latency.p95 <= request.budget_ms
    if not within:
        _log.warning("no input of the space keeps the budget with these weights; the smallest one is exported")
    _remember(done.path, way, {"AP": ap})
    rows = tuple(sorted((_row(trial, folder) for trial in trials[1:]), key=lambda one: -one.ap))
    finished = Finished(done.path, best.folder, folder, found, (found, *rows), way, request.budget_ms, within)
    journal.write("finished", AP=ap, p95=latency.p95, size=size)
    _write(finished)
    return finished


def read_finished(folder: Path) -> Finished:
    """What a search found, as it wrote it down.

    Raises:
        ModelError: its table cannot be read.
    """
    file = folder / TABLE
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        best, *rows = (Row(**one | {"interval": _interval(one["interval"])}) for one in tree["trained"])
        way = Way(tree["engine"], tree["precision"], tree["threads"])
        path, run = folder / Path(tree["path"]).name, folder / best.folder
        return Finished(path, run, folder, best, (best, *rows), way, tree["budget_ms"], tree["within_budget"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be read as the table of a search: {error!r}") from error


def _interval(ends: Sequence[float] | None) -> Interval | None:
    return None if ends is None else Interval(*ends)


def _write(finished: Finished) -> None:
    folder = finished.folder
    replace_file(folder / TABLE, json.dumps(finished.as_dict(), indent=2) + "\n")
    points = [
        Point(row.name, row.p95, 100 * row.ap, None if row.interval is None else [100 * one for one in row.interval])
        for row in finished.rows
    ]
    title = f"AP over milliseconds (p95), {finished.way}"
    picture = scatter(
        points, title=title, x_label="milliseconds of a picture", y_label="AP, %", limit=finished.budget_ms
    )
    replace_file(folder / PICTURE, picture)


def fitting_size(
    trial: Trial,
    way: Way,
    sizes: Sequence[tuple[int, int]],
    budget: float,
    val: Sequence[Record],
    *,
    larger: bool = False,
) -> tuple[tuple[int, int], Latency]:
    """The largest input at which a trained network keeps the budget, and its time.

    Args:
        larger: also inputs larger than that of the training are tried.

    Returns:
        The smallest size, where none keeps the budget.
    """
    place = list(sizes).index(trial.candidate.size)
    latency = _exported_latency(trial, way, sizes[place], val)
    while latency.p95 > budget and place > 0:
        place -= 1
        latency = _exported_latency(trial, way, sizes[place], val)
        larger = False
    while larger and place + 1 < len(sizes):
        if latency.p95 * math.prod(sizes[place + 1]) / math.prod(sizes[place]) > SURE * budget:
            break
        slower = _exported_latency(trial, way, sizes[place + 1], val)
        if slower.p95 > budget:
            break
        place, latency = place + 1, slower
    return sizes[place], latency


def _exported_latency(trial: Trial, way: Way, size: tuple[int, int], val: Sequence[Record]) -> Latency:
    """That of a trained network as a file, in processes of its own."""
    from falconet.exporting.onnx import export_onnx

    pictures = [record.path for record in val[:: max(1, len(val) // 40)]]
    with tempfile.TemporaryDirectory(prefix="falconet-fit-") as beside:
        file = export_onnx(trial.folder / BEST, Path(beside, "draft.onnx"), size=size)
        seconds = [
            second
            for _ in range(PROCESSES)
            for second in picture_seconds(
                file,
                engine=way.engine,
                precision=way.precision,
                threads=way.threads,
                pictures=pictures,
                calls=CALLS,
            )
        ]
    return Latency.of(seconds)


def measured_ap(model: Path, run: Path, way: Way | None) -> tuple[float, Interval | None]:
    """AP of a file on what its run was validated on, and the interval of it.

    Args:
        model: an exported file, or weights.
        run: folder of its training.
        way: how an exported file is run; None for weights, in torch.
    """
    found = FoundModel(model, NAME, run)
    if way is None:
        opened = open_engine(model, engine="torch")
    else:
        opened = open_engine(model, engine=way.engine, use=Use(way.threads, precision=way.precision))
    truth = open_ground_truth(found, None, None, None, task="detect")
    results: Any = evaluate(found, opened, truth, intervals=True).results
    interval = None if results.resampled is None else results.resampled.values["AP"].interval
    return float(results.metrics["AP"]), interval


def write_run(run: Any, folder: Path) -> Path:
    """Write the run file that trains the network anew."""
    replace_file(folder / RUN_FILE, write_yaml(run, comments=True))
    return folder / RUN_FILE


def _row(trial: Trial, folder: Path) -> Row:
    height, width = trial.candidate.size
    timing = trial.candidate.timing
    return Row(
        name=trial.candidate.shape.name,
        height=height,
        width=width,
        ms=timing.p50,
        p95=timing.p95,
        start=trial.start.name,
        minutes=trial.minutes,
        ap=trial.ap[-1],
        interval=trial.interval,
        folder=str(trial.folder.relative_to(folder)),
        shared=trial.shared,
    )


def _remember(file: Path, way: Way, metrics: dict[str, float]) -> None:
    """Whoever opens the file without naming an engine takes the one that it was found for."""
    from falconet.api.tuned import remember

    if (way.engine, way.precision) == ("onnxruntime", "float32"):
        return
    found = bench(
        [file], engines=[way.engine], precisions=[way.precision], threads=[way.threads], pictures=[], rounds=1
    )
    remember(replace(found.rows[0], metrics=metrics))
