"""`falconet data suspects`: which labels a model doubts that has not learnt from them."""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from falconet.api.folds import Folds, HeldOut, Progress, is_of, split
from falconet.api.train import free_folder
from falconet.core.errors import ConfigError
from falconet.core.figures import percent, plural
from falconet.core.files import replace_file
from falconet.core.run_files import RUN_FILE, find_weights
from falconet.core.types import Record
from falconet.eval.suspects import KINDS, Suspect, find_suspects
from falconet.eval.suspects_files import coco_tree, rows
from falconet.eval.suspects_page import write_suspects_page
from falconet.eval.suspects_tasks import label_studio_tasks

if TYPE_CHECKING:
    from falconet.training import RunConfig
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

PAGE, LIST, COCO, FOLDS = "suspects.html", "suspects.json", "suspects.coco.json", "folds"
TASKS = "suspects.label-studio.json"

STEPS, LEAST_EPOCHS = 150, 3
"""A training that starts from trained weights takes so many steps, and sees each picture so often, at least; what
that finds is told in docs/suspects.md."""

MOST_SHOWN, SHARE_SHOWN = 200, 0.1
"""The page shows so many suspects at most, and so many of all labels."""


_SOURCES = re.compile(r"data(\.train|\.val)?(\.(annotations|images|split))?=")
"""Overrides that say where the pictures are; those of a fold are in files of its own."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Labels that are doubted, the most doubtful first.

    Attributes:
        path: folder of the page, the lists and the trainings.
        run: what was trained.
        names: class names.
        held_out: pictures with their labels, and what was answered for them.
        suspects: all of them.
        shown: how many of these the page shows and the COCO file marks.
        notes: what is worth telling.
    """

    path: Path
    run: str
    names: tuple[str, ...]
    held_out: HeldOut
    suspects: tuple[Suspect, ...]
    shown: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def labels(self) -> int:
        """How many labels were looked at."""
        return sum(int((~record.crowd).sum()) for record in self.held_out.records)

    def lines(self) -> list[str]:
        """How many of each kind, and where to look."""
        counts = Counter(suspect.kind for suspect in self.suspects[: self.shown])
        return [self._summary(), *(f"{counts[kind]:6d}  {kind}: {meaning}" for kind, meaning in KINDS.items())]

    def _summary(self) -> str:
        folds = ", ".join(percent(value) for value in self.held_out.ap)
        return (
            f"{plural(self.labels, 'label')} in {plural(len(self.held_out.records), 'picture')} were looked at by "
            f"models that had not seen the picture (AP on these labels as they are: {folds}). Of "
            f"{plural(len(self.suspects), 'suspect')}, here are the {self.shown:,} that are doubted most."
        )

    def as_dict(self) -> dict[str, Any]:
        """For programs; docs/suspects.md names the fields."""
        counts = Counter(suspect.kind for suspect in self.suspects)
        return {
            "run": self.run,
            "classes": list(self.names),
            "images": len(self.held_out.records),
            "labels": self.labels,
            "folds": [{"AP": value} for value in self.held_out.ap],
            "shown": self.shown,
            "counts": {kind: counts[kind] for kind in KINDS},
            "notes": list(self.notes),
            "suspects": rows(self.names, self.held_out.records, self.suspects),
        }

    def save(self) -> None:
        """Write the page and both lists into the folder."""
        document = json.dumps(self.as_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        first = self.suspects[: self.shown]
        tree = coco_tree(self.names, self.held_out.records, first)
        replace_file(self.path / LIST, document)
        replace_file(self.path / COCO, json.dumps(tree, ensure_ascii=False, allow_nan=False) + "\n")
        tasks = label_studio_tasks(self.names, self.held_out.records, first)
        replace_file(self.path / TASKS, json.dumps(tasks, ensure_ascii=False, allow_nan=False) + "\n")
        write_suspects_page(
            self.path / PAGE,
            self.names,
            self.held_out.records,
            self.suspects,
            shown=self.shown,
            title=f"Labels in doubt: {self.run}",
            lead=[self._summary()],
            notes=self.notes,
        )


def suspects(
    run: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    folds: int = 3,
    count: int | None = None,
    callback: "Callback | None" = None,
    progress: Progress = iter,
) -> Suspects:
    """Say which labels of a run's data are doubtful, as `falconet data suspects` does, and write it into a folder.

    Each picture is answered by a detector that was trained without it, from what the run started from: the run's own
    weights have learnt these labels. The command goes on where it was interrupted.

    Args:
        run: a run's folder, a run file or a preset.
        overrides: changes of the trainings, KEY=VALUE.
        out: the folder; None: `suspects` in the run's folder, of others runs/NAME-suspects.
        folds: how many trainings.
        count: suspects that the page shows; None: a tenth of the labels, `MOST_SHOWN` at most.
        callback: follows each training.
        progress: wraps the pictures of a fold while they are answered.

    Raises:
        ConfigError: a classifier, too few pictures, or a folder that holds something else.
        Otherwise as `falconet.train`.
    """
    from falconet.api.require import require

    require(["torch", "hotcoco", "jinja2"], extra="train", purpose="asking which labels are doubtful")
    from falconet import training

    source, asked = _asked(run, overrides)
    names, records, notes = _labelled(asked)
    parts = split(records, folds)
    own, more = _schedule(asked, overrides, pictures=len(records) - parts.count(0))
    notes += [*more, *_seen(asked, records)]
    changes = (*overrides, *own)
    settings = training.read_run(source, changes).model_dump(mode="json", exclude={"output", "data"})
    path = _folder(Path(run), asked, out)
    kept = tuple(change for change in changes if not _SOURCES.match(change))
    trainings = Folds(path / FOLDS, source, kept, settings, names, records, parts)
    if out is None and path.exists() and not is_of(trainings.path, trainings.asked()):
        path = free_folder(path)
        trainings = replace(trainings, path=path / FOLDS)
    for note in notes:
        _log.info("%s", note)
    held_out = trainings.answer(callback=callback, progress=progress)
    found = find_suspects(names, held_out.records, held_out.answers)
    labels = sum(int((~record.crowd).sum()) for record in held_out.records)
    shown = min(MOST_SHOWN, math.ceil(SHARE_SHOWN * labels)) if count is None else count
    left_out = [f"left out: {why}" for why in held_out.left_out]
    done = Suspects(path, source, names, held_out, found, min(shown, len(found)), (*notes, *left_out))
    done.save()
    return done


def _asked(run: str | Path, overrides: Sequence[str]) -> tuple[str, "RunConfig"]:
    """What the trainings are made of: a run file or a preset, and the run that it describes."""
    from falconet import training

    path = Path(run)
    if any(override.startswith("output=") for override in overrides):
        raise ConfigError("output= is where a training goes; the folder of suspects is named by --out FOLDER")
    if path.is_dir() and not (path / RUN_FILE).is_file():
        raise ConfigError(
            f"{path}: holds no {RUN_FILE}; expected the folder of a run of 'falconet train', a run file or a preset"
        )
    source = str(path / RUN_FILE) if path.is_dir() else str(run)
    asked = training.read_run(source, overrides)
    if asked.model.name == "classifier":
        raise ConfigError(
            f"{run}: is a classifier, whose labels are folders; expected a detector, whose labels are boxes"
        )
    return source, asked


def _labelled(asked: "RunConfig") -> tuple[tuple[str, ...], tuple[Record, ...], list[str]]:
    """Class names, and each picture that trains or validates, once; notes."""
    from falconet.training.run_data import load_data

    data = load_data(asked.data.model_copy(update={"unlabelled": None}))
    by_path = {record.path: record for record in (*data.train, *data.val)}
    return data.names, tuple(by_path.values()), [note for note in data.notes if "left out or cut" in note]


def _schedule(asked: "RunConfig", overrides: Sequence[str], *, pictures: int) -> tuple[list[str], list[str]]:
    """Overrides that make a training short and honest, and notes on what was changed."""
    said = {override.partition("=")[0] for override in overrides}
    own, notes = ["train.loggers=[]", "train.patience=null"], []
    if asked.train.teacher is not None or asked.data.unlabelled is not None:
        own += ["train.teacher=null", "data.unlabelled=null"]
        notes.append("the run's teacher is left out: it may have learnt these labels")
    if said & {"train.epochs", "train.minutes"}:
        return own, notes
    if asked.train.weights is None:
        notes.append(
            "this run starts from nothing, so each fold is trained as long as the run was; train.epochs=N or "
            "train.minutes=N makes it shorter, train.weights=auto starts from published weights"
        )
        return own, notes
    steps = pictures / asked.train.batch_size
    epochs = min(asked.train.epochs, max(LEAST_EPOCHS, math.ceil(STEPS / steps)))
    notes.append(f"each fold is trained for {plural(epochs, 'epoch')} (train.epochs=N or train.minutes=N: otherwise)")
    return [*own, "train.minutes=null", f"train.epochs={epochs}", f"train.validate_every={epochs}"], notes


def _seen(asked: "RunConfig", records: Sequence[Record]) -> list[str]:
    """A warning where the weights that the trainings start from have learnt from some of these pictures."""
    from falconet.data.fingerprint import fingerprints
    from falconet.models.weights import load_trained_on

    weights = asked.train.weights
    if not isinstance(weights, Path) or not weights.exists():
        return []
    start = find_weights(weights)
    learnt = load_trained_on(start) if start.suffix == ".safetensors" else None
    count = 0 if learnt is None else int(np.isin(fingerprints(records), learnt).sum())
    if not count:
        return []
    return [
        f"{start} have learnt from {count:,} of these {len(records):,} pictures, and hide mistakes that they have "
        "learnt; train.weights=auto starts from published weights instead"
    ]


def _folder(run: Path, asked: "RunConfig", out: str | Path | None) -> Path:
    if out is not None:
        return Path(out)
    return run / "suspects" if run.is_dir() else asked.output.with_name(f"{asked.output.name}-suspects")
