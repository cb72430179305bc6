"""`falconet predict`: detect in files, folders, globs, videos and cameras; print, draw, save."""

import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from falconet.cli import startup
from falconet.core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from falconet.runtime.engines import Engine
    from falconet.runtime.pipeline import Result
    from falconet.runtime.predictor import Predictor
    from falconet.runtime.stream import Broken, MediaSource
    from falconet.runtime.writers import Writer

LONG_JOB = 20
"""Frames from which on a progress bar is worth its lines."""

TIMED_FRAMES = 10_000
"""The medians of the summary are over the last so many frames: memory stays constant."""


def predict(
    sources: Annotated[
        list[str], typer.Argument(help="Pictures, videos, folders, globs ('*.jpg') or a camera's number.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Exported .onnx file; with torch also a weights file or a run folder "
            "[default: NanoDet-Plus-m of COCO's 80 classes, fetched once]."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what is saved (default: runs/predict, where --save is given).")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(help="Some of images,json,csv,coco,yolo (default: images, where --out is given)."),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Report what scores above this (default: as exported, mostly 0.25)."),
    ] = None,
    iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="NMS drops boxes of a class that overlap more than this.")
    ] = None,
    max_detections: Annotated[int | None, typer.Option(min=1, help="At most so many per picture.")] = None,
    classes: Annotated[str | None, typer.Option(help="Report only these, as in person,car.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="For the network (default: usable CPUs, at most 4).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that go through the network together.")] = 1,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders of folders.")] = False,
    task: Annotated[Literal["detect", "classify"], typer.Option(help="classify: say what pictures show.")] = "detect",
    top: Annotated[int, typer.Option(min=1, help="Classes per picture, for --task classify.")] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; all other lines go to standard error.")
    ] = False,
) -> None:
    """Detect objects in pictures, videos and camera streams, or classify pictures.

    Prints a line per picture and, at the end, what each stage took. Exits with 2 where a source could not be
    read; the others are done nevertheless.
    """
    if task == "classify":
        _refuse(score=score, iou=iou, max_detections=max_detections, classes=classes)
        from falconet.cli.classify import predict_classes

        words = None if save is None else _words(save)
        options = {"model": model, "out": out, "save": words, "top": top, "threads": threads}
        if predict_classes(sources, **options, recursive=recursive, as_json=json):
            raise typer.Exit(2)
        return
    from falconet.runtime.stream import find_sources

    found = find_sources(sources, recursive=recursive)
    model = _published(model)
    wanted = {"score_threshold": score, "iou_threshold": iou, "max_detections": max_detections}
    predictor = _predictor(_open_engine(model, threads), wanted, classes)
    kinds = _words(save) if save is not None else (["images"] if out is not None else [])
    folder = out or Path("runs/predict")
    startup.finish()
    report = _Report(to="stderr" if json else "stdout")
    with _writers(kinds, folder, predictor, found, to_stdout=json) as writers:
        interrupted = _run(predictor, found, writers, report, batch=batch)
    report.summary()
    if kinds:
        report.print(f"saved {', '.join(kinds)} in {folder}")
    if interrupted or report.broken:
        raise typer.Exit(130 if interrupted else 2)


def _predictor(engine: "Engine", wanted: dict[str, float | int | None], classes: str | None) -> "Predictor":
    """A predictor that selects as exported, but for what is wanted otherwise; `classes` as in person,car."""
    from falconet.runtime.predictor import Predictor

    given: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    only = None if classes is None else _words(classes)
    return Predictor(engine, selection=replace(engine.manifest.selection, **given), classes=only)


def _published(model: Path | None) -> Path:
    """`model`; where none is named, or published weights are, these as an exported file, fetched if need be."""
    if model is not None and (model.suffix in (".onnx", ".safetensors") or model.exists()):
        return model
    from falconet.zoo import published

    name = published.DEFAULT if model is None else str(model)
    return published.fetch_onnx(name) if model is None or published.is_published(name) else Path(name)


