"""`falconet batch`: what is in many pictures, as tables in Parquet."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.cli.options import ENGINE_HELP, PRECISION_HELP
from falconet.core.errors import ConfigError
from falconet.core.figures import duration, plural

if TYPE_CHECKING:
    from falconet.bulk.blocks import Part
    from falconet.bulk.listing import Sources
    from falconet.bulk.run import Progress, Results, Work
    from falconet.cli.batch_runs import Opening
    from falconet.runtime.predictor import Predictor

_log = logging.getLogger(__name__)

DEFAULT_TOP = 5

EVERY = 15.0
"""Seconds after which a line is written where there is no terminal."""


def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders (all below them), globs, text lists (.txt), COCO JSON, Parquet files with paths or pictures, "
            "WebDataset tars; on this machine or at s3://, gs://, hdfs://."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for the tables, on this machine or an address.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Exported file or published name; with torch also a weights file or a run folder "
            "[default: NanoDet-Plus-m of COCO's 80 classes, fetched once].",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder that the paths in a list start from (default: that of the list).")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of Parquet files: paths, or the bytes of picture files.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Report what scores above this (default: as exported).")
    ] = None,
    operating_point: Annotated[
        str | None,
        typer.Option(help="Report above the thresholds that 'falconet calibrate' stored, as in recall=0.95."),
    ] = None,
    iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="NMS drops boxes of a class that overlap more than this.")
    ] = None,
    max_detections: Annotated[int | None, typer.Option(min=1, help="At most so many per picture.")] = None,
    classes: Annotated[str | None, typer.Option(help="Report only these, as in person,car.")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes that a classifier tells [default: 5].", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    streams: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures worked on at once (default: as many as CPUs have room for, by --threads)."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of each picture's run (default: what gives most pictures a second, measured once on each "
            "kind of machine).",
        ),
    ] = None,
    block: Annotated[int, typer.Option(min=1, help="Pictures of a table, on average.")] = 1000,
    retry: Annotated[
        bool, typer.Option("--retry", help="Do tables anew in which a picture could not be read.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Another model: both answer for a sample, and a page in --out shows where they differ most; no tables."
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Pictures that --compare looks at.")] = 1000,
    part: Annotated[
        str | None,
        typer.Option(
            help="Share of the work, as in 3/16: so many runs of the same command on as many machines, each with "
            "another number, write into one folder what a single one would."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster that does the work: auto (the one this machine belongs to), local (started here for the "
            "run) or HOST:PORT (default: this machine, without Ray).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write what is in many pictures as Parquet: a row per picture, a file per block of pictures.

    A block appears when it is complete, so that the same command goes on where it was interrupted, and does the
    pictures that were added or changed since. A picture that cannot be read is a row that says why.
    """
    from falconet.api.require import require

    require(("pyarrow",), extra="batch", purpose="'falconet batch'")
    from falconet.bulk.blocks import WHOLE, read_part
    from falconet.bulk.listing import Sources, plain
    from falconet.bulk.run import Results, run_blocks
    from falconet.cli.batch_runs import Opening, asked, chosen_engine, here, on_machines
    from falconet.cli.predict import find_or_default

    if score is not None and operating_point is not None:
        raise ConfigError("--score, --operating-point: both say what is reported; leave one out")
    given = {"score": score, "iou": iou, "max_detections": max_detections, "classes": classes, "top": top}
    given["operating_point"] = operating_point
    sources = [plain(one) for one in sources]
    if twice := next((one for one in sources if sources.count(one) > 1), None):
        raise ConfigError(f"{twice}: is named twice, and its pictures would be, too; leave one out")
    found = Sources(sources, images, column, leave_out=out, pictures=block)
    _refuse_pairs(cluster, compare, part, streams, out)
    path = find_or_default(model, weights=engine == "torch", quiet=False)
    opening = Opening(*chosen_engine(path, engine, precision), given)
    if compare is not None:
        _refuse_tables(out)
        pair = path, find_or_default(compare, weights=engine == "torch", quiet=False)
        _compare(found, pair, opening.running(asked(streams, threads, opening.engine)), Path(out), sample)
        return
    found.part = WHOLE if part is None else read_part(part)
    with _held(out, found.part), _connected(cluster) as connection:
        runs = on_machines(path, opening, threads, _say) if connection else here(path, opening, streams, threads)
        opening = opening.running(runs, alone=connection)
        predictor = opening(path)
        results = Results(out, _head(path, predictor, opening), found, runs.as_dict())
        try:
            work = _work(path, opening, predictor, results, on=cluster)
            with _told() as tell:
                done = run_blocks(work, found, results, retry=retry, tell=tell, say=_say)
        except KeyboardInterrupt:
            _say(f"interrupted: the tables in {out} are whole, and the same command goes on")
            raise
    _summary(done, out, part)
    if done.pictures == done.broken + done.kept_broken > 0:
        raise typer.Exit(2)


def _refuse_pairs(cluster: str | None, compare: str | None, part: str | None, streams: int | None, out: str) -> None:
    """Raise ConfigError for options of which one would be without effect."""
    if compare is not None and "://" in out:
        raise ConfigError(f"--out {out}: the page of --compare is written on this machine; expected a folder of it")
    if compare is not None and cluster is not None:
        raise ConfigError("--cluster, --compare: a sample is compared on this machine; leave --cluster out")
    if compare is not None and part is not None:
        raise ConfigError("--part, --compare: a sample is compared as a whole; leave --part out")
    if cluster is not None and part is not None:
        raise ConfigError("--part, --cluster: a cluster shares out all of the work by itself; leave one out")
    if cluster is not None and streams is not None:
        raise ConfigError("--streams, --cluster: each process of a cluster has one run at a time; leave --streams out")


