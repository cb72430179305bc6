"""Pictures of a YOLO data set with their label files: which belongs to which, and what belongs to none.

The label file of `.../images/a/x.jpg` is `.../labels/a/x.txt` (the last folder called "images" counts), else `x.txt`
beside the picture. Lines are read by `falconet.data.yolo_lines`; a polygon counts as the box around it. A picture
without label file, or with an empty one, has no boxes.

The format knows no picture sizes, so the header of each picture that has boxes is read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.files import exists, is_folder, regular
from falconet.core.images import image_size, is_any_picture
from falconet.core.types import Record
from falconet.data.class_ids import shift_problem_text, shifted_by
from falconet.data.dataset import Problem, make_record, read_text
from falconet.data.listing import Names, composed, files_in, unused, unused_beside
from falconet.data.yolo_lines import KeyPoints, Line, expected_columns, judge, parse_line, unclear, unknown_class

MAX_BYTES = 64 << 20


@dataclass(slots=True)
class _Labels:
    """What is known of a data set while its label files are read."""

    num_classes: int
    points: KeyPoints | None
    problems: list[Problem]
    files: Names = field(default_factory=Names)
    columns: Counter[int] = field(default_factory=Counter)
    """Lines that could be polygons, by their number of columns."""
    doubtful: dict[tuple[Path, int], Line] = field(default_factory=dict)
    """by picture and line."""
    beyond: list[tuple[Path, int]] = field(default_factory=list)
    """picture and line of boxes whose class is the one just behind the last: the ids may count from 1."""


def read_labels(
    path: Path,
    pictures: Iterable[tuple[Path, str]],
    num_classes: int,
    points: KeyPoints | None,
    problems: list[Problem],
) -> dict[Path, Record]:
    """The record of each picture; what is wrong joins `problems`.

    Args:
        path: the data set's description.
        pictures: each with the place that lists it.
        points: key points behind the boxes, see `falconet.data.yolo_lines.key_points`.

    Raises:
        DataError: lines that may be polygons or boxes with key points throughout.
    """
    known = _Labels(num_classes, points, problems)
    records: dict[Path, Record] = {}
    for picture, where in pictures:
        if picture in records:
            problems.append(Problem(where, f"{picture} is listed twice; counted once", "duplicate-file"))
        else:
            try:
                records[picture] = _record(picture, known)
            except DataError as error:  # of its label file: it is not known what the picture shows
                problems.append(Problem(where, f"{error}; {picture.name} is left out", "bad-annotation"))
    _leave_out_unclear(records, known, path)
    _resolve_ids(records, known, path)
    # The id is the stem of the picture, or its path where two share a stem.
    counts = Counter(record.image_id for record in records.values())
    return {
        picture: record if counts[record.image_id] == 1 else replace(record, image_id=picture.as_posix())
        for picture, record in records.items()
    }


def label_path(picture: Path) -> Path:
    """The label file that belongs to a picture."""
    return _label_paths(picture)[0]


def _label_paths(picture: Path) -> list[Path]:
    """Where the label file of a picture may lie, folders of other capitals last: Windows does not tell them apart."""
    parts = list(picture.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].lower() == "images":
            own = "labels" if parts[position].islower() else "LABELS" if parts[position].isupper() else "Labels"
            spelt = dict.fromkeys([own, "labels", "Labels", "LABELS"])
            folders = [Path(*parts[:position], word, *parts[position + 1 :]) for word in spelt]
            return [folder.with_suffix(".txt") for folder in folders]
    return [picture.with_suffix(".txt")]


def _record(picture: Path, known: _Labels) -> Record:
    labels_file = _find_label(picture, known.files)
    lines: dict[int | str, Line] = {}
    for number, line in _label_lines(labels_file):
        parsed = parse_line(line, known.num_classes, known.points)
        if isinstance(parsed, Problem):
            known.problems.append(parsed._replace(where=f"{labels_file}:{number}"))
            continue
        lines[number] = parsed
        if parsed.columns not in (5, expected_columns(known.points) or parsed.columns):
            what = f"the line has {parsed.columns} numbers; 'kpt_shape' asks for {expected_columns(known.points)}. "
            known.problems.append(Problem(f"{labels_file}:{number}", f"{what}The box is taken", "key-points"))
        if parsed.columns > 5:
            known.columns[parsed.columns] += 1
        if parsed.doubtful:
            known.doubtful[picture, number] = parsed
        if parsed.label == known.num_classes:
            known.beyond.append((picture, number))
    size: tuple[int, int] | None = None
    if lines:
        try:
            size = image_size(picture)
        except DataError:
            # Whoever uses or checks the data set reports the picture itself.
            lines = {}
    scale = np.array([1, 1, 1, 1] if size is None else [size[1], size[0]] * 2, np.float64)
    return make_record(
        picture.stem,
        picture,
        size,
        boxes=[np.array(line.corners) * scale for line in lines.values()],
        labels=[line.label for line in lines.values()],
        crowd=[False] * len(lines),
        source=str(labels_file),
        box_keys=list(lines),
    )


def _find_label(picture: Path, files: Names) -> Path:
    """The label file of a picture; where there is none, the place it would have."""
    apart = _label_paths(picture)
    found = (files.find(place) for place in (*apart, picture.with_suffix(".txt")))
    return next((file for file in found if file is not None), apart[0])


def _label_lines(file: Path) -> Iterator[tuple[int, str]]:
    if not exists(file):
        return
    for number, line in enumerate(read_text(file, limit=MAX_BYTES).splitlines(), start=1):
        if line.strip():
            yield number, line


def _leave_out_unclear(records: dict[Path, Record], known: _Labels, path: Path) -> None:
    """Take lines that may be anything out of the records, and say so."""
    lines = list(known.doubtful.values())
    judged = judge(lines, known.columns, path)
    for (picture, number), line, polygon in zip(known.doubtful, lines, judged, strict=True):
        if polygon:
            continue
        record = records[picture]
        known.problems.append(Problem(f"{record.source}:{number}", unclear(line), "unclear-line"))
        records[picture] = record.take(np.array([key != number for key in record.box_keys], np.bool_))


def _resolve_ids(records: dict[Path, Record], known: _Labels, path: Path) -> None:
    """Ids from 0 where they count from 1; else boxes of the class behind the last are taken out. Both is said."""
    if not known.beyond:
        return
    count = known.num_classes
    used = {int(label) for record in records.values() for label in record.labels}
    others = any(problem.kind == "unknown-class" for problem in known.problems)
    if shift := 0 if others else shifted_by(range(count), used):
        known.problems.append(Problem(str(path), shift_problem_text(shift, 0, count - 1), "shifted-ids"))
        records.update({picture: replace(one, labels=one.labels - shift) for picture, one in records.items()})
        return
    for picture, number in known.beyond:
        record = records[picture]
        kept = np.array([key != number for key in record.box_keys], np.bool_)
        if not kept.all():  # what is unclear, or of a picture that cannot be read, is told already
            where = f"{record.source}:{number}"
            known.problems.append(Problem(where, unknown_class(count, count), "unknown-class"))
            records[picture] = record.take(kept)


def not_used(records: dict[Path, Record], everything: set[Path], path: Path) -> Iterator[Problem]:
    """Label files without a picture, or with two, and other files that nothing in the data set uses.

    Args:
        everything: the pictures of all splits.
        path: the data set's description.
    """
    labels = {Path(record.source) for record in records.values()}
    first: dict[str, Path] = {}
    for picture, record in records.items():
        other = first.setdefault(record.source, picture)
        if other != picture and len(record.boxes):
            what = f"belongs to two pictures, {other.name} and {picture.name}; both have its boxes"
            yield Problem(record.source, what, "other-picture")
    used = everything | labels | {picture.with_suffix(".txt") for picture in everything}
    for picture_folder in dict.fromkeys(picture.parent for picture in records):
        folders = [place.parent for place in _label_paths(picture_folder / "x.jpg")]
        label_folder = next((folder for folder in folders if is_folder(folder)), folders[0])
        stems = {composed(file.stem) for file in files_in(picture_folder) if is_any_picture(file)}
        rest = [file for file in files_in(label_folder) if file not in used and file.name != "classes.txt"]
        apart = label_folder != picture_folder
        for file in rest:
            text = file.suffix.lower() == ".txt" and (apart or _is_label(file))
            if text and composed(file.stem) not in stems:
                used.add(file)
                yield Problem(str(file), f"belongs to no picture in {picture_folder}", "orphan-label")
        if apart:
            yield from unused(label_folder, (file for file in rest if file.suffix.lower() != ".txt"))
    yield from unused_beside({picture.parent for picture in records}, used, path)


def _is_label(file: Path) -> bool:
    """Whether a text file beside pictures, where it may be anything, is one of labels."""
    with regular(file).open("rb") as stream:
        words = stream.read(4096).decode("utf-8-sig", errors="replace").split("\n")[0].split()
    return len(words) >= 5 and words[0].isdecimal()
