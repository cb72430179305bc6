"""YOLO: names, folders, lists, label lines."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.yolo import read_yolo, yolo_splits
from falconet.data.yolo_labels import label_path
from tests.core.pictures import encode, exif, jpeg_with_exif, smooth
from tests.data.build import picture, write_yolo


def test_by_hand(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.2 0.2 0.4\n", "b": ""})
    dataset = read_yolo(path)
    assert dataset.names == ("cat", "dog")
    assert dataset.problems == ()
    first, second = dataset.records
    assert (first.image_id, first.width, first.height) == ("a", 60, 40)
    np.testing.assert_allclose(first.boxes, [[15, 15, 45, 25], [0, 0, 12, 16]], atol=1e-5)
    assert first.labels.tolist() == [1, 0]
    assert dataset.box_source(first, 1) == f"{tmp_path / 'labels' / 'train' / 'a.txt'}:3"
    assert second.boxes.shape == (0, 4)


def test_picture_without_label_file_has_no_boxes(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "labels" / "train" / "a.txt").unlink()
    dataset = read_yolo(path)
    assert (len(dataset), dataset.problems) == (1, ())
    assert len(dataset.records[0].boxes) == 0


def test_boxes_are_relative_to_the_picture_as_displayed(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 1 1"})
    (tmp_path / "images" / "train" / "a.png").unlink()
    turned = jpeg_with_exif(encode(smooth(40, 60), ".jpg"), exif(6))
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(turned)
    np.testing.assert_allclose(read_yolo(path).records[0].boxes, [[0, 0, 40, 60]])


def test_polygons_count_as_the_box_around_them(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "1 0.1 0.5 0.5 0.25 0.3 0.75 0.2 0.6"})
    np.testing.assert_allclose(read_yolo(path).records[0].boxes, [[6, 10, 30, 30]], atol=1e-5)


@pytest.mark.parametrize(
    ("line", "kind", "what"),
    [
        ("2 0.5 0.5 0.1 0.1", "unknown-class", "class 2 is not one of 0..1; left out"),
        ("-1 0.5 0.5 0.1 0.1", "unknown-class", "class -1 is not one of 0..1; left out"),
        (
            "0 0.5 0.5 0.1",
            "bad-annotation",
            "the line is '0 0.5 0.5 0.1'; expected 'class cx cy width height'. Left out",
        ),
        (
            "0.5 0.5 0.5 0.1 0.1",
            "bad-annotation",
            "the line is '0.5 0.5 0.5 0.1 0.1'; expected 'class cx cy width height'. Left out",
        ),
        (
            "cat 0.5 0.5 0.1 0.1",
            "bad-annotation",
            "the line is 'cat 0.5 0.5 0.1 0.1'; expected 'class cx cy width height'. Left out",
        ),
        (
            "inf 0.5 0.5 0.1 0.1",
            "bad-annotation",
            "the line is 'inf 0.5 0.5 0.1 0.1'; expected 'class cx cy width height'. Left out",
        ),
        (
            "0 0.5 0.5 0.1 0.1 0.9",
            "bad-annotation",
            "the line is '0 0.5 0.5 0.1 0.1 0.9'; expected 'class cx cy width height'. Left out",
        ),
    ],
)
def test_lines_left_out(tmp_path: Path, line: str, kind: str, what: str) -> None:
    dataset = read_yolo(write_yolo(tmp_path, {"a": f"0 0.5 0.5 0.5 0.5\n{line}\n"}))
    where = f"{tmp_path / 'labels' / 'train' / 'a.txt'}:2"
    assert [tuple(problem) for problem in dataset.problems] == [(where, what, kind)]
    assert len(dataset.records[0].boxes) == 1


def test_numbers_that_are_not_finite_stay_for_the_check_to_see(tmp_path: Path) -> None:
    dataset = read_yolo(write_yolo(tmp_path, {"a": "0 nan 0.5 0.1 0.1"}))
    assert not np.isfinite(dataset.records[0].boxes).all()


def test_names_as_a_mapping_and_path(tmp_path: Path) -> None:
    write_yolo(tmp_path / "data", {"a": "1 0.5 0.5 0.5 0.5"})
    path = tmp_path / "x.yaml"
    path.write_text("path: data\ntrain: images/train\nvalid: [images/train]\nnames: {1: dog, 0: cat}\nnc: 2\n")
    assert yolo_splits(path) == ("train", "val")
    assert read_yolo(path, split="train").names == ("cat", "dog")
    assert len(read_yolo(path, split="val")) == len(read_yolo(path, split="valid")) == 1


def test_a_path_of_another_machine_falls_back(tmp_path: Path) -> None:
    yaml = "path: /nonexistent/elsewhere\ntrain: ../images/train\nnames: [cat, dog]\n"
    assert len(read_yolo(write_yolo(tmp_path / "x", {"a": ""}, yaml=yaml))) == 1


@pytest.mark.parametrize("prefix", ["", "./"])
def test_lists_of_pictures(tmp_path: Path, prefix: str) -> None:
    path = write_yolo(tmp_path, {"a": "", "b": "0 0.5 0.5 0.5 0.5"}, yaml="train: train.txt\nnames: [cat]\n")
    lines = [f"{prefix}images/train/{name}" for name in ("b.png", "gone.png", "b.png")]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    dataset = read_yolo(path)
    assert [record.path.name for record in dataset.records] == ["b.png", "gone.png"]
    problem, rest = dataset.problems
    assert problem.kind == "duplicate-file"
    assert problem.where == f"{tmp_path / 'train.txt'}:3"
    assert tuple(rest) == (str(tmp_path / "images" / "train"), "1 file is not used: a.png", "unused-files")


def test_same_name_in_two_folders_gives_two_ids(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": ""}, split="train")
    path = write_yolo(tmp_path, {"a": ""}, split="val", yaml="train: images/train\nval: images/val\nnames: [x]\n")
    first, second = read_yolo(path).records
    assert first.image_id != second.image_id


def test_pictures_elsewhere(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": ""})
    picture(tmp_path / "other" / "b.png")
    (tmp_path / "other" / "b.txt").write_text("0 0.5 0.5 0.5 0.5")
    (record,) = read_yolo(path, tmp_path / "other").records
    assert (record.path.name, len(record.boxes)) == ("b.png", 1)


def test_label_paths() -> None:
    assert label_path(Path("x/images/train/a.jpg")) == Path("x/labels/train/a.txt")
    assert label_path(Path("images/images/a.jpg")) == Path("images/labels/a.txt")
    assert label_path(Path("x/a.b.jpg")) == Path("x/a.b.txt")
    assert label_path(Path("x/images")) == Path("x/images.txt")


def test_labels_without_a_picture(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": ""})
    (tmp_path / "labels" / "train" / "lost.txt").write_text("0 0.5 0.5 0.5 0.5")
    (problem,) = read_yolo(path).problems
    assert problem.kind == "orphan-label"
    assert str(problem).endswith(f"lost.txt: belongs to no picture in {tmp_path / 'images' / 'train'}")


def test_unreadable_picture_keeps_its_record_without_boxes(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "images" / "train" / "a.png").write_text("no picture")
    (record,) = read_yolo(path).records
    assert (record.width, len(record.boxes)) == (None, 0)


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": ""})
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xff\xff")
    (problem,) = read_yolo(path).problems
    assert problem.what.endswith("a.txt: is not UTF-8 text (byte 0); expected an annotation file; taken as no boxes")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\n", r"data\.yaml: 'names' is missing or empty; expected the list of class names"),
        ("train: images/train\nnames: []\n", r"data\.yaml: 'names' is missing or empty"),
        ("train: images/train\nnames: {0: a, 2: b}\n", r"'names' has the keys \[0, 2\]; expected 0\.\.1, each once"),
        ("train: images/train\nnames: [a]\nnc: 3\n", r"'nc' is 3, but 'names' has 1 class names"),
        ("train: nowhere\nnames: [a]\n", r"'nowhere' does not exist below .*; correct 'path' or the split"),
        ("train: data.yaml\nnames: [a]\n", r"data\.yaml is neither a folder nor a \.txt list of pictures"),
        ("names: [a]\n", r"names no pictures; expected 'train' and 'val' with folders or lists of them"),
        ("train: [\nnames: [a]\n", r"data\.yaml:\d: is not valid YAML"),
        ("train: images\nnames: [a]\n- b\n", r"data\.yaml:\d: is not valid YAML"),
    ],
)
def test_unusable_descriptions(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_yolo(write_yolo(tmp_path, {"a": ""}, yaml=yaml))


def test_unknown_split_and_no_pictures(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": ""})
    with pytest.raises(DataError, match=r"data\.yaml: has no split 'test'; it has: train$"):
        read_yolo(path, split="test")
    (tmp_path / "images" / "train" / "a.png").unlink()
    with pytest.raises(DataError, match=r"data\.yaml: no pictures found for the split 'train'"):
        read_yolo(path, split="train")
