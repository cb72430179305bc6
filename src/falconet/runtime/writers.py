"""Results into files: JSON, CSV, COCO JSON, YOLO txt, annotated pictures and videos.

Files that list everything are written beside their name while the run lasts and moved into place when it ends,
also when it is interrupted: a file that is there is whole. Nothing is kept in memory. Names of results come
from the names of the sources, which are unique within a run, and lie in folders and files of their own, so that
neither pictures nor annotations of the user are in the way.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from falconet.core.boxes import xyxy_to_cxcywh
from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.errors import ConfigError, DataError
from falconet.core.files import replace_file
from falconet.core.images import read_image, write_image
from falconet.core.lock import locked
from falconet.core.manifest import Manifest
from falconet.core.types import Pixels
from falconet.runtime.pipeline import Result
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import Broken, Frame, ImageFile, MediaSource, VideoFile
from falconet.runtime.tasks import TASKS, Task
from falconet.runtime.video_writer import VideoWriter

WriterT = TypeVar("WriterT", bound="Writer")


class Writer(Protocol):
    """Takes results one by one."""

    def add(self, item: Result | Broken) -> None:
        """Write one result. Raises DataError where that fails (no permission, full disk)."""
        ...

    def close(self, *, keep: bool) -> None:
        """Complete the files, or discard them."""
        ...


@contextmanager
def completed(writer: WriterT) -> Iterator[WriterT]:
    """The writer in a context: leaving completes its files, an exception discards them."""
    try:
        yield writer
    except BaseException:
        writer.close(keep=False)
        raise
    writer.close(keep=True)


class JsonWriter:
    """One JSON document: model, classes and the answer for each picture or frame.

    `{"model", "classes", "pictures": [{"file", "frame"?, "width", "height", ...}]}` with the task's entry, such as
    "detections"; a picture that cannot be read has "error" instead.

    Args:
        target: the file, or an open text stream such as standard output.
        predictor: the answers come from.
    """

    def __init__(self, target: Path | IO[str], predictor: Predictor[Any]) -> None:
        self._task = predictor.task
        self._part: _Part | None = None
        self._write: Callable[[str], object]
        if isinstance(target, Path):
            self._part = _Part(target)
            self._write = self._part.write
        else:
            self._write = target.write
        self._separator = "\n"
        head = {"model": predictor.manifest.model, "classes": predictor.names}
        self._write(json.dumps(head, ensure_ascii=False)[:-1] + ', "pictures": [')

    def add(self, item: Result | Broken) -> None:
        if isinstance(item, Broken):
            entry: dict[str, Any] = {"file": str(item.source), "error": str(item.error)}
        else:
            height, width = item.frame.original
            frame = {} if item.frame.index is None else {"frame": item.frame.index}
            size = {"width": width, "height": height}
            entry = {"file": str(item.frame.source), **frame, **size, **self._task.entry(item.answer)}
        self._write(self._separator + json.dumps(entry, ensure_ascii=False))
        self._separator = ",\n"

    def close(self, *, keep: bool) -> None:
        if keep:
            self._write("\n]}\n")
        if self._part:
            self._part.close(keep=keep)


class CsvWriter:
    """Lines of file, frame (empty for a picture), then the task's columns, such as class, score, x1, y1, x2, y2.

    A name that begins with =, +, -, @ gets an apostrophe before it: spreadsheets would run it as a formula.
    """

    def __init__(self, path: Path, task: Task[Any]) -> None:
        self._task, self._part = task, _Part(path)
        self._rows = csv.writer(self._part.stream, lineterminator="\n")
        with self._part.writing():
            self._rows.writerow(("file", "frame", *task.csv_columns))

    def add(self, item: Result | Broken) -> None:
        if isinstance(item, Broken):
            return
        frame = "" if item.frame.index is None else item.frame.index
        with self._part.writing():
            for row in self._task.rows(item.answer):
                self._rows.writerow([_no_formula(value) for value in (str(item.frame.source), frame, *row)])

    def close(self, *, keep: bool) -> None:
        self._part.close(keep=keep)


def _no_formula(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula, with an apostrophe before it, which makes it text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


class CocoWriter:
    """COCO JSON, twice: a data set with scores, and the plain list of results COCO's evaluation reads.

    `path` holds "images", "categories" (ids from 1, in the model's order) and "annotations" with "score", as a
    start for labelling; `path` with `_results` before its ending holds `[{"image_id", "category_id", "bbox",
    "score"}]` with the same ids. Where all pictures have different whole numbers for names, as COCO's own, those
    are the image ids; else they count from 1.
    """

    def __init__(self, path: Path, manifest: Manifest, sources: Sequence[MediaSource]) -> None:
        self._numbered = _all_numbered(sources)
        self._path = path
        self._images = _JsonList(_Part(path.with_suffix(".images.json")))
        self._annotations = _JsonList(_Part(path))
        self._results = _JsonList(_Part(path.with_stem(f"{path.stem}_results")))
        self._count = 0
        categories = coco_categories(manifest.classes)
        head = {"info": {"description": f"detections of {manifest.model}"}, "categories": categories}
        self._annotations.part.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": ')
        self._annotations.begin()
        self._results.begin()
        self._images.begin()

    def add(self, item: Result | Broken) -> None:
        if isinstance(item, Broken):
            return
        frame = item.frame
        self._count += 1
        image_id = int(Path(frame.source.name).name) if self._numbered else self._count
        height, width = frame.original
        name = str(frame.source) if frame.index is None else f"{frame.source}#{frame.index}"
        self._images.add({"id": image_id, "file_name": name, "width": width, "height": height})
        found = item.answer
        for box, score, label in zip(found.boxes.tolist(), found.scores, found.labels, strict=True):
            result = coco_result(image_id, label, box, score=score)
            self._results.add(result)
            self._annotations.add(coco_annotation(self._results.count, result))

    def close(self, *, keep: bool) -> None:
        whole = False
        try:
            if keep:
                for entries in (self._images, self._annotations, self._results):
                    entries.end()
                self._annotations.part.write(', "images": ')
                self._annotations.part.append(self._images.part)
                self._annotations.part.write("}\n")
                for entries in (self._annotations, self._results):
                    entries.part.flush()
                whole = True
        finally:  # a full disk leaves none of them
            with ExitStack() as stack:
                for entries in (self._images, self._annotations, self._results):
                    stack.callback(entries.part.close, keep=whole and entries is not self._images)


class YoloWriter:
    """One text file per picture or frame in `folder`: class index, centre x, y, width, height as fractions.

    A picture without detections gets an empty file. Frames of a video lie in a folder of its name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, item: Result | Broken) -> None:
        if isinstance(item, Broken):
            return
        height, width = item.frame.original
        found = item.answer
        centred = xyxy_to_cxcywh(found.boxes) / (width, height, width, height)
        rows = zip(found.labels.tolist(), centred.tolist(), strict=True)
        lines = [f"{label} " + " ".join(f"{value:.6f}" for value in box) + "\n" for label, box in rows]
        replace_file(self._folder / f"{_frame_name(item.frame)}.txt", "".join(lines))

    def close(self, *, keep: bool) -> None:
        """Every file is complete already."""


