"""`falconet predict`: what is in files, folders, globs, videos and cameras; print, draw, save."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.cli import startup
from falconet.cli.options import ENGINE_HELP, PRECISION_HELP, words
from falconet.cli.predict_report import Report
from falconet.core.errors import ConfigError
from falconet.core.terminal import argument

if TYPE_CHECKING:
    from falconet.runtime.engines import Engine, Use
    from falconet.runtime.journal import Journal
    from falconet.runtime.predictor import Predictor
    from falconet.runtime.stream import MediaSource
    from falconet.runtime.writers import Writer

LONG_JOB = 20
"""Frames from which on a progress bar is worth its lines."""

FEW_PICTURES = 3
"""Up to so many, opening further streams takes longer than they save."""

MOST_STREAMS = 16
"""Each takes memory for the layers of a picture."""


def predict(
    sources: Annotated[
        list[str], typer.Argument(help="Pictures, videos, folders, globs ('*.jpg') or a camera's number.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Exported .onnx file or published name; with torch also a weights file or a run folder "
            "[default: NanoDet-Plus-m of COCO's 80 classes, fetched once]."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what is saved (default: runs/predict, where --save is given).")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="Some of images,json,csv,coco,yolo; of a classifier images,json,csv "
            "[default: images, where --out is given; of a classifier also csv].",
            show_default=False,
        ),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Report what scores above this (default: as exported)."),
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
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPUs that a run of the network uses (default: those usable, at most 4; 1 with streams)."
        ),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pictures worked on at once (default: as many as CPUs for files, 1 for a camera).",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that go through the network together.")] = 1,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders of folders.")] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes that a classifier tells [default: 5].", show_default=False)
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but what goes wrong.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; all other lines go to standard error.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Refuse to begin anew where --out holds an interrupted run with other settings."),
    ] = False,
    task: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Say what is in pictures, videos and camera streams: boxes of a detector, classes of a classifier.

    Prints a line per picture and, at the end, what each stage took. Exits with 2 where a source could not be
    read; the others are done nevertheless.
    """
    from falconet.api.engines import open_engine
    from falconet.runtime.stream import find_sources

    _refuse_models(sources)
    found = find_sources(sources, recursive=recursive, tell=lambda line: print(line, file=sys.stderr, flush=True))
    if score is not None and operating_point is not None:
        raise ConfigError("--score, --operating-point: both say what is reported; leave one out")
    given = {"score": score, "iou": iou, "max_detections": max_detections, "classes": classes, "top": top}
    given["operating_point"] = operating_point
    path = find_or_default(model, weights=engine == "torch", quiet=quiet)
    use = _use(path, found, engine=engine, threads=threads, streams=streams, precision=precision, batch=batch)
    predictor = open_predictor(open_engine(path, engine=engine, use=use), given)
    _check_task(task, predictor)
    default = predictor.task.default_kinds if out is not None else ()
    kinds = words(save) if save is not None else list(default)
    folder = out or Path("runs/predict")
    startup.finish()
    # On one terminal the lines for people would stand inside of the document.
    alone = json and sys.stdout.isatty()
    report = Report(predictor, to="stderr" if json else "stdout", quiet=quiet or alone)
    if resume and not kinds:
        raise ConfigError("--resume goes on with what an interrupted run saved; expected its --out beside it")
    head = {"engine": predictor.engine.name, "precision": use.precision, **given, "save": kinds}
    with _writers(kinds, folder, predictor, found, to_stdout=json) as writers:
        journal = _journal(folder, path, head, predictor, found, resume=resume) if kinds else None
        stopped = _run(predictor, found, writers, report, journal, batch=batch)
    if journal is not None and not stopped:
        journal.forget()
    report.summary()
    if stopped:
        report.interrupted(found, goes_on=journal is not None)
    if kinds:
        report.print(f"saved {', '.join(kinds)} in {folder}")
    elif not json and report.frames:
        report.print(f"nothing was saved; {predictor.task.hint}")
    if stopped or report.broken:
        raise typer.Exit(stopped or 2)


def _refuse_models(sources: list[str]) -> None:
    """Say that a source is a model."""
    from falconet.core.exported_files import is_exported
    from falconet.core.run_files import RUN_FILE

    for source in sources:
        path = Path(source)
        if is_exported(path) or path.suffix == ".safetensors" or (path / RUN_FILE).is_file():
            others = " ".join(other for other in sources if other != source) or "PICTURE"
            raise ConfigError(
                f"{source}: is a model, not a picture; expected it behind --model: falconet predict {others} "
                f"--model {source}"
            )


def find_or_default(model: str | None, *, weights: bool, quiet: bool) -> Path:
    """The model's file; where none is named, that of the default detector, fetched if need be."""
    from falconet.api.find import find_model

    if model is None:
        from falconet.zoo.published.table import DEFAULT

        model = DEFAULT
        if not quiet:
            own = next((path.parent for path in sorted(Path("runs").glob("*/best.safetensors"))), None)
            yours = f"; your own: --model {argument(own)}" if own is not None else "; --model takes your own"
            print(f"model: {DEFAULT}, which knows the 80 classes of COCO{yours}", file=sys.stderr, flush=True)
    return find_model(model, weights=weights).path


