"""`falconet bench` and `falconet tune`: what models take on this machine, in which engine, and which one to take."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.cli.options import words
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.figures import duration, percent, plural
from falconet.core.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from falconet.api.bench import Bench, Row


def bench(
    models: Annotated[list[str], typer.Argument(help="Exported files or published names.")],
    engine: Annotated[
        str | None,
        typer.Option(
            help="Some of onnxruntime,openvino,ncnn,litert,executorch [default: all installed that run the file].",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Some of float32,bfloat16 [default: all that engine and processor compute in].", show_default=False
        ),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Threads of each run [default: 1 and as many as CPUs, at most 4].", show_default=False),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="An ONNX file of another program: its network is timed beside. Repeatable.", show_default=False
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="Pictures to measure pictures per second with: files, a folder, a glob [default: 40 drawn ones of "
            "640 x 480].",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Pictures with truth: AP or top-1 beside the times.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    calls: Annotated[int, typer.Option(min=5, help="Timed runs of the network, in each of the rounds.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Times that all are measured, one after the other.")] = 2,
    soak: Annotated[
        float, typer.Option(min=0, help="Minutes that each goes on, to see whether time and memory stay flat.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for bench.json and, with --data, bench.svg.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure exported models on this machine: each engine, precision and number of threads in a process of its own.

    Start is from nothing to the first answer; p50, p95 and p99 are milliseconds of one picture through the network;
    pictures per second are from files to boxes, with as many at once as the CPUs allow. The peak is what this machine
    does in a float32 matrix product with as many threads.
    """
    from falconet.api.bench import bench as measure

    with progress("measuring") as bar:
        found = measure(
            models,
            engines=words(engine or ""),
            precisions=words(precision or ""),
            threads=parse_threads(threads) if threads is not None else (),
            against=against or [],
            pictures=None if pictures is None else _files(pictures),
            data=data,
            split=split,
            calls=calls,
            rounds=rounds,
            soak=60 * soak,
            progress=bar,
        )
    text = json.dumps(found.as_dict(), indent=2) + "\n"
    written = _write(found, text, out)
    if as_json:
        print(text, end="")
        return
    print_rows(found)
    for path in written:
        print(f"written: {path}")


