"""Writing data sets as shards: tars of samples that `falconet.data.shards`, and WebDataset, read."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from falconet.core.files import new_folder, replace_file
from falconet.core.tar_index import file_bytes
from falconet.core.types import Record
from falconet.data.check import Progress
from falconet.data.convert import common_names, refuse_existing, standard_names, written_number
from falconet.data.dataset import DataSet, Problem
from falconet.data.records import drop_invalid

SHARD_MB = 256
"""Of a tar, about: as large as disks and networks read in one go."""

_BYTES = 1 << 20
"""Of a megabyte."""


def write_shards(
    splits: Mapping[str, DataSet], out: Path, *, shard_mb: int = SHARD_MB, progress: Progress | None = None
) -> dict[str, list[Problem]]:
    """Write the splits of a data set as `train-000000.tar`, `val-000000.tar`, ... and `classes.json` into a new folder.

    The pictures come in an order of chance, always the same: a shard then shows what the whole set shows. Only what is
    usable is written. One picture is in memory at a time, and the folder appears when it is complete.

    Args:
        shard_mb: megabytes after which a tar ends.
        progress: told about the pictures.

    Returns:
        For each split, what was left out or changed.

    Raises:
        DataError: as `falconet.data.convert.convert`.
    """
    names = common_names(splits, "coco")
    written = standard_names(list(splits))
    refuse_existing(out)
    problems: dict[str, list[Problem]] = {}
    total, done = sum(map(len, splits.values())), 0
    with new_folder(out) as part:
        for (key, dataset), split in zip(splits.items(), written, strict=True):
            chosen, problems[key] = drop_invalid(dataset)
            with _Shards(part, split, shard_mb * _BYTES) as shards:
                for index in np.random.default_rng(0).permutation(len(chosen.records)).tolist():
                    shards.add(chosen.records[index], names)
                    done += 1
                    if progress is not None:
                        progress(done, total)
        replace_file(part / "classes.json", json.dumps(names, ensure_ascii=False))
    return problems


class _Shards:
    """The tars of a split, one after the other."""

    def __init__(self, folder: Path, split: str, most: int) -> None:
        self._folder, self._split, self._most = folder, split, most
        self._count = self._samples = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, record: Record, names: tuple[str, ...]) -> None:
        """A picture, and what is known about it."""
        data = file_bytes(record.path)
        if self._tar is not None and self._tar.offset + len(data) > self._most:
            self._close()
        if self._tar is None:
            path = self._folder / f"{self._split}-{self._count:06d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # open over many samples
            self._count += 1
        key = f"{self._samples:09d}"
        self._samples += 1
        about = json.dumps(_described(record, names), ensure_ascii=False).encode()
        for ending, content in ((record.path.suffix.lower(), data), (".json", about)):
            member = tarfile.TarInfo(key + ending)
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._tar.members = []  # type: ignore[attr-defined]  # which it would keep, of a million pictures

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None


def _described(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    """What the `.json` of a picture holds."""
    areas = record.areas.tolist() if record.areas is not None else [None] * len(record.boxes)
    boxes, labels, crowd = record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist()
    annotations = []
    for (x1, y1, x2, y2), label, is_crowd, area in zip(boxes, labels, crowd, areas, strict=True):
        annotations.append(
            {
                "bbox": [written_number(value) for value in (x1, y1, x2 - x1, y2 - y1)],
                "category": names[label],
                "category_id": label,
                "iscrowd": int(is_crowd),
            }
            | ({} if area is None else {"area": written_number(area)})
        )
    return {
        "file_name": record.path.name,
        "width": record.width,
        "height": record.height,
        "annotations": annotations,
    }
