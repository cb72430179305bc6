"""One crop per box."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.core.images import read_image, write_image
from falconet.core.types import Record
from falconet.data.check import open_splits
from falconet.data.crops import folder_names, write_crops
from falconet.data.dataset import DataSet
from falconet.data.folders import open_image_folder
from tests.data.build import coco_tree, write_coco, write_yolo


def files(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_each_box_is_a_picture_of_its_class(tmp_path):
    tree = coco_tree({"a.png": [(0, 1, 2, 21, 32), (1, 30, 5, 50, 25)], "b.png": [], "c.png": [(1, 0, 0, 60, 40)]})
    done = write_crops(open_splits(write_coco(tmp_path / "x.json", tree)), tmp_path / "out")
    assert done["all"].counts == {"cat": 1, "dog": 2}
    assert done["all"].problems == []
    assert list(files(tmp_path / "out")) == ["cat/a-000.jpg", "dog/a-001.jpg", "dog/c-000.jpg"]
    assert read_image(tmp_path / "out/cat/a-000.jpg")[0].shape == (30, 20, 3)
    dataset, problems = open_image_folder(tmp_path / "out")
    assert (dataset.names, len(dataset), problems) == (("cat", "dog"), 3, [])


def test_the_pixels_are_those_of_the_box(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:26, 16:48] = (250, 10, 120)
    write_image(tmp_path / "a.png", image)
    record = Record("a", tmp_path / "a.png", 60, 40, [[16, 10, 48, 26]], [0], [False], source="a")
    write_crops({"all": DataSet(("x",), (record,), "memory")}, tmp_path / "out")
    crop, _ = read_image(tmp_path / "out/x/a-000.jpg")
    assert crop.shape == (16, 32, 3)
    assert np.abs(crop.astype(int) - (250, 10, 120)).max() <= 3


@pytest.mark.parametrize(("margin", "shape"), [(0.0, (16, 32)), (0.25, (24, 48)), (2.0, (40, 60))])
def test_margin_is_cut_at_the_border(tmp_path, margin, shape):
    write_image(tmp_path / "a.png", np.full((40, 60, 3), 9, np.uint8))
    record = Record("a", tmp_path / "a.png", 60, 40, [[16, 10, 48, 26]], [0], [False], source="a")
    write_crops({"all": DataSet(("x",), (record,), "memory")}, tmp_path / "out", margin=margin)
    assert read_image(tmp_path / "out/x/a-000.jpg")[0].shape[:2] == shape


def test_the_same_data_give_the_same_bytes(tmp_path):
    tree = coco_tree({"a.png": [(0, 1, 2, 21, 32)], "b.png": [(1, 3, 4, 50, 40)]})
    path = write_coco(tmp_path / "x.json", tree)
    write_crops(open_splits(path), tmp_path / "one")
    write_crops(open_splits(path), tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two") != {}


def test_broken_boxes_and_pictures_are_left_out_and_said(tmp_path):
    tree = coco_tree({"a.png": [(0, 5, 5, 5, 20), (0, 1, 1, 6, 30), (1, 10, 10, 30, 30)], "b.png": [(0, 1, 1, 30, 30)]})
    tree["annotations"].append(dict(tree["annotations"][2], id=9, iscrowd=1))
    path = write_coco(tmp_path / "x.json", tree)
    whole = (tmp_path / "images/b.png").read_bytes()
    (tmp_path / "images/b.png").write_bytes(whole[: len(whole) // 2])
    done = write_crops(open_splits(path), tmp_path / "out")["all"]
    assert done.counts == {"cat": 0, "dog": 1}
    said = "\n".join(str(problem) for problem in done.problems)
    assert "of no area" in said
    assert "box of 5.0 x 29.0 pixels; expected sides of 8 or more (box left out)" in said
    assert "marks a crowd (box left out)" in said
    assert "(picture left out)" in said
    assert (tmp_path / "out/cat").is_dir(), "a class without a crop keeps its folder"


def test_splits_have_folders_of_their_own(tmp_path):
    both = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
    write_yolo(tmp_path / "y", {"a": "0 0.5 0.5 0.4 0.5\n"}, yaml=both)
    path = write_yolo(tmp_path / "y", {"b": "1 0.5 0.5 0.4 0.5\n"}, yaml=both, split="val")
    done = write_crops(open_splits(path), tmp_path / "out")
    assert set(done) == {"train", "val"}
    assert list(files(tmp_path / "out")) == ["train/cat/a-000.jpg", "val/dog/b-000.jpg"]


def test_names_that_are_no_folders():
    assert folder_names(("a/b", " c ", "苹果", ".."), "x") == ("a_b", "c", "苹果", "_")
    with pytest.raises(DataError, match="x: the classes a/b and A_b would share one folder"):
        folder_names(("a/b", "c", "A_b"), "x")
    with pytest.raises(DataError, match=r"x: the class 'n{60}'\.\.\. is longer than a folder's name may be; rename it"):
        folder_names(("n" * 256,), "x")


def test_a_folder_that_holds_files_is_refused(tmp_path):
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": [(0, 1, 1, 20, 20)]}))
    with pytest.raises(DataError, match="exists already; crops are written to a new folder"):
        write_crops(open_splits(path), tmp_path)
    (tmp_path / "empty").mkdir()
    assert write_crops(open_splits(path), tmp_path / "empty")["all"].counts["cat"] == 1


def test_nothing_usable_writes_nothing(tmp_path):
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": [(0, 1, 1, 20, 20)]}))
    (tmp_path / "images/a.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable picture"):
        write_crops(open_splits(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
