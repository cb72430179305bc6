"""Answers of detectors that have not seen the picture: trained in k folds, each answering for the pictures left out."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from falconet.api.engines import open_engine
from falconet.api.train import train_with
from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.errors import ConfigError, DataError
from falconet.core.figures import duration, plural
from falconet.core.files import replace_file
from falconet.core.manifest import Selection
from falconet.core.run_files import LAST, METRICS, RUN_FILE
from falconet.core.terminal import argument
from falconet.core.types import Detections, Record
from falconet.eval.answers import answer_records
from falconet.runtime.predictor import Predictor

if TYPE_CHECKING:
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

SELECTION = Selection(score_threshold=0.01, max_detections=300)
"""What a detector says of a picture, however unsure it is."""

ASKED = "asked.json"
"""What the trainings in a folder are of."""

Progress = Callable[[Sequence[Record]], Iterable[Record]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was answered for pictures that were not learnt from.

    Attributes:
        records: pictures that could be read.
        answers: aligned, down to the lowest scores; labels index the names of the data.
        ap: of each fold, on its own pictures and their labels as they are; a fraction.
        left_out: why each other picture is missing.
    """

    records: tuple[Record, ...]
    answers: tuple[Detections, ...]
    ap: tuple[float, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folds:
    """Trainings that leave out a part of the pictures each.

    Attributes:
        path: folder of all.
        run, overrides: as of `falconet train`; the data are replaced by the parts.
        settings: what these come to, as plain values.
        names: of the classes.
        records: all pictures; labels index `names`.
        parts: the part of each picture, 0, 1, ...
    """

    path: Path
    run: str
    overrides: tuple[str, ...]
    settings: dict[str, Any]
    names: tuple[str, ...]
    records: tuple[Record, ...]
    parts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many trainings."""
        return max(self.parts) + 1

    def asked(self) -> dict[str, Any]:
        """What decides the answers, as plain values."""
        return {"run": self.settings, "folds": self.count, "labels": self._labels()}

    def answer(self, *, callback: "Callback | None" = None, progress: Progress = iter) -> HeldOut:
        """Train what is not trained yet, and answer for every picture.

        A fold that is finished in its folder is not repeated, one that was interrupted goes on.

        Args:
            callback: follows each training.
            progress: wraps the pictures of a fold while they are answered.

        Raises:
            ConfigError: the folder holds trainings of something else.
            Otherwise as `falconet.train`.
        """
        refuse_others(self.path, self.asked())
        replace_file(self.path / ASKED, json.dumps(self.asked(), indent=2) + "\n")
        scores, left_out, took = [], [], 0.0
        kept: list[tuple[int, Detections]] = []
        for part in range(self.count):
            started = time.monotonic()
            answers = self.path / f"{self._folder(part).name}.answers.json"
            if not answers.is_file():
                left = f", about {duration(took / part * (self.count - part))} left" if took else ""
                _log.info("fold %d of %d%s: %s", part + 1, self.count, left, argument(self._folder(part)))
                folder = self._trained(part, callback)
                replace_file(answers, json.dumps(self._answered(part, folder, progress)))
                took += time.monotonic() - started
            told = _read(answers)
            kept += [(place, _detections(one, self.names)) for place, one in told["answers"]]
            scores.append(float(told["AP"]))
            left_out += told["left_out"]
        kept.sort(key=lambda one: one[0])
        return HeldOut(
            tuple(self.records[place] for place, _ in kept),
            tuple(found for _, found in kept),
            tuple(scores),
            tuple(left_out),
        )

    def _answered(self, part: int, folder: Path, progress: Progress) -> dict[str, Any]:
        """What the detector of a fold says of its pictures, by their places among all."""
        place_of = {record.path: place for place, record in enumerate(self.records) if self.parts[place] == part}
        predictor = Predictor(open_engine(folder / LAST), selection=SELECTION)
        own = [self.records[place] for place in place_of.values()]
        done = answer_records(predictor.predict, own, progress=progress)
        answers = [
            (place_of[record.path], _plain(found)) for record, found in zip(done.records, done.answers, strict=True)
        ]
        return {"AP": _last_ap(folder), "answers": answers, "left_out": done.left_out}

    def _folder(self, part: int) -> Path:
        return self.path / f"fold-{part + 1}"

    def _trained(self, part: int, callback: "Callback | None") -> Path:
        from falconet import training

        folder = self._folder(part)
        if (folder / RUN_FILE).is_file():
            return training.resume(folder, callback=callback)
        sources = {}
        for name, chosen in (("train", False), ("val", True)):
            sources[name] = self.path / f"{folder.name}.{name}.json"
            records = [one for one, other in zip(self.records, self.parts, strict=True) if (other == part) == chosen]
            replace_file(sources[name], _coco_text(self.names, records))
        own = [f"data.train={sources['train']}", f"data.val={sources['val']}", f"output={folder}"]
        return train_with(self.run, [*self.overrides, *own], callback=callback).path

    def _labels(self) -> str:
        """A fingerprint of pictures, classes and boxes."""
        digest = hashlib.blake2b(_coco_text(self.names, self.records).encode(), digest_size=16)
        return digest.hexdigest()


def split(records: Sequence[Record], count: int, *, seed: int = 0) -> tuple[int, ...]:
    """The part, 0 to `count` - 1, of each picture: parts of the same size, over which each class is spread.

    Pictures are dealt out one after the other, those of the rarest class first.

    Raises:
        ConfigError: fewer than two parts, or fewer pictures than parts.
    """
    if count < 2:
        raise ConfigError(f"--folds {count}: expected two at least; what answers must not have seen the picture")
    if len(records) < 2 * count:
        raise ConfigError(
            f"--folds {count}: the data have {plural(len(records), 'picture')}; expected two for each fold at least"
        )
    counts = np.bincount(np.concatenate([record.labels for record in records]), minlength=1)
    rank = np.argsort(np.argsort(counts, kind="stable"))  # of each class, the rarest is 0
    rarest = np.array([min(rank[record.labels].tolist(), default=len(rank)) for record in records])
    drawn = np.random.default_rng(seed).permutation(len(records))
    order = drawn[np.argsort(rarest[drawn], kind="stable")]
    parts = np.empty(len(records), np.int64)
    parts[order] = np.arange(len(records)) % count
    return tuple(parts.tolist())


def is_of(path: Path, asked: dict[str, Any]) -> bool:
    """Whether the trainings in a folder are of this."""
    try:
        return bool(json.loads((path / ASKED).read_text(encoding="utf-8")) == asked)
    except (OSError, ValueError):
        return False


def refuse_others(path: Path, asked: dict[str, Any]) -> None:
    """Raise ConfigError where a folder holds something else."""
    if path.exists() and any(path.iterdir()) and not is_of(path, asked):
        raise ConfigError(
            f"{path}: holds something else than folds of this run and these labels; choose another folder: --out NEW"
        )


def _plain(found: Detections) -> dict[str, Any]:
    return {"boxes": found.boxes.tolist(), "scores": found.scores.tolist(), "labels": found.labels.tolist()}


def _detections(told: dict[str, Any], names: tuple[str, ...]) -> Detections:
    return Detections(told["boxes"], told["scores"], told["labels"], names)


def _read(answers: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{answers}: cannot be read ({error}); remove it, and the fold answers once more") from error
    return told


def _last_ap(folder: Path) -> float:
    from falconet.eval.report import read_history

    found = [float(entry["AP"]) for entry in read_history(folder / METRICS) if "AP" in entry]
    return found[-1] if found else -1.0


def _coco_text(names: Sequence[str], records: Sequence[Record]) -> str:
    """Pictures by their absolute paths, and their boxes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        size = {"width": record.width, "height": record.height}
        images.append({"id": number, "file_name": record.path.absolute().as_posix(), **size})
        sizes = [None] * len(record.boxes) if record.areas is None else record.areas.tolist()
        areas = [None if size is None or np.isnan(size) else size for size in sizes]
        boxes, labels, crowds = record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist()
        for box, label, area, crowd in zip(boxes, labels, areas, crowds, strict=True):
            result = coco_result(number, label, box, digits=6)
            annotations.append(coco_annotation(len(annotations) + 1, result, area=area, crowd=crowd))
    tree = {"images": images, "annotations": annotations, "categories": coco_categories(names)}
    return json.dumps(tree, ensure_ascii=False)
