"""What `falconet data check` finds, as a page: each finding drawn on its picture, with what to do about it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from falconet.core.errors import DataError
from falconet.core.figures import plural
from falconet.core.page import write_page
from falconet.core.page_picture import PagePicture, PictureBox
from falconet.core.terminal import one_line
from falconet.core.types import Record
from falconet.data.check import Progress, class_counts
from falconet.data.dataset import DataSet, Problem
from falconet.data.kinds import KINDS, Kind

DRAWN = 12
"""Pictures of a kind that are drawn; what is found on further ones is listed as text."""

LISTED = 200
"""Findings of a kind that are listed as text."""

TOLD = 4
"""Findings that are told below one picture."""

MARKED, PLAIN = 30, 200
"""Findings that are marked on one picture, and other boxes that are drawn there."""

LONGEST_SIDE = 400
"""Pixels of a picture on the page."""

ROOM = 0.5
"""Share of its sides by which a picture is widened for boxes beside it."""


class Spot(NamedTuple):
    """A picture of a data set, where it is known."""

    dataset: DataSet
    record: Record


@dataclass(frozen=True, slots=True)
class Finding:
    """What is found of one kind on one picture, or on one pair of pictures.

    Attributes:
        pictures: one, or two that look alike.
        texts: what is found, some of it.
        more: findings beyond these.
    """

    pictures: Sequence[PagePicture]
    texts: Sequence[str]
    more: int


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of one kind.

    Attributes:
        name, kind: as in `KINDS`.
        count: findings in all.
        drawn: some of them, on their pictures.
        listed: others as text.
        more: findings that are neither.
    """

    name: str
    kind: Kind
    count: int
    drawn: list[Finding] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    more: int = 0


def write_check_page(
    path: Path,
    source: str,
    splits: Mapping[str, DataSet],
    problems: Sequence[Problem],
    *,
    progress: Progress | None = None,
) -> None:
    """Write the page of a data set's problems.

    Args:
        path: the file.
        source: what was checked.
        splits: the data set.
        problems: as `check_splits` gives them.
        progress: told about (kinds done, kinds in all).

    Raises:
        DataError: the page cannot be written.
    """
    by_kind: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    order = sorted(by_kind, key=lambda name: (KINDS[name].severity == "hint", list(KINDS).index(name)))
    spots = _spots(splits)
    groups = []
    for done, name in enumerate(order, start=1):
        groups.append(_group(name, by_kind[name], spots))
        if progress is not None:
            progress(done, len(order))
    title, lead = f"Check of {one_line(source)}", _lead(groups, splits)
    write_page(path, "falconet.data/pages/check.html", {"groups": groups, **_table(splits)}, title=title, lead=lead)


def _lead(groups: Sequence[Group], splits: Mapping[str, DataSet]) -> list[str]:
    mistakes = sum(group.count for group in groups if group.kind.severity == "problem")
    hints = sum(group.count for group in groups) - mistakes
    pictures = plural(sum(len(dataset) for dataset in splits.values()), "picture")
    if not groups:
        return [f"Nothing was found in {pictures}."]
    found = [text for count, text in ((mistakes, plural(mistakes, "problem")), (hints, plural(hints, "hint"))) if count]
    return [
        f"{' and '.join(found)} in {pictures}.",
        "A problem is a mistake, or probably one; a hint is worth knowing, but may well be so on purpose.",
    ]


def _table(splits: Mapping[str, DataSet]) -> dict[str, Any]:
    """Pictures and boxes, and the boxes of each class, a column for each split."""
    datasets = list(splits.values())
    counts = [class_counts(dataset) for dataset in datasets]
    rows = [
        ("pictures", [len(dataset) for dataset in datasets]),
        ("pictures without boxes", [sum(not len(record.boxes) for record in one.records) for one in datasets]),
        ("boxes", [sum(found.values()) for found in counts]),
    ]
    names = dict.fromkeys(name for found in counts for name in found)
    rows += [(f"class {one_line(name)}", [found.get(name, 0) for found in counts]) for name in names]
    return {"head": ("", *(one_line(split) for split in splits)), "rows": rows}