def _refuse(**options: object) -> None:
    """Raise ConfigError where an option was given that has no meaning for a classifier."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} selects boxes; --task classify has none: leave it out")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _open_engine(model: Path, threads: int | None) -> "Engine":
    """ONNX Runtime for an exported file; torch, where it is installed, for a weights file or a run folder."""
    if not model.is_dir() and model.suffix != ".safetensors":
        from falconet.runtime.engines import OnnxEngine

        return OnnxEngine(model, threads=threads)
    if model.exists() and find_spec("torch") is None:
        raise ModelError(
            f"{model}: running weights needs torch, which is not installed; export them where it is, with "
            f"'falconet export {model} --to onnx --out FOLDER', and pass the .onnx file, or "
            "pip install 'falconet[train]'"
        )
    from falconet.cli.truth import open_engine

    return open_engine(model, engine="auto", threads=threads)


@contextmanager
def _writers(
    kinds: list[str], folder: Path, predictor: "Predictor", sources: "list[MediaSource]", *, to_stdout: bool
) -> "Iterator[list[Writer]]":
    """What takes the results; its modules load only where something is saved."""
    with ExitStack() as stack:
        writers: list[Writer] = []
        if kinds:
            from falconet.runtime.writers import open_writers

            writers += stack.enter_context(open_writers(kinds, folder, predictor.manifest, sources))
        if to_stdout:
            from falconet.runtime.writers import JsonWriter

            writers.append(stack.enter_context(JsonWriter(sys.stdout, predictor.manifest)))
        yield writers


def _run(
    predictor: "Predictor",
    sources: "list[MediaSource]",
    writers: "list[Writer]",
    report: "_Report",
    *,
    batch: int,
) -> bool:
    """Detect in everything; whether Ctrl-C ended it early."""
    from falconet.runtime.pipeline import detect_frames

    results = detect_frames(predictor, sources, batch=batch)
    with closing(results), _interrupt() as interrupt, _progress(sources) as advance:
        for item in results:
            start = perf_counter()
            for writer in writers:
                writer.add(item)
            report.add(item, write=(perf_counter() - start) * 1e3 if writers else None)
            advance()
            if interrupt.is_set():
                break
        return interrupt.is_set()


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the picture at hand is finished; the second one interrupts."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(_number: int, _frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


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
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("detecting", total=total)
        yield lambda: bar.advance(task)


class _Report:
    """The lines for people: one per picture, video or broken source, then counts and medians."""

    def __init__(self, *, to: Literal["stdout", "stderr"]) -> None:
        # By name: while the bar is shown, it puts a stream of its own into sys.stdout.
        self._stream = to
        self._times: dict[str, deque[float]] = {}
        self._video: MediaSource | None = None
        self._video_frames = 0
        self._video_found: Counter[str] = Counter()
        self.frames = self.detections = self.broken = 0

    def print(self, line: str) -> None:
        print(line, file=sys.stdout if self._stream == "stdout" else sys.stderr, flush=True)

    def add(self, item: "Result | Broken", *, write: float | None) -> None:
        from falconet.runtime.stream import Broken, VideoFile

        if isinstance(item, Broken):
            self._end_video()
            self.broken += 1
            print(f"falconet: {item.error}", file=sys.stderr, flush=True)
            return
        took = item.milliseconds._asdict() | ({} if write is None else {"write": write})
        for stage, milliseconds in took.items():
            self._times.setdefault(stage, deque(maxlen=TIMED_FRAMES)).append(milliseconds)
        self.frames += 1
        self.detections += len(item.detections)
        found = Counter(name for name, _, _ in item.detections)
        source = item.frame.source
        if isinstance(source, VideoFile):
            if source is not self._video:
                self._end_video()
            self._video = source
            self._video_frames += 1
            self._video_found += found
            return
        self._end_video()
        height, width = item.frame.original
        place = f"{source}" if item.frame.index is None else f"{source} frame {item.frame.index}"
        self.print(f"{place}: {width}x{height}, {_tally(found)}, {sum(took.values()):.1f} ms")

    def _end_video(self) -> None:
        if self._video is not None:
            self.print(f"{self._video}: {_count(self._video_frames, 'frame')}, {_tally(self._video_found)}")
        self._video, self._video_frames, self._video_found = None, 0, Counter()

    def summary(self) -> None:
        """Counts, and the median milliseconds of each stage."""
        self._end_video()
        broken = f", {self.broken} not readable" if self.broken else ""
        self.print(f"{_count(self.frames, 'picture')}, {_count(self.detections, 'detection')}{broken}")
        if self._times:
            stages = ", ".join(f"{stage} {_median(values):.1f}" for stage, values in self._times.items())
            self.print(f"median ms per picture: {stages}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _median(values: "deque[float]") -> float:
    """The upper one of the two in the middle. The module `statistics` would cost more time to import than this."""
    return sorted(values)[len(values) // 2]


def _tally(found: "Counter[str]") -> str:
    """ "2 person, 1 car", the most frequent first; "nothing" where nothing was found."""
    return ", ".join(f"{count} {name}" for name, count in found.most_common()) or "nothing"
