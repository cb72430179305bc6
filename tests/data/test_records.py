"""Opening data sets whatever their format, and what of them can be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.core.types import Record
from falconet.data.dataset import DataSet
from falconet.data.formats import open_dataset, splits_of
from falconet.data.records import drop_invalid
from tests.core.pictures import encode, exif, jpeg_with_exif, smooth
from tests.data.build import Box, coco_tree, picture, voc_text, write_coco, write_voc, write_yolo

VOC = {"a": voc_text([("cat", 1, 1, 5, 5)]), "b": voc_text([])}


def _one(tmp_path: Path, *boxes: Box, size: tuple[int, int] | None = (40, 60)) -> DataSet:
    """A data set of one 60 x 40 picture, made in memory."""
    record = Record(
        image_id=1,
        path=picture(tmp_path / "a.png"),
        width=None if size is None else size[1],
        height=None if size is None else size[0],
        boxes=np.array([box[1:] for box in boxes], np.float32),
        labels=np.array([box[0] for box in boxes], np.int64),
        crowd=np.zeros(len(boxes), np.bool_),
        source="a.txt",
        box_keys=tuple(range(1, len(boxes) + 1)),
    )
    return DataSet(("cat", "dog"), (record,), "memory")


def test_every_format_is_found(tmp_path: Path) -> None:
    coco = write_coco(tmp_path / "coco" / "train.json", coco_tree({"a.png": []}))
    voc = write_voc(tmp_path / "voc", VOC, {"train": ["a"]})
    yolo = write_yolo(tmp_path / "yolo", {"a": ""})
    for path, kind in (
        (coco, "coco"),
        (coco.parent, "coco"),
        (voc, "voc"),
        (voc / "Annotations", "voc"),
        (voc / "ImageSets" / "Main" / "train.txt", "voc"),
        (yolo, "yolo"),
        (yolo.parent, "yolo"),
        (str(yolo), "yolo"),
    ):
        assert open_dataset(path).format == kind


def test_splits(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_coco(tmp_path / "coco" / f"{name}.json", coco_tree({f"{name}.png": []}), folder=name)
        write_coco(
            tmp_path / "official" / "annotations" / f"instances_{name}2017.json",
            coco_tree({f"{name}.png": []}),
            folder=f"../{name}2017",
        )
    (tmp_path / "official" / "annotations" / "captions_val2017.json").write_text("{}")
    voc = write_voc(tmp_path / "voc", VOC, {"train": ["a"], "val": ["b"]})
    yolo = write_yolo(tmp_path / "yolo", {"a": ""})
    for path in (tmp_path / "coco", tmp_path / "official", voc):
        assert splits_of(path) == ("train", "val")
        (record,) = open_dataset(path, split="val").records
        assert record.path.is_file()
    assert splits_of(yolo) == splits_of(yolo.parent) == ("train",)
    assert splits_of(tmp_path / "coco" / "train.json") == ()
    assert len(open_dataset(tmp_path / "coco" / "train.json", split="train")) == 1


def test_years_stay_where_they_tell_files_apart(tmp_path: Path) -> None:
    for year in ("2014", "2017"):
        write_coco(tmp_path / f"instances_train{year}.json", coco_tree({"a.png": []}))
    assert splits_of(tmp_path) == ("train2014", "train2017")


def test_messages_for_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    (tmp_path / "empty").mkdir()
    for name in ("train", "val"):
        write_coco(tmp_path / "coco" / f"{name}.json", coco_tree({"a.png": []}))
    for name in ("one", "two"):
        write_yolo(tmp_path / "yolo", {"a": ""}).rename(tmp_path / "yolo" / f"{name}.yaml")
    for path, split, message in (
        (
            "nowhere",
            None,
            r"nowhere: no such file or folder; expected a data set$",
        ),
        (
            "x.csv",
            None,
            r"x\.csv: not a data set; expected one of: .*, COCO \(\.json\), .*, labelImg \(classes\.txt\)$",
        ),
        ("empty", None, r"empty: no data set found; expected one of: .*, labelImg \(classes\.txt\)$"),
        ("coco", None, r"coco: holds several data sets; choose one \(--split, .*\): train, val"),
        ("coco", "test", r"coco: holds no split 'test'; choose one \(--split, .*\): train, val"),
        ("coco/train.json", "val", r"train\.json: is one split already; give its folder to choose the split 'val'"),
        ("yolo", None, r"yolo: holds several data set descriptions \(one\.yaml, two\.yaml\); give one of them"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(tmp_path / path, split=split)
    with pytest.raises(DataError, match=r"gone: no such folder; expected the pictures of"):
        open_dataset(tmp_path / "coco" / "train.json", tmp_path / "gone")


def test_good_boxes_pass_untouched(tmp_path: Path) -> None:
    dataset = _one(tmp_path, (0, 0, 0, 60, 40), (1, 2.5, 3, 4, 5))
    kept, problems = drop_invalid(dataset)
    assert problems == []
    np.testing.assert_array_equal(kept.records[0].boxes, dataset.records[0].boxes)
    assert kept.names == dataset.names


@pytest.mark.parametrize(
    ("box", "kind", "what"),
    [
        (
            (0, 10, 10, 10, 40),
            "no-area",
            "image a.png has box [10, 10, 10, 40] of no area; expected x1 < x2 and y1 < y2 (box left out)",
        ),
        (
            (0, 20, 10, 10, 40),
            "no-area",
            "image a.png has box [20, 10, 10, 40] of no area; expected x1 < x2 and y1 < y2 (box left out)",
        ),
        (
            (0, float("nan"), 1, 2, 3),
            "not-finite",
            "image a.png has box [nan, 1, 2, 3]; expected finite numbers (box left out)",
        ),
        (
            (0, 1, 1, float("inf"), 3),
            "not-finite",
            "image a.png has box [1, 1, inf, 3]; expected finite numbers (box left out)",
        ),
        (
            (0, 60, 1, 70, 9),
            "out-of-image",
            "image a.png has box [60, 1, 70, 9] wholly outside the picture of 60 x 40 pixels (box left out)",
        ),
        (
            (0, -9, 1, -1, 9),
            "out-of-image",
            "image a.png has box [-9, 1, -1, 9] wholly outside the picture of 60 x 40 pixels (box left out)",
        ),
        (
            (0, -9, 1, 0, 9),
            "out-of-image",
            "image a.png has box [-9, 1, 0, 9] wholly outside the picture of 60 x 40 pixels (box left out)",
        ),
    ],
)
def test_boxes_left_out(tmp_path: Path, box: Box, kind: str, what: str) -> None:
    kept, problems = drop_invalid(_one(tmp_path, (1, 1, 1, 5, 5), box))
    assert [problem[:3] for problem in problems] == [("a.txt:2", what, kind)]
    np.testing.assert_array_equal(kept.records[0].boxes, [[1, 1, 5, 5]])
    assert kept.records[0].labels.tolist() == [1]


def test_boxes_partly_outside_are_cut(tmp_path: Path) -> None:
    kept, problems = drop_invalid(_one(tmp_path, (0, -10, 5, 30, 90)))
    np.testing.assert_array_equal(kept.records[0].boxes, [[0, 5, 30, 40]])
    (problem,) = problems
    assert problem.what == (
        "image a.png has box [-10, 5, 30, 90] partly outside the picture of 60 x 40 pixels (cut to it)"
    )


def test_rounding_is_cut_without_mention(tmp_path: Path) -> None:
    kept, problems = drop_invalid(_one(tmp_path, (0, -0.4, 0, 60.4, 40.01)))
    assert problems == []
    np.testing.assert_array_equal(kept.records[0].boxes, [[0, 0, 60, 40]])


def test_a_picture_that_loses_its_boxes_stays(tmp_path: Path) -> None:
    kept, problems = drop_invalid(_one(tmp_path, (0, 1, 1, 1, 1)))
    assert len(problems) == 1
    assert kept.records[0].boxes.shape == (0, 4)


@pytest.mark.parametrize("annotated", [None, (40, 60), (400, 600), (60, 40)])
def test_sizes_are_those_of_the_file(tmp_path: Path, annotated: tuple[int, int] | None) -> None:
    kept, problems = drop_invalid(_one(tmp_path, (0, 1, 1, 50, 30), size=annotated))
    assert (kept.records[0].height, kept.records[0].width) == (40, 60)
    np.testing.assert_array_equal(kept.records[0].boxes, [[1, 1, 50, 30]])
    texts = [problem.what for problem in problems]
    if annotated == (400, 600):
        assert texts == [
            "a.png is annotated as 600 x 400 pixels, the file has 60 x 40; "
            "boxes may belong to another version of the picture"
        ]
    elif annotated == (60, 40):
        assert texts == [
            "a.png is annotated as 40 x 60 pixels, the file has 60 x 40; "
            "the sides are swapped: boxes may belong to the picture before its EXIF rotation"
        ]
    else:
        assert texts == []


def test_the_size_is_that_of_the_picture_as_displayed(tmp_path: Path) -> None:
    dataset = _one(tmp_path, size=(60, 40))
    (tmp_path / "a.png").write_bytes(jpeg_with_exif(encode(smooth(40, 60), ".jpg"), exif(6)))
    kept, problems = drop_invalid(dataset)
    assert problems == []
    assert (kept.records[0].height, kept.records[0].width) == (60, 40)


def test_files_left_out(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "x.json", coco_tree({f"{name}.jpg": [] for name in "abcd"}))
    folder = tmp_path / "images"
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-20])
    (folder / "c.jpg").write_text("no picture")
    kept, problems = drop_invalid(open_dataset(path))
    assert [record.path.name for record in kept.records] == ["d.jpg"]
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("missing-file", f"{path} (image 1)"),
        ("broken-file", f"{path} (image 2)"),
        ("broken-file", f"{path} (image 3)"),
    ]
    assert all(problem.what.endswith("(picture left out)") for problem in problems)
    assert "end-of-image marker is missing" in problems[1].what


def test_what_the_reader_left_out_is_told_too(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)]})
    tree["annotations"][0]["image_id"] = 99
    kept, problems = drop_invalid(open_dataset(write_coco(tmp_path / "x.json", tree)))
    assert [problem.kind for problem in problems] == ["unknown-image"]
    assert kept.problems == ()


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": []}))
    dataset = open_dataset(path)
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(
        DataError, match=r"x\.json: no usable picture; the first problem: .*a\.png: no such picture file"
    ):
        drop_invalid(dataset)
    path.write_text(json.dumps(coco_tree({})))
    with pytest.raises(DataError, match=r"x\.json: no usable picture\. 'falconet data check' lists all problems$"):
        drop_invalid(open_dataset(path))


def test_usable_is_usable(tmp_path: Path) -> None:
    dataset = _one(tmp_path, (0, -10, 5, 30, 90), (0, 1, 1, 1, 1), (1, 2, 2, 9, 9))
    once, _ = drop_invalid(dataset)
    twice, problems = drop_invalid(once)
    assert problems == []
    np.testing.assert_array_equal(twice.records[0].boxes, once.records[0].boxes)
    assert twice.records[0].box_keys == (1, 3)
