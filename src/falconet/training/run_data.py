"""The data of a run: which pictures train, which validate, what is left out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from falconet.core.errors import ConfigError, DataError
from falconet.core.figures import plural
from falconet.core.images import image_size, is_picture
from falconet.core.suggest import did_you_mean, listed
from falconet.core.types import Record
from falconet.data.check import spelt_twice
from falconet.data.columns import class_counts, classes_of, columns, joined, paths, relabelled, take
from falconet.data.dataset import DataSet, Problem
from falconet.data.folders import open_image_folder
from falconet.data.formats import open_dataset
from falconet.data.listing import walk
from falconet.data.records import drop_invalid
from falconet.data.shard_names import are_shards
from falconet.data.shards import read_shards
from falconet.data.subset import subset
from falconet.training.run_config import Data, Source

_log = logging.getLogger(__name__)

SHOWN = 10
"""Problems that are told one by one."""


@dataclass(frozen=True, slots=True)
class RunData:
    """Class names and records of a run.

    Attributes:
        names: class names, from the training data.
        train, val: records; labels of both index `names`.
        notes: what is worth telling before training starts.
    """

    names: tuple[str, ...]
    train: Sequence[Record]
    val: Sequence[Record]
    notes: tuple[str, ...]


def load_data(data: Data, *, image_level_labels: bool = False) -> RunData:
    """Open and check the data of a run.

    Args:
        image_level_labels: the data are image folders, see `falconet.data.folders`.

    Raises:
        DataError: nothing usable, no box to learn from, or a validation class that training does not know.
        ConfigError: the run file names other classes than the data.
    """
    notes: list[str] = []
    train = _open(data.train, "training", notes, classes=data.classes, image_level_labels=image_level_labels)
    train.refuse_same_names()
    train_records, val_records = _parts(data, train, notes, image_level_labels=image_level_labels)
    if data.classes is not None:
        _refuse_unknown(data.classes, train)
        (chosen, gone), (val, _) = (
            replace(train, records=records).only(data.classes) for records in (train_records, val_records)
        )
        if len(data.classes) < len(train.names):
            notes.append(_others_left_out(data.classes, train, gone, pictures=image_level_labels))
        train, train_records, val_records = chosen, chosen.records, val.records
        if image_level_labels:
            train_records, val_records = (tuple(r for r in rs if len(r.labels)) for rs in (train_records, val_records))
    if image_level_labels and len(train.names) == 1:
        raise DataError(
            f"{train.source}: holds a single class, {train.names[0]}, and whatever answers that is always right; "
            "expected two folders at least: put pictures that show something else into a folder of their own, "
            "such as 'other'"
        )
    train_records = _part_of(data, train_records, notes)
    every, crowds = class_counts(train_records, len(train.names))
    counts = every - crowds
    if not counts.any():
        why = "\n".join(
            [f"{train.source}: no training picture has a box that counts, so there is nothing to learn", *notes]
        )
        raise DataError(why)
    empty = sum(int((np.diff(block.starts) == 0).sum()) for block in columns(train_records))
    without = "" if image_level_labels else f" ({empty} without boxes)"
    if data.unlabelled is not None:
        train_records = joined([train_records, _unlabelled(data.unlabelled, [train_records, val_records], notes)])
    _tell_overlap(train_records, val_records, notes)
    notes.append(f"data: {len(train_records)} training pictures{without}, {len(val_records)} for validation")
    if not any((~record.crowd).any() for record in val_records):
        notes.append("validation: none of its pictures has a box that counts, so AP will be -1, for nothing to measure")
    for name, usual in spelt_twice({name: int(n) for name, n in zip(train.names, counts, strict=True) if n}):
        notes.append(
            f"the classes '{name}' and '{usual}' are spelt almost alike, and are learnt as two; 'falconet data check' "
            "says more"
        )
    notes.append(
        f"classes ({'pictures' if image_level_labels else 'boxes'}): "
        + ", ".join(f"{name} ({counts[c]})" for c, name in enumerate(train.names))
    )
    return RunData(train.names, train_records, val_records, tuple(notes))


def _tell_overlap(train: Sequence[Record], val: Sequence[Record], notes: list[str]) -> None:
    """Say where pictures are trained on and validated on."""
    validated = set(paths(val))
    both = {path for path in paths(train) if path in validated}
    if both:
        notes.append(
            f"validation: {len(both)} of its {len(val)} pictures are also trained on, so its figures will be "
            f"better than on new pictures ({min(both).name}{' and others' if len(both) > 1 else ''})"
        )


def _part_of(data: Data, records: Sequence[Record], notes: list[str]) -> Sequence[Record]:
    """The share of the training pictures that `data.fraction` asks for."""
    if data.fraction >= 1:
        return records
    part = subset(records, fraction=data.fraction, seed=data.fraction_seed)
    whole = plural(len(records), "training picture")
    notes.append(f"data.fraction: {len(part)} of {whole}, drawn by class (seed {data.fraction_seed})")
    return part


def _parts(
    data: Data, train: DataSet, notes: list[str], *, image_level_labels: bool
) -> tuple[Sequence[Record], Sequence[Record]]:
    """The records to train on and to validate on, as given or set aside."""
    if data.val is None:
        records = train_val_split(train.records, fraction=data.val_fraction)
        if not records[1]:
            raise DataError(
                f"{train.source}: a single picture cannot be split into training and validation; "
                "give data.val, or more pictures"
            )
        notes.append(
            f"validation: no data.val given; {len(records[1])} of {len(train)} pictures are set aside for it, the "
            "same in every run of these data"
        )
        return records
    val = _open(data.val, "validation", notes, classes=data.classes, image_level_labels=image_level_labels)
    if data.classes is not None:
        val, _ = val.only([name for name in data.classes if name in val.names])
    return train.records, _relabelled(val, train)


def _refuse_unknown(classes: tuple[str, ...], train: DataSet) -> None:
    """Raise ConfigError where the run file names a class that the data do not have, or one twice."""
    if unknown := [name for name in classes if name not in train.names]:
        hint = did_you_mean(unknown[0], train.names)
        raise ConfigError(
            f"data.classes: {', '.join(unknown)} not in {train.source}{f'; {hint}' if hint else ''}\n"
            f"  asked for: {', '.join(classes)}\n"
            f"  data:      {', '.join(train.names)}\n"
            "expected some or all of these names, in the order that the model shall have"
        )
    if len(set(classes)) < len(classes):
        raise ConfigError(f"data.classes: {', '.join(classes)}: expected each name once")


def _others_left_out(classes: tuple[str, ...], train: DataSet, gone: int, *, pictures: bool) -> str:
    others = [name for name in train.names if name not in classes]
    if pictures:
        return f"data.classes: {plural(gone, 'training picture')} of other classes left out ({listed(others, SHOWN)})"
    return (
        f"data.classes: {plural(gone, 'training box', 'training boxes')} of other classes left out "
        f"({listed(others, SHOWN)}); what they show is background"
    )


def train_val_split(records: Sequence[Record], *, fraction: float) -> tuple[Sequence[Record], Sequence[Record]]:
    """(train, validation): a share of the pictures drawn without regard to the run's seed, both in their order.

    Each class gives its share, the rarest first, so that none of two pictures or more is missing on either side while
    the share has room for it; pictures without boxes count as a class.
    """
    count = min(len(records) - 1, max(1, round(fraction * len(records))))
    drawn = np.random.default_rng(0).permutation(len(records))
    rank = np.empty_like(drawn)
    rank[drawn] = np.arange(len(records))
    pictures, labels = classes_of(records)
    order = np.argsort(rank[pictures], kind="stable")
    pictures, labels = pictures[order], labels[order]
    chosen = np.zeros(len(records), np.bool_)
    names, numbers = np.unique(labels, return_counts=True)
    for name in names[np.lexsort((names, numbers))].tolist():
        own = pictures[labels == name]
        wanted = min(len(own) - 1, max(1, round(fraction * len(own)))) - int(chosen[own].sum())
        free = own[~chosen[own]]
        chosen[free[: max(0, min(wanted, count - int(chosen.sum())))]] = True
    rest = drawn[~chosen[drawn]]
    chosen[rest[: count - int(chosen.sum())]] = True
    return take(records, np.flatnonzero(~chosen)), take(records, np.flatnonzero(chosen))


def _open(
    source: Source, purpose: str, notes: list[str], *, classes: Sequence[str] | None, image_level_labels: bool
) -> DataSet:
    """The usable part of a data set; `classes` name the numbers in shards that have no list of classes."""
    if image_level_labels:
        if source.images is not None or source.split is not None:
            raise ConfigError(
                f"{source.place}: a classifier learns from a folder of one folder of pictures per class; "
                "expected neither data.*.images nor data.*.split beside it: give the split's own folder"
            )
        if source.shards is not None:
            raise ConfigError(
                f"{source.place}: shards hold boxes, but a classifier learns from a folder of one folder of pictures "
                "per class; give that folder as data.train instead of data.train.shards"
            )
        dataset, problems = open_image_folder(source.place)
    else:
        dataset, problems = drop_invalid(_dataset(source, classes))
    if problems:
        notes.append(_left_out(problems, purpose, counted_by_check=not image_level_labels))
    return dataset


def _dataset(source: Source, classes: Sequence[str] | None) -> DataSet:
    if source.shards is not None:
        return read_shards(source.shards, classes)
    if are_shards(source.place) and source.images is None and source.split is None:
        return read_shards([source.place], classes)
    return open_dataset(source.place, source.images, split=source.split)


def _unlabelled(folder: Path, others: Sequence[Sequence[Record]], notes: list[str]) -> list[Record]:
    """The pictures below a folder that are not among `others`: each one area about which annotations say nothing."""
    files = [path for path in walk(folder) if is_picture(path)]
    if not files:
        raise DataError(f"{folder}: holds no pictures; expected those of data.unlabelled")
    own = {path.absolute() for path in files}
    known = {path for records in others for path in map(Path.absolute, paths(records)) if path in own}
    records = []
    for path in (path for path in files if path.absolute() not in known):
        try:
            height, width = image_size(path)
        except DataError as error:
            notes.append(f"data.unlabelled: left out: {error}")
            continue
        everything = np.array([[0, 0, width, height]], np.float32)
        crowd = np.ones(1, np.bool_)
        records.append(Record(str(path), path, width, height, everything, np.zeros(1, np.int64), crowd))
    already = sum(path.absolute() in known for path in files)
    notes.append(
        f"unlabelled: {len(records)} pictures of {folder}, of which train.teacher says what they show"
        + (f"; {already} others are part of the training or validation data already" if already else "")
    )
    return records


def _left_out(problems: Sequence[Problem], purpose: str, *, counted_by_check: bool) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{purpose} data: {count}; what is concerned is left out or cut:"]
    lines += [f"  {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        where = "; 'falconet data check' lists all" if counted_by_check else ""
        lines.append(f"  and {len(problems) - SHOWN} more{where}")
    return "\n".join(lines)


def _relabelled(val: DataSet, train: DataSet) -> Sequence[Record]:
    """Validation records with the labels of the training data; classes are matched by name."""
    if val.names == train.names:
        return val.records
    position = {name: index for index, name in enumerate(train.names)}
    unknown = [name for name in val.names if name not in position]
    if unknown:
        raise DataError(
            f"{val.source}: its classes do not fit those of the training data: {', '.join(unknown)} not in it\n"
            f"  training:   {', '.join(train.names)}\n"
            f"  validation: {', '.join(val.names)}\n"
            "expected the same names, spelled the same; correct the annotations of one of them"
        )
    table = np.array([position[name] for name in val.names], np.int64)
    return relabelled(val.records, table)
