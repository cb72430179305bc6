"""Some pictures of a data set with their boxes drawn in."""

import os
from pathlib import Path

import numpy as np

from falconet.core.draw import draw_boxes, grid
from falconet.core.errors import DataError
from falconet.core.images import read_image, write_image
from falconet.core.resize import resize_to
from falconet.core.types import Floats, Pixels, Record
from falconet.data.check import open_splits
from falconet.data.dataset import DataSet, Problem
from falconet.data.records import drop_invalid

CELL = (240, 320)
"""(height, width) of a picture on the sheet."""


def show(
    annotations: Path,
    out: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    count: int = 16,
    seed: int = 0,
) -> tuple[list[Path], list[Problem]]:
    """Write `count` pictures, chosen at random, with their boxes to `out`, and all on `out/sheet.jpg`.

    Crowd boxes are marked as such. Each split has its share of the pictures.

    Returns:
        The files written, and problems of the data set (what is drawn is what training would use).

    Raises:
        DataError: as `open_dataset`, no picture can be decoded, or `out` is where pictures of the data set lie.
    """
    splits = open_splits(annotations, images, split=split)
    for dataset in splits.values():
        _refuse_pictures_folder(dataset, out)
    chosen, problems = _choose(splits, count, seed)
    cells: list[Pixels] = []
    written: list[Path] = []
    for name, dataset, record in chosen:
        try:
            image, _ = read_image(record.path)
        except DataError as error:
            problems.append(Problem.of_picture(record, str(error), "broken-file"))
            continue
        written.append(_free(out, f"{name}_{record.path.stem}", written))
        write_image(written[-1], _draw(image, dataset, record, record.boxes))
        # Drawn again at the size of the sheet, where the labels would be too small to read.
        small, placement = resize_to(image, CELL, "letterbox", 235)
        cells.append(_draw(small, dataset, record, placement.to_input(record.boxes)))
    if not cells:
        raise DataError(f"{annotations}: no picture can be decoded; 'falconet data check' says why")
    columns = int(np.ceil(np.sqrt(len(cells))))
    written.append(out / "sheet.jpg")
    write_image(written[-1], grid(cells, columns, cell=CELL))
    return written, problems


def _refuse_pictures_folder(dataset: DataSet, out: Path) -> None:
    if any(
        os.path.realpath(folder) == os.path.realpath(out)
        for folder in {record.path.parent for record in dataset.records}
    ):
        raise DataError(f"{out}: pictures of the data set lie there, and could be overwritten; choose another folder")


def _free(out: Path, stem: str, written: list[Path]) -> Path:
    """The file for a picture; pictures of several folders may have the same name."""
    names = (f"{stem}.jpg", *(f"{stem}_{number}.jpg" for number in range(2, len(written) + 3)))
    return next(path for path in (out / name for name in names) if path not in written)


def _choose(
    splits: dict[str, DataSet], count: int, seed: int
) -> tuple[list[tuple[str, DataSet, Record]], list[Problem]]:
    rng = np.random.default_rng(seed)
    chosen: list[tuple[str, DataSet, Record]] = []
    problems: list[Problem] = []
    for position, (name, dataset) in enumerate(splits.items()):
        kept, found = drop_invalid(dataset)
        problems.extend(found)
        share = (count + position) // len(splits)
        picks = sorted(rng.permutation(len(kept))[:share].tolist())
        chosen.extend((name, kept, kept.records[pick]) for pick in picks)
    return chosen, problems


def _draw(image: Pixels, dataset: DataSet, record: Record, boxes: Floats) -> Pixels:
    """The picture with `boxes` (in its pixels); the second half of the names marks crowds."""
    names = [*dataset.names, *(f"{name} (crowd)" for name in dataset.names)]
    labels = record.labels + record.crowd * len(dataset.names)
    return draw_boxes(image, boxes, labels, names)