def _use(
    path: Path,
    sources: "list[MediaSource]",
    *,
    engine: str,
    threads: int | None,
    streams: int | None,
    precision: str,
    batch: int,
) -> "Use":
    """How the model is run over these sources: as asked for, and else as is fastest for them.

    Raises:
        ConfigError: streams beside a batch.
    """
    from falconet.core.cpus import usable_cpus
    from falconet.exporting.engines import ENGINES
    from falconet.runtime.engines import Use, choose_engine
    from falconet.runtime.stream import Camera, ImageFile

    if batch > 1:
        if streams is not None and streams > 1:
            raise ConfigError(f"--batch {batch} --streams {streams}: leave one out; a batch is one run at a time")
        return Use(threads, precision=precision)
    if streams is None:
        cpus = min(usable_cpus(), MOST_STREAMS)
        many = len(sources) > FEW_PICTURES or not all(isinstance(one, ImageFile) for one in sources)
        live = any(isinstance(one, Camera) for one in sources)
        able = ENGINES[choose_engine(path, engine, engines=ENGINES)].streams
        streams = max(1, cpus // (threads or 1)) if able and many and not live else 1
    return Use(threads, streams, precision)


SELECTION = {"score": "score_threshold", "iou": "iou_threshold", "max_detections": "max_detections"}
"""Options that change the selection of boxes, and its fields."""


def open_predictor(engine: "Engine", given: dict[str, Any]) -> "Predictor[Any]":
    """A predictor that answers as exported, but for the options that are not None.

    Raises:
        ConfigError: an option that means nothing for the model's task.
    """
    from falconet.runtime.predictor import Predictor
    from falconet.runtime.tasks import TASKS

    row = TASKS[engine.manifest.task]
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if ("selection" if name in SELECTION else name) not in row.options:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option}: the model is a {row.noun}, for which it means nothing; leave it out")
    changes = {field: given.pop(name) for name, field in SELECTION.items() if name in given}
    if changes:
        given["selection"] = replace(engine.manifest.told_selection, **changes)
    if "classes" in given:
        given["classes"] = words(given["classes"])
    return Predictor(engine, **given)


def _check_task(task: str | None, predictor: "Predictor[Any]") -> None:
    """Say that --task is no longer needed; refuse it where the model does something else."""
    if task is None:
        return
    from falconet.runtime.tasks import TASKS

    own = predictor.manifest.task
    if task != own:
        raise ConfigError(f"--task {task}: the model is a {TASKS[own].noun}; leave --task out")
    print("--task is no longer needed: the file says what the model does; it will be refused soon", file=sys.stderr)


@contextmanager
def _writers(
    kinds: list[str], folder: Path, predictor: "Predictor[Any]", sources: "list[MediaSource]", *, to_stdout: bool
) -> "Iterator[list[Writer]]":
    """What takes the results; its modules load only where something is saved."""
    with ExitStack() as stack:
        writers: list[Writer] = []
        if kinds:
            from falconet.runtime.writers import open_writers

            writers += stack.enter_context(open_writers(kinds, folder, predictor, sources))
        if to_stdout:
            from falconet.runtime.writers import JsonWriter, completed

            writers.append(stack.enter_context(completed(JsonWriter(sys.stdout, predictor))))
        yield writers


def _journal(
    folder: Path,
    model: Path,
    head: "dict[str, Any]",
    predictor: "Predictor[Any]",
    sources: "list[MediaSource]",
    *,
    resume: bool,
) -> "Journal | None":
    """What keeps the answers of pictures, for a run that is interrupted; None for a single picture and for cameras."""
    from hashlib import sha256

    from falconet.runtime.journal import NAME, Journal
    from falconet.runtime.stream import ImageFile
    from falconet.runtime.writers import ANNOTATED, annotated_file

    if sum(isinstance(source, ImageFile) for source in sources) < 2 and not resume:
        return None
    if resume and not (folder / NAME).exists():
        print(f"--resume: no interrupted run is in {folder}; it begins anew", file=sys.stderr)
    drawn = folder / ANNOTATED if "images" in head["save"] else None
    journal = Journal(
        folder,
        {"model": sha256(model.read_bytes()).hexdigest(), **head},
        predictor,
        strict=resume,
        is_whole=lambda source: drawn is None or annotated_file(drawn, source).is_file(),
    )
    if journal.differs:
        print(f"the interrupted run in {folder} {journal.differs}; this one begins anew", file=sys.stderr)
    elif journal.found:
        print(
            f"an interrupted run with the same settings finished {journal.found} pictures; it goes on", file=sys.stderr
        )
    return journal


def _run(
    predictor: "Predictor[Any]",
    sources: "list[MediaSource]",
    writers: "list[Writer]",
    report: Report,
    journal: "Journal | None",
    *,
    batch: int,
) -> int:
    """Answer for everything; the exit code of the signal that ended it early, or 0."""
    from falconet.runtime.journal import frames_with

    results = frames_with(journal, predictor, sources, batch=batch)
    kept = nullcontext() if journal is None else closing(journal)
    with kept, closing(results), _signals() as came, _progress(sources) as advance:
        for item in results:
            start = perf_counter()
            for writer in writers:
                writer.add(item)
            if journal is not None:  # when the rest is written
                journal.add(item)
            report.add(item, write=(perf_counter() - start) * 1e3 if writers else None)
            advance()
            if came:
                break
        return 128 + came[0] if came else 0


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM as they come, so that the picture at hand is finished; the second one of a kind interrupts."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(sources: "list[MediaSource]") -> Iterator[Callable[[], None]]:
    """A bar on standard error for a job that takes long; a function to call after each frame."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from falconet.runtime.stream import count_frames

    total = count_frames(sources)
    if total is not None and total < LONG_JOB:
        yield lambda: None
        return
    from falconet.cli.progress import open_bar

    with open_bar("predicting") as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
