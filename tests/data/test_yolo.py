"""YOLO: names, folders, lists, label lines."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.yolo import (
    darknet_splits,
    labelimg_splits,
    read_darknet,
    read_labelimg,
    read_yolo,
    yolo_splits,
)
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
    assert [problem[:3] for problem in dataset.problems] == [(where, what, kind)]
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
    assert rest[:3] == (str(tmp_path / "images" / "train"), "1 file is not used: a.png", "unused-files")


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
    assert label_path(Path("x/Images/a.JPG")) == Path("x/Labels/a.txt")


@pytest.mark.parametrize(("images", "labels"), [("Images", "Labels"), ("Images", "labels"), ("images", "Labels")])
def test_folders_in_capitals(tmp_path: Path, images: str, labels: str) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n", "b": ""}, yaml=f"train: {images}/train\nnames: [cat]\n")
    (tmp_path / "labels" / "train" / "c.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    for before, after in (("images", images), ("labels", labels)):
        (tmp_path / before).rename(tmp_path / "moved")
        (tmp_path / "moved").rename(tmp_path / after)
    dataset = read_yolo(path)
    assert [len(record.boxes) for record in dataset.records] == [1, 0]
    assert [(one.kind, Path(one.where).name) for one in dataset.problems] == [("orphan-label", "c.txt")]


def test_a_test_split_that_was_not_exported_is_told_and_left_out(tmp_path: Path) -> None:
    yaml = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['a']\n"
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / f"{split}.png")
    path = tmp_path / "data.yaml"
    path.write_text(yaml)
    assert yolo_splits(path) == ("train", "val")
    (problem,) = read_yolo(path, split="train").problems
    assert (problem.kind, problem.what.partition(",")[0]) == ("missing-file", "'test' is '../test/images'")
    assert len(read_yolo(path)) == 2
    with pytest.raises(DataError, match=r"'\.\./test/images' does not exist below"):
        read_yolo(path, split="test")
    path.write_text(yaml.replace("../valid", "../wrong"))
    with pytest.raises(DataError, match=r"'\.\./wrong/images' does not exist below"):
        read_yolo(path, split="val")


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
    path = write_yolo(tmp_path, {"a": "", "b": ""})
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xff\xff")
    dataset = read_yolo(path)
    what = dataset.problems[0].what
    assert what.endswith("a.txt: is not UTF-8 text (byte 0); expected an annotation file; a.png is left out")
    assert [record.path.name for record in dataset.records] == ["b.png"]


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
        ("train: " + "x" * 5000 + "\nnames: [a]\n", r"'x+' does not exist below"),
        ("names: " + "[" * 1000, r"data\.yaml:1: nests more than 64 lists and mappings"),
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


def test_key_points_are_behind_the_box(tmp_path: Path) -> None:
    pose = "0 0.5 0.5 0.2 0.2" + " 0.45 0.45" * 7
    yaml = "train: images/train\nnames: [dog]\nkpt_shape: [7, 2]\n"
    path = write_yolo(tmp_path, {"a": pose, "b": pose + " 0.4 0.4"}, yaml=yaml)
    dataset = read_yolo(path)
    for record in dataset.records:
        np.testing.assert_allclose(record.boxes, [[24, 16, 36, 24]], atol=1e-4)
    (problem,) = dataset.problems
    assert (problem.kind, problem.what) == (
        "key-points", "the line has 21 numbers; 'kpt_shape' asks for 19. The box is taken"
    )  # fmt: skip
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [dog]\n")
    unclear = read_yolo(path)
    assert [problem.kind for problem in unclear.problems] == ["unclear-line"] * 2
    assert [len(record.boxes) for record in unclear.records] == [0, 0]


def test_only_the_unclear_line_is_left_out(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.20 0.3 0.3 0.1 0.1\n1 0.2 0.2 0.2 0.2\n"})
    dataset = read_yolo(path)
    (problem,) = dataset.problems
    assert problem.where == f"{tmp_path / 'labels' / 'train' / 'a.txt'}:2"
    assert "several boxes without a line break; left out" in problem.what
    assert dataset.records[0].labels.tolist() == [0, 1]
    assert dataset.records[0].box_keys == (1, 3)


def test_labels_beside_pictures_in_a_folder_called_images(tmp_path: Path) -> None:
    for folder in ("one", "two/images"):
        picture(tmp_path / folder / "a.jpg")
        (tmp_path / folder / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    path = tmp_path / "data.yaml"
    path.write_text("train: [one, two/images]\nnames: [a]\n")
    dataset = read_yolo(path)
    assert [len(record.boxes) for record in dataset.records] == [1, 1]
    assert dataset.problems == ()


def test_endings_of_pictures_and_labels(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.2"})
    folder, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    for name in ("b.jfif", "c.MPO", "d.JPG", "e.gif", "f.avif", "g.jp2"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
        (labels / Path(name).with_suffix(".TXT")).write_text("0 0.5 0.5 0.2 0.2")
    dataset = read_yolo(path)
    assert [len(record.boxes) for record in dataset.records] == [1] * 7
    assert dataset.problems == ()
    (folder / "h.heic").write_bytes(b"x")
    (folder / "i.mp4").write_bytes(b"x")
    (labels / "h.txt").write_text("0 0.5 0.5 0.2 0.2")
    (labels / "train.xml").write_text("")
    assert [str(problem) for problem in read_yolo(path).problems] == [
        f"{labels}: 1 file is not used: train.xml",
        f"{folder}: 2 files are not used (.heic 1, .mp4 1): h.heic, i.mp4",
    ]


def test_accents_may_be_composed_or_not(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"\u00dcbung": ""})
    (tmp_path / "labels" / "train" / "\u00dcbung.txt").unlink()
    (tmp_path / "labels" / "train" / "U\u0308bung.txt").write_text("0 0.5 0.5 0.2 0.2")
    dataset = read_yolo(path)
    assert len(dataset.records[0].boxes) == 1
    assert dataset.problems == ()


def test_two_pictures_of_one_label_file(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.2 0.2"})
    picture(tmp_path / "images" / "train" / "a.jpg")
    (problem,) = read_yolo(path).problems
    assert problem.kind == "other-picture"
    assert problem.what == "belongs to two pictures, a.jpg and a.png; both have its boxes"


def test_label_files_beside_pictures_without_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.2 0.2")
    (tmp_path / "notes.txt").write_text("taken in May")
    (tmp_path / "data.yaml").write_text("train: .\nnames: [a]\n")
    (problem,) = read_yolo(tmp_path / "data.yaml").problems
    assert str(problem) == f"{tmp_path / 'b.txt'}: belongs to no picture in {tmp_path}"


def test_pictures_of_other_splits_are_not_unused(tmp_path: Path) -> None:
    yaml = "train: train.txt\nval: val.txt\nnames: [cat]\n"
    path = write_yolo(tmp_path, {"a": "", "b": "", "c": ""}, yaml=yaml)
    (tmp_path / "train.txt").write_text("images/train/a.png\n")
    (tmp_path / "val.txt").write_text("images/train/b.png\n")
    for split in ("train", "val"):
        (problem,) = read_yolo(path, split=split).problems
        assert str(problem) == f"{tmp_path / 'images' / 'train'}: 1 file is not used: c.png"


def test_lists_of_another_machine(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}, yaml="train: train.txt\nnames: [cat]\n")
    (tmp_path / "train.txt").write_text("/content/drive/set/images/train/a.png\n")
    dataset = read_yolo(path)
    assert len(dataset.records[0].boxes) == 1
    (problem,) = dataset.problems
    assert problem.kind == "other-path"
    assert problem.what.endswith("pictures are found by the rest, 'images/train/a.png'")


def test_nc_may_be_a_text(tmp_path: Path) -> None:
    yaml = "train: images/train\nnames: [a]\nnc: '1'\n"
    assert read_yolo(write_yolo(tmp_path, {"a": ""}, yaml=yaml)).names == ("a",)


def test_names_used_twice(tmp_path: Path) -> None:
    yaml = "train: images/train\nnames: [a, b, a]\n"
    (problem,) = read_yolo(write_yolo(tmp_path, {"a": ""}, yaml=yaml)).problems
    assert (problem.kind, problem.what) == ("duplicate-class", "the name 'a' is used twice")


def _cvat(root: Path) -> Path:
    """What CVAT exports as "YOLO": paths begin with `data/`, which is not there."""
    for number in (0, 1):
        picture(root / "obj_train_data" / f"{number}.jpg", value=20 + number)
        (root / "obj_train_data" / f"{number}.txt").write_text(f"{number} 0.5 0.5 0.2 0.2\n")
    (root / "obj.names").write_text("\ufeffcat\r\ndog\r\n", encoding="utf-8")
    (root / "train.txt").write_text("data/obj_train_data/0.jpg\ndata/obj_train_data/1.jpg\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    return root


def test_cvat(tmp_path: Path) -> None:
    root = _cvat(tmp_path)
    assert darknet_splits(root / "obj.data") == ("train",)
    dataset = read_darknet(root / "obj.data", split="train")
    assert dataset.names == ("cat", "dog")
    assert [record.labels.tolist() for record in dataset.records] == [[0], [1]]
    np.testing.assert_allclose(dataset.records[0].boxes, [[24, 16, 36, 24]], atol=1e-4)
    assert (dataset.problems, dataset.format) == ((), "darknet")
    assert dataset.box_source(dataset.records[0], 0) == f"{root / 'obj_train_data' / '0.txt'}:1"


def test_cvat_broken(tmp_path: Path) -> None:
    root = _cvat(tmp_path)
    picture(root / "obj_train_data" / "2.jpg")
    (problem,) = read_darknet(root / "obj.data").problems
    assert str(problem) == f"{root / 'obj_train_data'}: 1 file is not used: 2.jpg"
    (root / "obj.names").write_text("\n")
    with pytest.raises(DataError, match=r"obj\.names: holds no class names; expected one per line"):
        read_darknet(root / "obj.data")
    (root / "obj.names").unlink()
    with pytest.raises(DataError, match=r"obj\.data: 'data/obj\.names' does not exist below"):
        read_darknet(root / "obj.data")


def test_labelimg(tmp_path: Path) -> None:
    for number in (0, 1):
        picture(tmp_path / f"{number}.jpg", value=20 + number)
    (tmp_path / "0.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    dataset = read_labelimg(tmp_path / "classes.txt")
    assert (dataset.names, dataset.format, dataset.problems) == (("cat", "dog"), "labelimg", ())
    assert [record.labels.tolist() for record in dataset.records] == [[1], []]
    assert labelimg_splits(tmp_path / "classes.txt") == ()
    (tmp_path / "2.heic").write_bytes(b"x")
    (tmp_path / "3.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    assert [problem.kind for problem in read_labelimg(tmp_path / "classes.txt").problems] == [
        "orphan-label",
        "unused-files",
    ]


def test_class_list_in_the_folder_of_labels(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / "images" / split / f"{split}.jpg")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / f"{split}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "labels" / "classes.txt").write_text("cat\n")
    path = tmp_path / "labels" / "classes.txt"
    assert labelimg_splits(path) == ("train", "val")
    assert [record.path.stem for record in read_labelimg(path, split="val").records] == ["valid"]
    assert len(read_labelimg(path)) == 2
    assert read_labelimg(path).problems == ()


def test_lines_of_lists_that_name_no_file(tmp_path: Path) -> None:
    path = write_yolo(tmp_path, {"a": ""}, yaml="train: train.txt\nnames: [cat]\n")
    (tmp_path / "train.txt").write_text(f"images/train/a.png\n/\n{'x' * 5000}.png\na\0b.png\n")
    dataset = read_yolo(path)
    assert len(dataset) == 1
    assert [problem.what for problem in dataset.problems] == [
        "the line names no file; left out",
        "the line is too long; left out",
        "the line holds a NUL character; left out",
    ]