def tune(
    model: Annotated[str, typer.Argument(help="Exported file (.onnx) or published name.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Pictures with truth; without them, only engines in float32 are compared.", show_default=False
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each run [default: as many as CPUs, at most 4].", show_default=False)
    ] = None,
    loss: Annotated[float, typer.Option(min=0, help="Points of AP or top-1 that a lower precision may cost.")] = 0.2,
    calls: Annotated[int, typer.Option(min=5, help="Timed runs of the network, in each of the rounds.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Find the fastest way to run a model on this machine, and remember it.

    From then on `predict`, `eval` and falconet.load take this engine and precision for that file, and say so, until the
    file, the processor or an engine's version changes, or --engine says otherwise. After a new export, tune again.
    """
    from falconet.api.tuned import tune as find

    with progress("measuring") as bar:
        found, chosen, path = find(
            model, data=data, split=split, threads=threads, loss=loss / 100, calls=calls, progress=bar
        )
    if as_json:
        taken = {"path": str(chosen.path), "engine": chosen.engine, "precision": chosen.precision}
        print(json.dumps(found.as_dict() | {"taken": taken, "remembered": str(path)}, indent=2))
        return
    print_rows(found)
    print(f"remembered in {path}: {chosen.engine} in {chosen.precision} for {chosen.path}")
    print("after a new export, or on another machine: tune again")


def parse_threads(text: str) -> list[int]:
    """Numbers of threads, as in "1,2"."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 256 for word in words):
        raise ConfigError(f"--threads {text}: expected numbers from 1, as in 1,2")
    return list(dict.fromkeys(int(word) for word in words))


def _files(argument: str) -> list[Path]:
    from falconet.runtime.stream import ImageFile, find_sources

    found = [one.path for one in find_sources([argument], recursive=True) if isinstance(one, ImageFile)]
    if not found:
        raise ConfigError(f"--pictures {argument}: expected pictures, but there are only videos")
    return found


def _write(found: "Bench", text: str, out: Path | None) -> list[Path]:
    if out is None:
        return []
    from falconet.profile.scatter import Point, scatter

    written = [out / "bench.json"]
    replace_file(written[0], text)
    rated = [(row, *next(iter(row.metrics.items()))) for row in found.rows if row.metrics]
    if rated:
        metric = rated[0][1]
        points = [Point(_short(row, found.rows), row.latency.p50, 100 * value) for row, _, value in rated]
        title = f"{metric} over milliseconds on {found.machine['processor']}"
        picture = scatter(points, title=title, x_label="milliseconds per picture, median", y_label=f"{metric}, %")
        written.append(out / "bench.svg")
        replace_file(written[1], picture)
    return written


def _label(row: "Row") -> str:
    return f"{Path(row.model).stem}, {row.engine} {row.precision}, {plural(row.threads, 'thread')}"


def _short(row: "Row", rows: "Sequence[Row]") -> str:
    """What tells a row from the others: the model and the precision only where there are several."""
    parts = [Path(row.model).stem] if len({one.model for one in rows}) > 1 else []
    precision = f" {row.precision}" if len({one.precision for one in rows}) > 1 else ""
    return ", ".join([*parts, f"{row.engine}{precision}", plural(row.threads, "thread")])


def print_rows(found: "Bench") -> None:
    """The table for people, and the sentence that it comes to."""
    from rich.console import Console
    from rich.table import Table

    names = {row.model for row in found.rows}
    metric = next((name for row in found.rows for name in row.metrics), None)
    rows = [
        {"model": Path(row.model).name, **_cells(row), **({metric: _rated(row, metric)} if metric else {})}
        for row in found.rows
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = [one for one in rows[0] if any(row[one] for row in rows) and (one != "model" or len(names) > 1)]
    for title in titles:
        table.add_column(title, justify="left" if title in ("model", "engine") else "right")
    for cells in rows:
        table.add_row(*(cells[title] for title in titles))
    if len(names) == 1:
        print(next(iter(names)))
    Console(width=110, soft_wrap=True).print(table)
    for row in found.rows:
        if row.soak is not None:
            print(f"{_label(row)}: {_flat(row.soak)}")
    print(f"machine: {found.machine['processor']}, {plural(int(found.machine['cores']), 'core')}")
    from falconet.core.cpus import BUSY

    if found.busy >= BUSY:
        print(f"others kept {found.busy:.1f} of them busy: take the ratios, not the milliseconds")
    best = found.fastest()
    print(f"fastest: {_label(best)}, {best.latency.p50:.2f} ms")


def _cells(row: "Row") -> dict[str, str]:
    rate = "" if row.per_second is None else f"{row.per_second:.1f}"
    times = [f"{value:.2f}" for value in (row.latency.p50, row.latency.p95, row.latency.p99)]
    memory = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    share = "" if row.peak_share is None else f"{row.peak_share:.0%}"
    told = [f"{row.engine} {row.precision}", str(row.threads), f"{row.start:.2f}", *times, rate, memory, share]
    titles = ("engine", "threads", "start s", "p50 ms", "p95", "p99", "pictures/s", "MB", "of peak")
    return dict(zip(titles, told, strict=True))


def _rated(row: "Row", metric: str) -> str:
    return percent(row.metrics[metric]) if metric in row.metrics else ""


def _flat(soak: dict[str, Any]) -> str:
    first, last = soak["parts"][0], soak["parts"][-1]
    memory = (
        ""
        if first["rss_mb"] is None
        else f", memory {first['rss_mb']:.1f} MB at first and {last['rss_mb']:.1f} at the end"
    )
    return (
        f"{soak['calls']:,} runs in {duration(soak['seconds'])}: median {first['p50_ms']:.2f} ms at first and "
        f"{last['p50_ms']:.2f} at the end{memory}"
    )
