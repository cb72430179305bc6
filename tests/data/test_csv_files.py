"""Tables of boxes: Pascal-like and Open Images."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.csv_files import csv_kind, read_csv
from falconet.data.formats import open_dataset, splits_of
from falconet.data.records import drop_invalid
from tests.data.build import picture

HEAD = "filename,width,height,class,xmin,ymin,xmax,ymax"
OPEN_IMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"


def _write(path: Path, *lines: str, head: str = HEAD, pictures: str = "a.png b.png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    for number, name in enumerate(pictures.split()):
        picture(path.parent / "images" / name, value=20 + number)
    return path


def test_by_hand(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.csv", "b.png,60,40,dog,1,2,30,40", "a.png,60,40,cat,0,0.5,60,20", "b.png,60,40,cat,3,3,9,9"
    )
    dataset = read_csv(path)
    assert (dataset.names, dataset.format, dataset.problems) == (("cat", "dog"), "csv", ())
    first, second = dataset.records
    assert (first.path.name, first.width, first.height) == ("b.png", 60, 40)
    np.testing.assert_array_equal(first.boxes, [[1, 2, 30, 40], [3, 3, 9, 9]])
    assert first.labels.tolist() == [1, 0]
    assert dataset.box_source(first, 1) == f"{path}:4"
    assert second.labels.tolist() == [0]
    assert drop_invalid(dataset)[1] == []


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("\ufeffclass;filename;x1;y1;x2;y2", "cat;a.png;1;2;30;40"),
        ("xmin,xmax,ymin,ymax,label,image_path", '1,30,2,40,cat,"a.png"'),
        ("Filename\tClass\tXMin\tYMin\tXMax\tYMax", "a.png\tcat\t1\t2\t30\t40"),
    ],
)
def test_columns_by_name(tmp_path: Path, head: str, line: str) -> None:
    path = _write(tmp_path / "x.csv", line, "", head=head, pictures="a.png")
    dataset = read_csv(path)
    np.testing.assert_array_equal(dataset.records[0].boxes, [[1, 2, 30, 40]])
    assert (dataset.names, dataset.problems) == (("cat",), ())


def test_lines_left_out(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.csv",
        "a.png,60,40,cat,1,1,5,5",
        "a.png,60,40,cat,one,1,5,5",
        "a.png,60,40,,1,1,5,5",
        ",60,40,cat,1,1,5,5",
        "a.png,60",
        "b.png,,,,,,,",
    )
    dataset = read_csv(path)
    assert [len(record.boxes) for record in dataset.records] == [1, 0]
    assert [str(problem).removeprefix(str(path)) for problem in dataset.problems] == [
        ":3: has class 'cat', x1 'one', y1 '1', x2 '5', y2 '5'; expected a class and four numbers. Left out",
        ":4: has class '', x1 '1', y1 '1', x2 '5', y2 '5'; expected a class and four numbers. Left out",
        ":5: the picture's name is empty; left out",
        ":6: the line has 2 fields; expected 8 or more. Left out",
    ]


def test_pictures_without_a_line_and_splits(tmp_path: Path) -> None:
    _write(tmp_path / "train_labels.csv", "a.png,60,40,cat,1,1,5,5")
    _write(tmp_path / "test_labels.csv", "b.png,60,40,dog,1,1,5,5")
    picture(tmp_path / "images" / "c.png")
    assert splits_of(tmp_path) == ("train", "test")
    train = open_dataset(tmp_path, split="train")
    assert train.names == open_dataset(tmp_path, split="test").names == ("cat", "dog")
    (problem,) = train.problems
    assert str(problem) == f"{tmp_path / 'images'}: 2 files are not used: b.png, c.png"


def test_a_list_of_classes_fixes_their_order(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.csv", "a.png,60,40,cat,1,1,5,5", "b.png,60,40,dog,1,1,5,5")
    (tmp_path / "classes.txt").write_text("dog\n")
    dataset = read_csv(path)
    assert dataset.names == ("dog",)
    (problem,) = dataset.problems
    assert problem[:3] == (f"{path}:2", "class 'cat' is not in the list of classes (dog); left out", "unknown-class")
    assert [record.labels.tolist() for record in dataset.records] == [[], [0]]


def test_not_such_a_table(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.csv", "a.png,1,1,5,5,cat", head="a.png,1,1,5,5,cat")
    assert csv_kind(path) is None
    with pytest.raises(
        DataError, match=r"x\.csv: is not a table of boxes; expected a first line with the names filename"
    ):
        read_csv(path)
    with pytest.raises(DataError, match="not a data set"):
        open_dataset(path)
    path.write_bytes(f"{HEAD}\n".encode() + b"\xff,1,1,cat,1,1,5,5\n")
    with pytest.raises(DataError, match=r"x\.csv: is not UTF-8 text"):
        read_csv(path)
    path.write_text(f'{HEAD}\n"{"x" * 200_000}",1,1,cat,1,1,5,5\n')
    with pytest.raises(DataError, match=r"x\.csv:\d: is not valid CSV: field larger than field limit"):
        read_csv(path)
    path.write_text(f"{HEAD}\n")
    with pytest.raises(DataError, match=r"x\.csv: names no pictures"):
        read_csv(path)


def _open_images(root: Path) -> Path:
    return _write(
        root / "validation-annotations-bbox.csv",
        "aa,xclick,/m/01,1,0.1,0.5,0.25,0.75,0,0,0",
        "aa,xclick,/m/02,1,0,1,0,1,0,0,1",
        "bb,xclick,/m/01,1,0.5,0.6,0.5,0.6,0,0,0",
        head=OPEN_IMAGES,
        pictures="aa.jpg bb.jpg",
    )


def test_open_images(tmp_path: Path) -> None:
    path = _open_images(tmp_path)
    assert csv_kind(path) == "open-images"
    (tmp_path / "images").rename(tmp_path / "validation")
    assert splits_of(tmp_path) == ("val",)
    assert open_dataset(tmp_path).names == ("/m/01", "/m/02")
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text("LabelName,DisplayName\n/m/02,Bus\n/m/01,Car\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.names, dataset.problems, dataset.format) == (("Bus", "Car"), (), "open-images")
    first = dataset.records[0]
    np.testing.assert_allclose(first.boxes, [[6, 10, 30, 30], [0, 0, 60, 40]], atol=1e-4)
    assert (first.labels.tolist(), first.crowd.tolist()) == ([1, 0], [False, True])
    assert dataset.box_source(first, 1) == f"{path}:3"


def test_open_images_without_a_picture(tmp_path: Path) -> None:
    path = _open_images(tmp_path)
    (tmp_path / "images" / "bb.jpg").unlink()
    kept, problems = drop_invalid(read_csv(path))
    assert len(kept) == 1
    assert [problem.kind for problem in problems] == ["crowds", "missing-file"]
