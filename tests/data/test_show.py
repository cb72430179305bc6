"""Drawn pictures of a data set."""

from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.core.images import image_size
from falconet.data.show import CELL, show
from tests.data.build import coco_tree, write_coco


def _write(folder: Path, count: int = 5) -> None:
    for split in ("train", "val"):
        tree = coco_tree({f"{split}{number}.png": [(0, 1, 1, 20, 20)] for number in range(count)})
        write_coco(folder / f"{split}.json", tree, folder=split)


def test_pictures_of_all_splits_and_a_sheet(tmp_path: Path) -> None:
    _write(tmp_path / "in")
    written, problems = show(tmp_path / "in", tmp_path / "out", count=5, seed=1)
    assert problems == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert [path.name.partition("_")[0] for path in written] == ["train"] * 2 + ["val"] * 3 + ["sheet.jpg"]
    height, width = image_size(written[-1])
    assert height > 2 * CELL[0]
    assert width > 3 * CELL[1]
    again, _ = show(tmp_path / "in", tmp_path / "again", count=5, seed=1)
    assert [path.name for path in again] == [path.name for path in written]


def test_pictures_of_one_name_and_folders_of_pictures(tmp_path: Path) -> None:
    tree = coco_tree({f"cam{number}/x.png": [(0, 1, 1, 20, 20)] for number in range(3)})
    write_coco(tmp_path / "in" / "a.json", tree)
    written, _ = show(tmp_path / "in" / "a.json", tmp_path / "out")
    assert sorted(path.name for path in written) == ["all_x.jpg", "all_x_2.jpg", "all_x_3.jpg", "sheet.jpg"]
    before = sorted((tmp_path / "in").rglob("*"))
    with pytest.raises(DataError, match="cam1: pictures of the data set lie there, and could be overwritten"):
        show(tmp_path / "in" / "a.json", tmp_path / "in" / "images" / "cam1")
    assert sorted((tmp_path / "in").rglob("*")) == before


def test_more_than_there_are(tmp_path: Path) -> None:
    _write(tmp_path / "in", count=2)
    written, _ = show(tmp_path / "in", tmp_path / "out", split="val", count=50)
    assert len(written) == 3


def test_broken_pictures_are_told(tmp_path: Path) -> None:
    _write(tmp_path / "in", count=2)
    (tmp_path / "in" / "val" / "val0.png").write_text("no picture")
    written, problems = show(tmp_path / "in", tmp_path / "out", split="val")
    assert [path.name for path in written] == ["val_val1.jpg", "sheet.jpg"]
    assert [problem.kind for problem in problems] == ["broken-file"]
    (tmp_path / "in" / "val" / "val1.png").write_text("no picture")
    with pytest.raises(DataError, match="no usable picture"):
        show(tmp_path / "in", tmp_path / "out", split="val")
