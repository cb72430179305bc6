"""`data=photos`: which part of a data set trains and which validates, where a user names the whole of it."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from falconet.core.errors import ConfigError
from falconet.data.formats import splits_of
from falconet.data.shard_names import are_shards

_log = logging.getLogger(__name__)

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation")


def find_data(path: str | Path, *, image_level_labels: bool = False, has_val: bool = False) -> dict[str, Any]:
    """The `data` of a run, as plain values, from a data set's file or folder alone.

    Its split called train trains, and val (valid, validation) validates. Without a val a part of train is set aside;
    without splits, a part of the whole. A split called test is left alone, since whoever made it keeps it for the end.

    Args:
        path: whatever `open_dataset` reads, or of a classifier a folder.
        image_level_labels: the data are a classifier's folders of pictures.
        has_val: the user says elsewhere what validates.

    Raises:
        ConfigError: nothing is there, or it has splits of which none is called train.
    """
    path = Path(path)
    if not path.exists() and not are_shards(path):
        raise ConfigError(f"data={path}: no such file or folder; expected a data set with pictures and boxes")
    names = _folders(path) if image_level_labels else splits_of(path)
    train, val = _first(TRAIN, names), _first(VAL, names)
    if train is None and val is None and len(names) < 2:
        return {"train": {"annotations": str(path)}}
    if train is None:
        raise ConfigError(
            f"data={path}: holds {', '.join(names)}, but no split called train; say which one trains, as in "
            f"data.train={path} data.train.split={names[0]}"
        )
    others = [name for name in names if name not in (train, val)]
    if val is None and others and not has_val:
        _log.info(
            "%s: no split called val, so a part of %s is set aside for validation; to validate on %s instead: %s",
            path,
            train,
            others[0],
            f"data.val={path / others[0]}" if image_level_labels else f"data.val.split={others[0]}",
        )
    found = {"train": train} | ({} if val is None else {"val": val})
    if image_level_labels:
        return {key: {"annotations": str(path / name)} for key, name in found.items()}
    return {key: {"annotations": str(path), "split": name} for key, name in found.items()}


def _folders(path: Path) -> tuple[str, ...]:
    """Folders called like splits in a folder; none where there is no train: then its folders are classes."""
    names = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir()] if path.is_dir() else []
    known = [name for name in names if name in (*TRAIN, *VAL, "test")]
    return tuple(known) if _first(TRAIN, known) is not None else ()


def _first(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    known = tuple(names)
    return next((name for name in wanted if name in known), None)
