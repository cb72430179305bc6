"""Any of three formats from any other, and back."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.data.check import open_splits
from falconet.data.convert import convert
from falconet.data.dataset import DataSet, Written
from falconet.data.formats import open_dataset
from tests.data.build import Box, coco_tree, mistakes, picture, voc_text, write_coco, write_voc, write_yolo

FORMATS: tuple[Written, ...] = get_args(Written)
NAMES = ("Wildkatze & <Hund>", "b", "苹果")


def _dataset(
    folder: Path, pictures: list[list[Box]], *, crowd: bool = False, names: tuple[str, ...] = NAMES
) -> DataSet:
    records = [
        Record(
            image_id=f"p{number}",
            path=picture(folder / f"p{number}.png", value=number),
            width=60,
            height=40,
            boxes=np.array([box[1:] for box in boxes], np.float32),
            labels=np.array([box[0] for box in boxes], np.int64),
            crowd=np.full(len(boxes), crowd),
            source=f"p{number}",
        )
        for number, boxes in enumerate(pictures)
    ]
    return DataSet(names, tuple(records), "memory")


def _assert_same(dataset: DataSet, expected: DataSet) -> None:
    assert dataset.names == expected.names
    assert dataset.problems == ()
    assert len(dataset) == len(expected)
    for record, wanted in zip(dataset.records, expected.records, strict=True):
        assert record.path.read_bytes() == wanted.path.read_bytes()
        np.testing.assert_allclose(record.boxes, wanted.boxes, atol=1e-4)
        np.testing.assert_array_equal(record.labels, wanted.labels)
        np.testing.assert_array_equal(record.crowd, wanted.crowd)


def _box(label: int, x: float, y: float, width: float, height: float) -> Box:
    return label, x, y, min(60.0, x + width), min(40.0, y + height)


# Wider than a pixel: what is smaller near the corner is taken for fractions of the picture.
boxes = st.builds(
    _box, st.integers(0, 2), st.floats(0, 58), st.floats(0, 38), st.floats(1.01, 60), st.floats(0.1, 40)
)  # fmt: skip


@settings(max_examples=25)
@given(pictures=st.lists(st.lists(boxes, max_size=4), min_size=1, max_size=3), formats=st.permutations(FORMATS))
def test_round_trip_through_all_formats(pictures: list[list[Box]], formats: list[Written]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = _dataset(folder / "source", pictures)
        splits = {"train": expected}
        for number, to in enumerate(formats):
            assert convert(splits, to, folder / str(number)) == {"train": []}
            splits = open_splits(folder / str(number))
            assert list(splits) == ["train"]
            assert splits["train"].format == to
            _assert_same(splits["train"], expected)


def _written(folder: Path, kind: Written) -> Path:
    """A data set of two splits in each format, not written by the code under test."""
    if kind == "coco":
        for split in ("train", "val"):
            write_coco(
                folder / f"{split}.json",
                coco_tree({f"{split}.png": [(0, 6, 4, 30, 20), (1, 0, 0, 60, 40)]}),
                folder=split,
            )
    elif kind == "voc":
        text = voc_text([("cat", 6, 4, 30, 20), ("dog", 0, 0, 60, 40)])
        write_voc(folder, {"train": text, "val": text}, {"train": ["train"], "val": ["val"]})
    else:
        yaml = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
        for split in ("train", "val"):
            write_yolo(folder, {split: "0 0.3 0.3 0.4 0.4\n1 0.5 0.5 1 1\n"}, yaml=yaml, split=split)
    return folder


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("kind", FORMATS)
def test_any_from_any(tmp_path: Path, kind: Written, to: Written) -> None:
    splits = open_splits(_written(tmp_path / "in", kind))
    convert(splits, to, tmp_path / "out")
    found = open_splits(tmp_path / "out")
    assert list(found) == ["train", "val"]
    for split, dataset in found.items():
        assert dataset.names == ("cat", "dog")
        (record,) = dataset.records
        assert record.path.stem == split
        np.testing.assert_allclose(record.boxes, [[6, 4, 30, 20], [0, 0, 60, 40]], atol=1e-4)
        assert record.labels.tolist() == [0, 1]
    assert not [problem for problem in mistakes(found) if problem.kind != "shared-picture"]


def test_areas_crowd_and_ids_stay_in_coco(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)]})
    tree["images"][0]["id"] = 77
    tree["annotations"][0].update(image_id=77, area=3.5, iscrowd=1)
    splits = open_splits(write_coco(tmp_path / "in" / "x.json", tree))
    convert(splits, "coco", tmp_path / "out")
    (record,) = open_dataset(tmp_path / "out").records
    assert (record.image_id, record.crowd.tolist()) == (77, [True])
    assert record.areas is not None
    assert record.areas.tolist() == [3.5]


def test_crowd_becomes_difficult_in_voc_and_is_left_out_of_yolo(tmp_path: Path) -> None:
    splits = {"train": _dataset(tmp_path / "in", [[(1, 1, 1, 5, 5)]], crowd=True, names=("a", "b"))}
    (crowds,) = convert(splits, "voc", tmp_path / "voc")["train"]
    assert str(crowds) == "memory: 1 of 1 boxes are crowds (flagged so): neither learnt nor counted"
    _assert_same(open_dataset(tmp_path / "voc"), splits["train"])
    _, problem = convert(splits, "yolo", tmp_path / "yolo")["train"]
    assert problem[:3] == ("p0, box 0", "a crowd box has no place in YOLO labels (box left out)", "not-expressible")
    assert len(open_dataset(tmp_path / "yolo").records[0].boxes) == 0


def test_what_is_not_usable_is_told(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "in", [[(0, 5, 5, 5, 5), (1, 1, 1, 9, 9)], []])
    dataset.records[1].path.unlink()
    problems = convert({"all": dataset}, "coco", tmp_path / "out")["all"]
    assert [problem.kind for problem in problems] == ["no-area", "missing-file"]
    (record,) = open_dataset(tmp_path / "out").records
    assert record.labels.tolist() == [1]


def test_equal_file_names_are_kept_apart(tmp_path: Path) -> None:
    pictures = [[(0, 1.0, 1.0, 5.0, 5.0)]]
    splits = {split: _dataset(tmp_path / split, pictures, names=("a",)) for split in ("train", "val", "test")}
    for split, dataset in splits.items():
        picture(dataset.records[0].path, value=len(split) * 10)
    convert(splits, "voc", tmp_path / "out")
    for split, dataset in open_splits(tmp_path / "out").items():
        _assert_same(dataset, splits[split])


def test_names_that_differ_in_case_or_ending_only_are_kept_apart(tmp_path: Path) -> None:
    names = ["a/x.png", "b/X.png", "c/x.bmp", "d/x.png"]
    tree = coco_tree({name: [(0, 1, 1, 5 + number, 5)] for number, name in enumerate(names)})
    splits = open_splits(write_coco(tmp_path / "in" / "x.json", tree))
    convert(splits, "yolo", tmp_path / "out")
    assert sorted(record.boxes[0, 2] for record in open_dataset(tmp_path / "out").records) == pytest.approx(
        [5, 6, 7, 8]
    )


def test_one_picture_with_two_records_stays_two(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)], "b.png": [(1, 1, 1, 5, 5)]})
    tree["images"][1]["file_name"] = "a.png"
    splits = open_splits(write_coco(tmp_path / "in" / "x.json", tree))
    convert(splits, "voc", tmp_path / "out")
    assert [record.labels.tolist() for record in open_dataset(tmp_path / "out").records] == [[0], [1]]


def test_links(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "in", [[]])
    convert({"train": dataset}, "yolo", tmp_path / "out", transfer="link")
    (record,) = open_dataset(tmp_path / "out").records
    assert record.path.is_symlink()
    assert record.path.resolve() == dataset.records[0].path.resolve()


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (["all"], ["train"]),
        (["instances"], ["train"]),
        (["val2017"], ["val"]),
        (["train2017", "val2017"], ["train", "val"]),
    ],
)
def test_split_names_of_voc_and_yolo(tmp_path: Path, splits: list[str], expected: list[str]) -> None:
    dataset = _dataset(tmp_path / "in", [[]])
    for to in ("voc", "yolo"):
        convert(dict.fromkeys(splits, dataset), to, tmp_path / to)  # type: ignore[arg-type]
        assert list(open_splits(tmp_path / to)) == expected


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    one = _dataset(tmp_path / "in", [[]])
    other = _dataset(tmp_path / "in", [[]], names=("x",))
    blank = _dataset(tmp_path / "in", [[]], names=("a ",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for splits, to, out, message in (
        ({"train": one, "val": other}, "coco", "out", r"memory: has the classes \['x'\], but memory has \['Wild"),
        ({"train": blank}, "voc", "out", "the class name 'a ' cannot be written as Pascal VOC; rename it"),
        ({"train": one, "fold1": one}, "yolo", "out", "the splits train, fold1 have no place in this format"),
        ({"train2014": one, "train2017": one}, "voc", "out", "the splits train2014, train2017 have no place"),
        ({"train": one}, "coco", "full", "full: exists already; give a new or an empty folder"),
    ):
        with pytest.raises(DataError, match=message):
            convert(splits, to, tmp_path / out)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "in"]


def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("falconet.data.convert.copy_file", full)
    dataset = _dataset(tmp_path / "in", [[]])
    with pytest.raises(DataError, match="out: cannot be written: No space left on device"):
        convert({"train": dataset}, "coco", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert({"train": _dataset(tmp_path / "in", [[]])}, "coco", tmp_path / "out")
    assert len(open_dataset(tmp_path / "out")) == 1


def test_names_with_blanks_come_back_from_voc(tmp_path: Path) -> None:
    tree = coco_tree({"IMG 20 (1).png": [(0, 1, 1, 5, 5)], "IMG 20 1.png": [(1, 1, 1, 5, 5)]})
    convert(open_splits(write_coco(tmp_path / "in" / "x.json", tree)), "voc", tmp_path / "out")
    splits = open_splits(tmp_path / "out")
    assert sorted(record.path.name for record in splits["train"].records) == ["IMG 20 (1).png", "IMG 20 1.png"]
    assert mistakes(splits) == []


def test_names_that_no_list_can_hold_are_changed(tmp_path: Path) -> None:
    tree = coco_tree({"a\n1.png": [(0, 1, 1, 5, 5)], " a .png": [(1, 1, 1, 5, 5)]})
    convert(open_splits(write_coco(tmp_path / "in" / "x.json", tree)), "voc", tmp_path / "out")
    splits = open_splits(tmp_path / "out")
    assert sorted(record.path.name for record in splits["train"].records) == ["a.png", "a_1.png"]
    assert mistakes(splits) == []


@pytest.mark.parametrize("to", FORMATS)
def test_two_classes_of_one_name_are_refused(tmp_path: Path, to: Written) -> None:
    dataset = _dataset(tmp_path / "in", [[(0, 1, 2, 30, 20)]], names=("a", "a", "b"))
    with pytest.raises(DataError, match="memory: 2 classes are called 'a'; give them different names"):
        convert({"train": dataset}, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_pictures_whose_names_are_no_text_are_left_out(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}).parent
    folder = root / "images" / "train"
    shutil.copyfile(folder / "a.png", folder / os.fsdecode(b"\xff.png"))
    dataset = open_dataset(root)
    assert [record.path.name for record in dataset.records] == ["a.png"]
    (problem,) = [problem for problem in dataset.problems if "UTF-8" in problem.what]
    assert problem.where.endswith("\\udcff.png")
    convert({"train": dataset}, "coco", tmp_path / "out")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, [[(0, 1, 2, 30, 20)]])
    (tmp_path / "file").write_text("in the folder's place")
    with pytest.raises(DataError, match=r"out: cannot be written: "):
        convert({"train": dataset}, "coco", tmp_path / "file" / "out")