def _refuse_tables(out: str) -> None:
    """Raise ConfigError for a folder of tables, which readers take as a whole: a page in it would be in their way."""
    from falconet.bulk.run import HEAD

    folder = Path(out)
    if (folder / HEAD).exists() or any(folder.glob("*.parquet")):
        raise ConfigError(f"--out {out}: holds tables of 'falconet batch'; choose another folder for a comparison")


def _head(path: Path, predictor: "Predictor[Any]", opening: "Opening") -> dict[str, Any]:
    """What tables say about the model."""
    from hashlib import sha256

    from falconet import __version__
    from falconet.core.exported_files import model_files

    digest = sha256()
    for file in model_files(path):
        digest.update(file.read_bytes())
    manifest, engine = predictor.manifest, predictor.engine
    named = {"score": "score_threshold", "iou": "iou_threshold", "max_detections": "max_detections"}
    selection = asdict(manifest.told_selection) if manifest.task == "detect" else {"top": DEFAULT_TOP}
    selection |= {named.get(key, key): value for key, value in opening.given.items() if value is not None}
    return {
        "model": {"file": path.name, "sha256": digest.hexdigest(), "network": manifest.model},
        "version": __version__,
        "task": manifest.task,
        "classes": list(manifest.classes),
        "engine": engine.name,
        "engine_version": engine.version,
        "precision": "float32" if opening.use.precision == "auto" else opening.use.precision,
        "selection": selection,
    }


def _compare(sources: "Sources", paths: tuple[Path, Path], opening: "Opening", out: Path, most: int) -> None:
    """Both models over a sample: compare.html and compare.json."""
    import json

    from falconet.api.require import require
    from falconet.bulk.compare import compare, render, sample
    from falconet.cli.progress import counted
    from falconet.core.files import replace_file

    require(("jinja2",), extra="eval", purpose="--compare")
    first, second = (opening(path) for path in paths)
    models = (_head(paths[0], first, opening), _head(paths[1], second, opening))
    pictures = sample(sources, most)
    with counted("answers") as advance:
        compared = compare((first, second), models, pictures, tell=advance)
    replace_file(out / "compare.json", json.dumps(compared.as_dict(), indent=2, ensure_ascii=False) + "\n")
    replace_file(out / "compare.html", render(compared))
    print(f"A: {paths[0]}, B: {paths[1]}")
    print(compared.sentence)
    if compared.broken:
        print(f"{plural(compared.broken, 'picture')} could not be read")
    print(f"the pictures that differ most: {out / 'compare.html'}")


@contextmanager
def _connected(address: str | None) -> Iterator[bool]:
    """A connection to a cluster, where one is to do the work; whether there is."""
    from falconet.api.require import require

    if address is None:
        yield False
        return
    require(("ray",), extra="scale", purpose="--cluster")
    from falconet.bulk.cluster import connected

    with connected(address) as told:
        _say(f"cluster: {told}")
        yield True


def _work(path: Path, opening: "Opening", predictor: "Predictor[Any]", results: "Results", *, on: str | None) -> "Work":
    """Who answers: this machine, or the connected cluster."""
    from falconet.bulk.run import in_streams

    top = opening.given["top"] or DEFAULT_TOP
    if on is None:
        return in_streams(predictor, results, top=top)
    from falconet import __version__
    from falconet.bulk.cluster import Worker, on_cluster
    from falconet.core.exported_files import model_files

    files = {file.name: file.read_bytes() for file in model_files(path)}
    return on_cluster(
        Worker(str(Path.cwd()), files, opening, results, top, __version__), threads=opening.use.threads or 1
    )


@contextmanager
def _held(out: str, part: "Part") -> Iterator[None]:
    """The folder of the results, which no other run of the same part writes into; object storage has no lock."""
    from falconet.bulk.storage import is_remote
    from falconet.core.lock import LOCK, locked

    if is_remote(out):
        yield
        return
    name = LOCK if part.of == 1 else f".falconet-part-{part.number}-of-{part.of}.lock"
    with locked(Path(out), name):
        yield


@contextmanager
def _told() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal; elsewhere a line every `EVERY` seconds."""
    if sys.stderr.isatty():
        from falconet.cli.progress import counted

        with counted("pictures") as advance:
            yield lambda now: advance(now.pictures, now.total)
        return
    last = 0.0

    def line(now: "Progress") -> None:
        nonlocal last
        if now.seconds - last >= EVERY:
            left = duration((now.total - now.pictures) / now.rate) if now.rate else "?"
            _log.info(
                "%s of %s pictures, %.1f a second, about %s left", f"{now.pictures:,}", f"{now.total:,}", now.rate, left
            )
            last = now.seconds

    yield line


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _summary(done: "Progress", out: str, part: str | None) -> None:
    new = done.pictures - done.kept
    share = "" if part is None else f" of part {part}"
    if not new:
        print(f"nothing is left to do: all {plural(done.pictures, 'picture')}{share} are in {out}")
    else:
        rate = f"{duration(done.seconds)}, {done.rate:.1f} a second"
        print(f"{plural(new, 'picture')}{share} in {rate}; tables in {out}")
    if done.broken:
        print(f"{plural(done.broken, 'picture')} could not be read; the rows say why: column 'error'")
    if done.kept_broken:
        print(f"{plural(done.kept_broken, 'picture')} could not be read by an earlier run; --retry tries again")