class AnnotatedWriter:
    """Pictures with the answer drawn in, as JPEG; videos and cameras in VP8."""

    def __init__(self, folder: Path, task: Task[Any]) -> None:
        self._folder, self._task = folder, task
        self._video: VideoWriter | None = None

    def add(self, item: Result | Broken) -> None:
        if isinstance(item, Broken):
            return
        frame = item.frame
        if frame.is_kept:  # it was drawn by the run that finished it
            return
        if isinstance(frame.source, ImageFile):
            drawn = self._task.draw(_full_image(frame), item.answer)
            write_image(annotated_file(self._folder, frame.source), drawn, jpeg_quality=90)
            return
        if self._video is None or self._video.source is not frame.source:
            self.close(keep=True)
            self._video = VideoWriter(self._folder / frame.source.name, frame)
        self._video.add(self._task.draw(frame.image, item.answer))

    def close(self, *, keep: bool) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close(keep=keep)


def annotated_file(folder: Path, source: ImageFile) -> Path:
    """Where a picture with its answer drawn in lies in the folder for these."""
    return folder / f"{source.name}.jpg"


ANNOTATED, YOLO_LABELS = "annotated", "yolo_labels"
"""Folders of results. Their names keep them from being taken for a data set's pictures and labels."""


@contextmanager
def open_writers(
    kinds: Sequence[str], folder: Path, predictor: Predictor[Any], sources: Sequence[MediaSource]
) -> Iterator[list[Writer]]:
    """A writer into `folder` for each of `kinds`; leaving the context completes the files.

    Raises:
        ConfigError: a kind that this task does not have.
        DataError: the folder cannot be written, another process writes there, or an annotated picture would replace a
            source.
    """
    task = predictor.task
    if unknown := [kind for kind in kinds if kind not in task.kinds]:
        noun = TASKS[predictor.manifest.task].noun
        raise ConfigError(f"cannot save '{unknown[0]}' of a {noun}; expected some of: {', '.join(task.kinds)}")
    if "images" in kinds:
        _check_targets(folder / ANNOTATED, sources)
    stem = folder / task.file_stem
    makers: dict[str, Callable[[], Writer]] = {
        "images": lambda: AnnotatedWriter(folder / ANNOTATED, task),
        "json": lambda: JsonWriter(stem.with_suffix(".json"), predictor),
        "csv": lambda: CsvWriter(stem.with_suffix(".csv"), task),
        "coco": lambda: CocoWriter(folder / "detections_coco.json", predictor.manifest, sources),
        "yolo": lambda: YoloWriter(folder / YOLO_LABELS),
    }
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        yield [stack.enter_context(completed(makers[kind]())) for kind in dict.fromkeys(kinds)]


