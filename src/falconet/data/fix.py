"""A repaired copy of a data set, and the list of what was done; the original is only read."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from falconet.core.errors import DataError
from falconet.core.files import new_folder, replace_file
from falconet.core.suggest import listed
from falconet.data.check import Progress, check_splits, open_splits
from falconet.data.convert import refuse_existing
from falconet.data.copy_coco import write_as_coco, write_coco_copy
from falconet.data.copy_files import Copier
from falconet.data.copy_voc import write_voc_copy
from falconet.data.copy_yolo import write_yolo_copy
from falconet.data.dataset import DataSet, Problem, Written
from falconet.data.kinds import HINTS
from falconet.data.repair import Repair, Repaired, repair
from falconet.data.repair_pictures import without_copies
from falconet.data.voc import root_of

LIST = "fix.json"

_WRITTEN: Mapping[str | None, Written] = {
    "coco": "coco", "voc": "voc", "yolo": "yolo", "darknet": "yolo", "labelimg": "yolo"
}  # fmt: skip
"""What a copy of a format is written in; of all others, COCO."""

_GUESSED = frozenset({"other-picture", "other-annotation", "duplicate-image-id"})
"""Kinds that a copy does not show, as it has what was taken when reading; whether rightly, somebody has to say."""


class Fixed(NamedTuple):
    """What was done."""

    out: Path
    written: Written
    """format of the copy."""
    repairs: list[Repair]
    left: list[Problem]
    """what the check of the copy finds, and what was guessed when reading; hints are among it."""
    lost: list[str]
    """what the original says and the copy does not, beside what was repaired."""

    def counts(self) -> dict[str, int]:
        """Number of repairs by kind, most frequent first."""
        return dict(Counter(one.kind for one in self.repairs).most_common())

    def as_json(self) -> dict[str, Any]:
        """What `fix.json` holds."""
        left = [
            {
                "where": problem.where,
                "what": problem.what,
                "kind": problem.kind,
                "severity": "hint" if problem.kind in HINTS else "problem",
            }
            for problem in self.left
        ]
        return {
            "copy": str(self.out),
            "format": self.written,
            "summary": self.counts(),
            "repaired": [repair._asdict() for repair in self.repairs],
            "left": left,
            "lost": self.lost,
        }


def fix(
    splits: Mapping[str, DataSet],
    problems: Sequence[Problem],
    out: Path,
    *,
    decode: bool = True,
    progress: Progress | None = None,
) -> Fixed:
    """Write a repaired copy of a data set to the new folder `out`, with the list `fix.json`, and check the copy.

    Pictures are copied byte by byte. Annotations that need no repair are those of the original, also in what is not
    read here. The folder appears when it is complete.

    Args:
        splits: all of the data set.
        problems: theirs, from `check_splits`.
        decode: decode the pictures of the copy when it is checked, as `check_splits`.
        progress: told about the pictures that are copied, and then about those that are decoded.

    Raises:
        DataError: `out` holds files, lies within the data set, or cannot be written; so much is wrong that something
            else must be (see `falconet.data.repair`).
    """
    _refuse_inside(splits.values(), out)
    refuse_existing(out)
    repaired, repairs = repair(splits, problems)
    repaired, copies = without_copies(repaired)
    form = _WRITTEN.get(next(iter(splits.values())).format, "coco")
    copier = Copier(sum(len(one.pictures) for one in repaired.values()), progress)
    with new_folder(out) as part:
        _write(repaired, form, part, copier)
        found = check_splits(open_splits(part), decode=decode, progress=progress)
        left = [problem for problem in problems if problem.kind in _GUESSED]
        left += [_moved(problem, part, out) for problem in found]
        fixed = Fixed(out, form, list(dict.fromkeys([*repairs, *copies])), left, _lost(splits, repaired))
        replace_file(part / LIST, json.dumps(fixed.as_json(), ensure_ascii=False, indent=1))
    return fixed


def _write(repaired: Mapping[str, Repaired], form: Written, root: Path, copier: Copier) -> None:
    if form == "voc":
        write_voc_copy(repaired, root, copier)
    elif form == "yolo":
        write_yolo_copy(repaired, root, copier)
    else:
        for split, part in repaired.items():
            source = Path(part.dataset.source)
            name = source.stem if split == "all" and source.suffix == ".json" else split
            name = "annotations" if f"{name}.json" == LIST else name
            write = write_coco_copy if part.dataset.format == "coco" else write_as_coco
            write(part, name, root, copier)


def _lost(splits: Mapping[str, DataSet], repaired: Mapping[str, Repaired]) -> list[str]:
    """What copies of these data sets do not say."""
    first = next(iter(splits.values()))
    if first.format in ("darknet", "labelimg"):
        return ["data.yaml describes the copy, in place of the lists and names of the original"]
    if first.format not in _WRITTEN:
        return [
            "the copy is a COCO file with pictures, boxes, classes and crowds, and has nothing else of the original"
        ]
    if first.format == "voc":
        lists = root_of(Path(first.source)) / "ImageSets" / "Main"
        others = sorted(file.name for file in lists.glob("*.txt") if file.stem not in splits)
        return [f"lists in ImageSets/Main that the copy has not: {listed(others, 5)}"] if others else []
    if first.format == "coco" and any(one.turned for part in repaired.values() for one in part.pictures):
        return ["segmentations and key points of annotations whose boxes were turned, where there were any"]
    return []


def _refuse_inside(splits: Iterable[DataSet], out: Path) -> None:
    """Raise DataError where the copy would lie among the files of the original."""
    place = out.resolve()
    for dataset in splits:
        source = Path(dataset.source).resolve()
        folders = {record.path.resolve().parent for record in dataset.records} | (
            {source} if source.is_dir() else set()
        )
        inside = next((folder for folder in folders if folder == place or folder in place.parents), None)
        if inside is not None:
            raise DataError(f"{out}: lies in the data set, in {inside}; give a folder outside of it")


def _moved(problem: Problem, part: Path, out: Path) -> Problem:
    """The problem with the places that the finished copy has."""

    def moved(text: str) -> str:
        return text.replace(str(part), str(out))

    picture, other = problem.picture and moved(problem.picture), problem.other and moved(problem.other)
    return problem._replace(where=moved(problem.where), what=moved(problem.what), picture=picture, other=other)