class _Spots(NamedTuple):
    """Where pictures are found: by file, and by the annotation that describes one alone."""

    by_path: Mapping[str, list[Spot]]
    by_source: Mapping[str, Spot]


def _spots(splits: Mapping[str, DataSet]) -> _Spots:
    by_path: defaultdict[str, list[Spot]] = defaultdict(list)
    by_source: dict[str, Spot] = {}
    for dataset in splits.values():
        for record in dataset.records:
            spot = Spot(dataset, record)
            by_path[str(record.path)].append(spot)
            by_source.setdefault(record.source, spot)
    return _Spots(by_path, by_source)


def _group(name: str, problems: Sequence[Problem], spots: _Spots) -> Group:
    group = Group(name, KINDS[name], len(problems))
    by_picture: defaultdict[tuple[str | None, str | None], list[Problem]] = defaultdict(list)
    for problem in problems:
        by_picture[_picture(problem, spots), problem.other].append(problem)
    rest: list[Problem] = []
    for (picture, other), found in by_picture.items():
        finding = None
        if picture is not None and len(group.drawn) < DRAWN:
            finding = _finding(picture, other, found, spots)
        if finding is None:
            rest += found
        else:
            group.drawn.append(finding)
    listed = [str(problem) for problem in rest[:LISTED]]
    return Group(name, group.kind, group.count, group.drawn, listed, len(rest) - len(listed))


def _picture(problem: Problem, spots: _Spots) -> str | None:
    """The file of the picture that a problem is about; a reader's problem may name its annotation alone."""
    if problem.picture is not None:
        return problem.picture
    file, _, line = problem.where.rpartition(":")
    spot = spots.by_source.get(problem.where) or (spots.by_source.get(file) if line.isdecimal() else None)
    return None if spot is None else str(spot.record.path)


def _finding(picture: str, other: str | None, problems: Sequence[Problem], spots: _Spots) -> Finding | None:
    """None where a picture cannot be read, so that there is nothing to draw on."""
    boxes = list(_boxes(spots.by_path.get(picture, []), problems[:MARKED]))
    try:
        pictures = [PagePicture.read(Path(picture), boxes, room=ROOM, longest_side=LONGEST_SIDE)]
        if other is not None:
            beside = list(_boxes(spots.by_path.get(other, []), ()))
            pictures.append(PagePicture.read(Path(other), beside, room=ROOM, longest_side=LONGEST_SIDE))
    except DataError:
        return None
    texts = [str(problem) for problem in problems[:TOLD]]
    return Finding(pictures, texts, len(problems) - len(texts))


def _boxes(spots: Sequence[Spot], problems: Sequence[Problem]) -> Iterator[PictureBox]:
    """All boxes of a picture, those that are no problem's first; then each problem's, the one it is about on top."""
    asked = {box for problem in problems for box in problem.boxes}
    spot = next((spot for spot in spots if asked <= set(_named(spot))), spots[0] if spots else None)
    named = {} if spot is None else _named(spot)
    for box in [box for box in named if box not in asked][:PLAIN]:
        yield PictureBox(box, "plain", " / ".join(named[box]))
    for problem in problems:
        classes = dict.fromkeys(name for box in problem.boxes for name in named.get(box, ()))
        for place, box in reversed(list(enumerate(problem.boxes))):
            label = " / ".join(classes) if place == 0 else ""
            yield PictureBox(box, "twin" if place else "marked", " / ".join(named.get(box, ())), label)


def _named(spot: Spot) -> dict[tuple[float, ...], list[str]]:
    """The classes of each box of a picture; a box may be there twice."""
    found: defaultdict[tuple[float, ...], list[str]] = defaultdict(list)
    record = spot.record
    for box, label, crowd in zip(record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist(), strict=True):
        name = one_line(spot.dataset.names[label])
        found[tuple(box)].append(f"{name} (crowd)" if crowd else name)
    return found