def _check_targets(folder: Path, sources: Sequence[MediaSource]) -> None:
    inside = folder.resolve()
    for source in sources:
        if isinstance(source, ImageFile | VideoFile) and inside in source.path.resolve().parents:
            raise DataError(
                f"{source}: lies in {folder}, where annotated pictures are written, and could be overwritten; "
                "choose another --out folder"
            )


def _frame_name(frame: Frame) -> str:
    if frame.index is None:
        return frame.source.name
    ending = frame.source.path.suffix if isinstance(frame.source, VideoFile) else ""
    return f"{frame.source.name}{ending}/{frame.index:06d}"


def _full_image(frame: Frame) -> Pixels:
    """The picture at full size, read again where the network saw it at a reduced scale."""
    if isinstance(frame.source, ImageFile) and frame.image.shape[:2] != frame.original:
        return read_image(frame.source.path)[0]
    return frame.image


def _all_numbered(sources: Sequence[MediaSource]) -> bool:
    stems = [Path(source.name).name for source in sources if isinstance(source, ImageFile)]
    numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdigit()}
    return len(numbers) == len(sources)


class _Part:
    """A text file that is written beside `path` and moved into place when closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._beside = path.with_name(f".{path.name}.part")
        with self.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Halves of characters, of names that are no UTF-8, as JSON writes them: \udcff.
            self.stream = self._beside.open("w+", encoding="utf-8", errors="backslashreplace", newline="")

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def write(self, text: str) -> None:
        with self.writing():
            self.stream.write(text)

    def flush(self) -> None:
        with self.writing():
            self.stream.flush()

    def append(self, other: "_Part") -> None:
        """Everything `other` holds."""
        with self.writing():
            other.stream.seek(0)
            shutil.copyfileobj(other.stream, self.stream)

    def close(self, *, keep: bool) -> None:
        try:
            with self.writing():
                self.stream.close()
                if keep:
                    self._beside.replace(self.path)
        finally:
            self._beside.unlink(missing_ok=True)


class _JsonList:
    """A JSON list, written entry by entry."""

    def __init__(self, part: _Part) -> None:
        self.part = part
        self.count = 0

    def begin(self) -> None:
        self.part.write("[")

    def add(self, entry: dict[str, Any]) -> None:
        self.part.write((",\n" if self.count else "\n") + json.dumps(entry, ensure_ascii=False))
        self.count += 1

    def end(self) -> None:
        self.part.write("\n]")
