"""Every repair of `data check --fix` is caused once, done, told, and gone from the copy; the rest is as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.check import check_splits, open_splits
from falconet.data.fix import LIST, Fixed, fix
from falconet.data.kinds import HINTS
from falconet.data.voc_xml import parse_annotation
from tests.core.pictures import encode, exif, jpeg_with_exif, smooth
from tests.data.build import coco_tree, picture, voc_text, write_coco, write_voc, write_yolo

GOOD, CAT = (1, 2.25, 3.75, 30.5, 31.125), (0, 1, 1, 20, 20)


def run(source: Path, out: Path, *, decode: bool = True) -> Fixed:
    """The copy; the original is what it was, and the list says what the copy is."""
    folder = source if source.is_dir() else source.parent
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    splits = open_splits(source)
    fixed = fix(splits, check_splits(splits, decode=decode), out, decode=decode)
    assert {
        file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and out not in file.parents
    } == before
    assert json.loads((out / LIST).read_text()) == fixed.as_json()
    assert all(str(out.parent / f".{out.name}.") not in repr(problem) for problem in fixed.left)
    return fixed


def kinds(fixed: Fixed) -> list[str]:
    return [one.kind for one in fixed.repairs]


def left(fixed: Fixed) -> list[str]:
    return [one.kind for one in fixed.left if one.kind not in HINTS]


def coco(tmp_path: Path, boxes: dict[str, Any], **options: Any) -> Path:
    return write_coco(tmp_path / "in" / "x.json", coco_tree(boxes, **options))


def tree_of(out: Path, name: str = "x.json") -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / name).read_text())
    return tree


def test_nothing_to_repair(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD], "b.png": [(0, 1, 1, 20, 20)]})
    fixed = run(path, tmp_path / "out")
    assert (fixed.repairs, left(fixed), fixed.lost) == ([], [], [])
    assert tree_of(tmp_path / "out") == json.loads(path.read_text())


def test_boxes_of_coco(tmp_path: Path) -> None:
    boxes = [
        GOOD,
        (0, 1, 1, 1, 9),  # no area
        (0, 50, 10, 70, 30),  # partly outside
        (0, 65, 1, 70, 9),  # wholly outside
        (0, float("nan"), 1, 2, 2),
        GOOD,  # twice
        (1, 2.5, 3.5, 30.5, 31),  # drawn twice
    ]
    path = coco(tmp_path, {"a.png": boxes, "b.png": [(0, 1, 1, 20, 20)]})
    before = json.loads(path.read_text())
    fixed = run(path, tmp_path / "out")
    assert sorted(kinds(fixed)) == [
        "drawn-twice", "duplicate-box", "no-area", "not-finite", "out-of-image", "out-of-image",
    ]  # fmt: skip
    assert left(fixed) == []
    after = tree_of(tmp_path / "out")
    cut = {**before["annotations"][2], "bbox": [50, 10, 10, 20], "area": 200}
    assert after["annotations"] == [before["annotations"][0], cut, before["annotations"][7]]
    assert after["images"] == before["images"]
    places = {one.kind: one.where for one in fixed.repairs}
    assert places["no-area"] == f"{path} (annotation 2)"
    assert places["drawn-twice"] == f"{path} (annotation 7)"


def test_a_box_cut_to_less_than_a_pixel_goes(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD, (1, 10, 2, 20, 20), (0, -5, -5, 0.4, 0.4)]})
    fixed = run(path, tmp_path / "out")
    assert kinds(fixed) == ["out-of-image", "not-pixels"]
    assert len(tree_of(tmp_path / "out")["annotations"]) == 2


def test_what_coco_says_beside_boxes_stays(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD, (0, 50, 10, 70, 30)], "b.png": [(0, 1, 1, 20, 20), (0, 5, 5, 5, 9)]})
    tree |= {"info": {"year": 2024}, "licenses": [{"id": 1, "name": "x"}]}
    tree["images"][0] |= {"license": 1, "flickr_url": "u"}
    tree["categories"][0] |= {"supercategory": "animal"}
    segmented, crowd = tree["annotations"][0], tree["annotations"][2]
    segmented |= {"segmentation": [[2.3, 4.1, 30.1, 4, 20, 31.05]], "area": 321.0625, "score": 0.1}
    crowd |= {"iscrowd": 1, "segmentation": {"counts": "abc", "size": [40, 60]}}
    path = write_coco(tmp_path / "in" / "x.json", tree)
    run(path, tmp_path / "out")
    after = tree_of(tmp_path / "out")
    assert after["annotations"][0] == segmented
    assert after["annotations"][2] == crowd
    assert {key: after[key] for key in ("info", "licenses", "images", "categories")} == {
        key: tree[key] for key in ("info", "licenses", "images", "categories")
    }


def test_the_area_of_an_outline_stays_where_its_box_is_cut(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(1, 10, 10, 62, 30), (0, 40, 10, 80, 35), GOOD]})
    tree["annotations"][0]["area"] = 77.5
    tree["annotations"][1]["area"] = 900  # more than is left of it
    run(write_coco(tmp_path / "in" / "x.json", tree), tmp_path / "out")
    assert [one["area"] for one in tree_of(tmp_path / "out")["annotations"][:2]] == [77.5, 500]


def test_ids_and_entries_of_coco(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD, (0, 1, 1, 9, 9)], "b.png": [(0, 1, 1, 20, 20)], "gone.png": [(0, 2, 2, 20, 20)]})
    first = tree["annotations"][0]
    tree["annotations"][1]["id"] = 1
    tree["annotations"] += [
        {**first, "id": 10, "image_id": 99},
        {**first, "id": 11, "category_id": 9, "bbox": [1, 1, 5, 5]},
        {**first, "id": 12, "bbox": [1, 2]},
    ]
    path = write_coco(tmp_path / "in" / "x.json", tree)
    (path.parent / "images" / "gone.png").unlink()
    picture(path.parent / "images" / "unused.png", value=7)
    fixed = run(path, tmp_path / "out")
    assert sorted(kinds(fixed)) == [
        "bad-annotation", "duplicate-annotation-id", "missing-file", "unknown-image", "unused-files",
    ]  # fmt: skip
    # Whether its class is missing in the list, or the box is wrong, nobody knows.
    assert left(fixed) == ["unknown-class"]
    assert [one["id"] for one in tree_of(tmp_path / "out")["annotations"]] == [1, 12, 3, 11]
    assert sorted(file.name for file in (tmp_path / "out" / "x").iterdir()) == ["a.png", "b.png"]


def test_an_unlisted_class_never_gets_the_id_of_another(tmp_path: Path) -> None:
    tree = coco_tree(
        {"a.png": [GOOD, (0, 1, 1, 9, 9), (2, 3, 3, 30, 12), (0, 40, 9, 50, 20)]}, names=("cat", "dog", " cow")
    )
    tree["annotations"][1]["category_id"] = 4
    path = write_coco(tmp_path / "in" / "x.json", tree)
    fixed = run(path, tmp_path / "out")
    assert kinds(fixed) == ["blank-class"]
    after = tree_of(tmp_path / "out")
    assert [entry["name"] for entry in after["categories"]] == ["cat", "dog", "cow"]
    by_id = {entry["id"]: entry["name"] for entry in after["categories"]}
    assert [by_id.get(one["category_id"]) for one in after["annotations"]] == ["dog", None, "cow", "cat"]


def test_two_pictures_of_one_id_are_left_to_the_user(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD], "b.png": [(0, 1, 1, 20, 20)]})
    tree["images"][1]["id"] = 1
    tree["annotations"][1]["image_id"] = 1
    fixed = run(write_coco(tmp_path / "in" / "x.json", tree), tmp_path / "out")
    assert "duplicate-image-id" not in kinds(fixed)
    assert "duplicate-image-id" in left(fixed)


def test_broken_pictures_are_left_out(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.jpg": [GOOD], "b.png": [(0, 1, 1, 20, 20)], "c.png": [(0, 1, 1, 20, 20)], "d.png": []})
    jpeg = encode(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), ".jpg")
    (path.parent / "images" / "a.jpg").write_bytes(jpeg[: len(jpeg) // 2] + jpeg[-2:])  # found by decoding alone
    (path.parent / "images" / "c.png").write_bytes(b"no picture")
    fixed = run(path, tmp_path / "out")
    assert kinds(fixed) == ["broken-file", "broken-file"]
    assert [image["file_name"] for image in tree_of(tmp_path / "out")["images"]] == ["b.png", "d.png"]
    quick = run(path, tmp_path / "quick", decode=False)
    assert kinds(quick) == ["broken-file"]


def test_names_that_differ_in_case_become_one(tmp_path: Path) -> None:
    names = ("traffic light", "Traffic-Light", "dog ", "dig", "Dog")
    boxes = {
        "a.png": [(0, 1, 1, 20, 20), (0, 22, 1, 50, 20), (1, 2, 2, 30, 30)],
        "b.png": [(2, 3 * n, 3, 3 * n + 15, 19) for n in range(12)],
        "c.png": [(3, 3, 3, 30, 9), (4, 1, 10, 9, 30)],
    }
    path = coco(tmp_path, boxes, names=names)
    fixed = run(path, tmp_path / "out")
    assert sorted(kinds(fixed)) == ["blank-class", "spelt-twice", "spelt-twice"]
    after = tree_of(tmp_path / "out")
    assert after["categories"] == [
        {"id": 1, "name": "traffic light"}, {"id": 3, "name": "dog"}, {"id": 4, "name": "dig"},
    ]  # fmt: skip
    assert [one["category_id"] for one in after["annotations"]] == [1, 1, 1, *[3] * 12, 4, 3]


def test_names_used_twice_become_one(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD, (2, 1, 1, 9, 9), (0, 1, 20, 9, 30)]}, names=("cat", "dog", "cat"))
    fixed = run(path, tmp_path / "out")
    assert kinds(fixed) == ["duplicate-class"]
    assert [one["category_id"] for one in tree_of(tmp_path / "out")["annotations"]] == [2, 1, 1]


def test_numbers_in_names_tell_classes_apart(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD, (0, 1, 1, 9, 9)]}, names=("limit 3-0", "limit 30"))
    fixed = run(path, tmp_path / "out")
    assert (fixed.repairs, left(fixed)) == ([], ["spelt-twice"])


def splits(tmp_path: Path, train: dict[str, Any], val: dict[str, Any], names: tuple[str, ...] = ("cat", "dog")) -> Path:
    write_coco(tmp_path / "in" / "train.json", coco_tree(train), folder="train")
    write_coco(tmp_path / "in" / "val.json", coco_tree(val, names=names), folder="val")
    return tmp_path / "in"


def test_splits_get_the_same_classes(tmp_path: Path) -> None:
    root = splits(tmp_path, {"a.png": [GOOD, (0, 1, 1, 9, 9)]}, {"v.png": [GOOD, (0, 2, 2, 20, 9)]}, ("dog", "cow"))
    fixed = run(root, tmp_path / "out")
    assert kinds(fixed) == ["different-classes"]
    copy = open_splits(tmp_path / "out")
    assert {name: one.names for name, one in copy.items()} == dict.fromkeys(("train", "val"), ("cat", "dog", "cow"))
    assert [one.records[0].labels.tolist() for one in copy.values()] == [[1, 0], [2, 1]]


def test_a_picture_in_two_splits_goes_from_the_one_that_is_learnt_from(tmp_path: Path) -> None:
    root = splits(tmp_path, {"a.png": [GOOD], "b.png": [GOOD], "c.png": [CAT]}, {"v.png": [GOOD], "w.png": []})
    shutil.copy(root / "train" / "b.png", root / "val" / "v.png")
    fixed = run(root, tmp_path / "out")
    (done,) = fixed.repairs
    assert (done.kind, done.where) == ("shared-picture", f"{root / 'train.json'} (image 2)")
    assert left(fixed) == []
    assert [len(one) for one in open_splits(tmp_path / "out").values()] == [2, 2]


def test_a_shared_picture_stays_where_its_boxes_differ(tmp_path: Path) -> None:
    root = splits(tmp_path, {"a.png": [GOOD], "b.png": [GOOD], "c.png": [CAT]}, {"v.png": [], "w.png": []})
    shutil.copy(root / "train" / "b.png", root / "val" / "v.png")
    fixed = run(root, tmp_path / "out")
    assert (fixed.repairs, left(fixed)) == ([], ["shared-picture"])


def test_splits_that_are_the_same_stay(tmp_path: Path) -> None:
    root = splits(tmp_path, {"a.png": [GOOD], "b.png": [CAT]}, {"a.png": [GOOD], "b.png": [CAT]})
    fixed = run(root, tmp_path / "out")
    assert (fixed.repairs, left(fixed)) == ([], ["shared-picture"] * 2)


@pytest.mark.parametrize(
    ("boxes", "stays"),
    [
        (([GOOD], [GOOD]), "a.png"),
        (([], [GOOD]), "b.png"),
        (([GOOD], [GOOD, (0, 40, 1, 55, 9)]), "b.png"),
        (([GOOD], [(0, 40, 1, 55, 9)]), ""),
    ],
)
def test_a_picture_twice_in_a_split(tmp_path: Path, boxes: tuple[Any, Any], stays: str) -> None:
    path = coco(tmp_path, {"a.png": boxes[0], "b.png": boxes[1], "c.png": [GOOD, (0, 1, 1, 30, 9)]})
    shutil.copy(path.parent / "images" / "a.png", path.parent / "images" / "b.png")
    fixed = run(path, tmp_path / "out")
    names = [image["file_name"] for image in tree_of(tmp_path / "out")["images"]]
    assert names == ([stays, "c.png"] if stays else ["a.png", "b.png", "c.png"])
    assert kinds(fixed) + left(fixed) == ["duplicate-file"]


def test_sizes(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD], "b.png": [], "c.png": [(0, 1, 1, 20, 20)]})
    path = write_coco(tmp_path / "in" / "x.json", tree)
    for image, sides in zip(tree["images"], [(120, 80), (7, 8), ("?", None)], strict=True):
        image["width"], image["height"] = sides
    path.write_text(json.dumps(tree))
    fixed = run(path, tmp_path / "out")
    assert kinds(fixed) == ["wrong-size", "wrong-size"]
    assert left(fixed) == ["wrong-size"]  # its boxes may belong to a larger version of the picture
    assert [(one["width"], one["height"]) for one in tree_of(tmp_path / "out")["images"]] == [
        (120, 80),
        (60, 40),
        (60, 40),
    ]


def corners_as_sides(number: int) -> list[float]:
    return [20.5 + number, 10, 50.25 + number, 38]


def test_corners_taken_for_sides(tmp_path: Path) -> None:
    tree = coco_tree({f"{number}.png": [GOOD] for number in range(5)})
    for number, annotation in enumerate(tree["annotations"]):
        annotation["bbox"] = corners_as_sides(number)
        annotation["area"] = 29.75 * 28
    path = write_coco(tmp_path / "in" / "x.json", tree)
    fixed = run(path, tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["box-form"], ["unused-class"])
    after = tree_of(tmp_path / "out")["annotations"]
    assert [one["bbox"] for one in after] == [[20.5 + number, 10, 29.75, 28] for number in range(5)]
    assert {one["area"] for one in after} == {29.75 * 28}


def test_fractions_taken_for_pixels(tmp_path: Path) -> None:
    tree = coco_tree({f"{number}.png": [GOOD] for number in range(5)})
    for number, annotation in enumerate(tree["annotations"]):
        annotation["bbox"] = [0.1 * number, 0.25, 0.5, 0.5]
    fixed = run(write_coco(tmp_path / "in" / "x.json", tree), tmp_path / "out")
    assert kinds(fixed) == ["box-form"]
    boxes = [one["bbox"] for one in tree_of(tmp_path / "out")["annotations"]]
    assert boxes == [[6 * number, 10, 30, 20] for number in range(5)]


def test_centres_as_fractions_are_no_left_upper_corners(tmp_path: Path) -> None:
    tree = coco_tree({f"{number}.png": [GOOD] for number in range(5)})
    for number, annotation in enumerate(tree["annotations"]):
        annotation["bbox"] = [0.7 + 0.01 * number, 0.7, 0.5, 0.5]
    path = write_coco(tmp_path / "in" / "x.json", tree)
    with pytest.raises(DataError, match="only 0 of 5 boxes lie in their pictures then; nothing is written"):
        run(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in"]


def test_boxes_that_do_not_follow_the_rotation(tmp_path: Path) -> None:
    tree = coco_tree({f"{number}.jpg": [(1, 45, 5, 58, 20)] for number in range(3)})
    tree["annotations"][0] |= {"segmentation": [[45, 5, 58, 5, 58, 20]], "keypoints": [50, 6, 2], "num_keypoints": 1}
    path = write_coco(tmp_path / "in" / "x.json", tree)
    for number, turn in enumerate((6, 8, 1)):
        jpeg = encode(np.roll(smooth(40, 60), 5 * number, 0), ".jpg")
        (path.parent / "images" / f"{number}.jpg").write_bytes(jpeg_with_exif(jpeg, exif(turn)))
    fixed = run(path, tmp_path / "out")
    assert fixed.lost == ["segmentations and key points of annotations whose boxes were turned, where there were any"]
    assert sorted(kinds(fixed)) == ["exif-boxes", "wrong-size", "wrong-size"]
    assert left(fixed) == ["unused-class"]
    after = tree_of(tmp_path / "out")
    # A quarter turn to the right: what was left is up, and what was up is right.
    assert [one["bbox"] for one in after["annotations"]] == [[20, 45, 15, 13], [5, 2, 15, 13], [45, 5, 13, 15]]
    assert [(one["width"], one["height"]) for one in after["images"]] == [(40, 60), (40, 60), (60, 40)]
    assert not {"segmentation", "keypoints", "num_keypoints"} & set(after["annotations"][0])


def test_class_ids_from_one(tmp_path: Path) -> None:
    labels = {"a": "1 0.5 0.5 0.2 0.2\n", "b": "2 0.25 0.5 0.123456789012 0.2\n2 0.5 0.5 0.1 0.1\n"}
    path = write_yolo(tmp_path / "in", labels)
    fixed = run(path, tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["shifted-ids"], [])
    texts = [(tmp_path / "out" / "labels" / "train" / f"{stem}.txt").read_text() for stem in "ab"]
    assert texts == ["0 0.5 0.5 0.2 0.2\n", "1 0.25 0.5 0.123456789012 0.2\n1 0.5 0.5 0.1 0.1\n"]


def test_class_ids_of_a_split_without_the_last_class(tmp_path: Path) -> None:
    yaml = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
    write_yolo(tmp_path / "in", {"v": "1 0.3 0.5 0.2 0.2\n"}, yaml=yaml, split="val")
    picture(tmp_path / "in" / "images" / "val" / "v.png", value=200)
    path = write_yolo(tmp_path / "in", {"a": "1 0.5 0.5 0.2 0.2\n2 0.2 0.5 0.2 0.2\n"}, yaml=yaml)
    run(path, tmp_path / "out")
    assert (tmp_path / "out" / "labels" / "val" / "v.txt").read_text() == "0 0.3 0.5 0.2 0.2\n"
    label = tmp_path / "in" / "labels" / "val" / "v.txt"
    label.write_text("0 0.3 0.5 0.2 0.2\n")
    with pytest.raises(
        DataError, match="the class ids of split 'val' count from 0, those of train seem to count from 1"
    ):
        run(path, tmp_path / "other")


def test_class_ids_of_coco(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD, (0, 1, 1, 9, 9)]})
    for annotation in tree["annotations"]:
        annotation["category_id"] -= 1  # 0 and 1, where the list has 1 and 2
    fixed = run(write_coco(tmp_path / "in" / "x.json", tree), tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["shifted-ids"], [])
    assert [one["category_id"] for one in tree_of(tmp_path / "out")["annotations"]] == [2, 1]


def test_yolo(tmp_path: Path) -> None:
    """Lines, polygons, line ends, other keys of the description, an empty label file."""
    labels = {
        "a": "0 0.5 0.50 0.2 0.2\r\n1 0.9 0.5 0.5 0.2\n0 0.5 0.50 0.2 0.2\n\nwhat\n0 0.3 0.3 0 0.1\n",
        "b": "1 0.200000000001 0.2 0.3 0.2\r\n",
        "c": "",
        "d": "0 0.9 0.9 1.1 0.9 1.1 0.5 0.95 0.3 0.7 0.4\n7 0.5 0.5 0.1 0.1\n",
    }
    yaml = "# about\npath: .\ntrain: images/train\nnc: 2\nnames:\n  0: cat\n  1: dog\nlicense: x\n"
    path = write_yolo(tmp_path / "in", labels, yaml=yaml)
    folder = tmp_path / "in" / "labels" / "train"
    for stem, text in labels.items():
        (folder / f"{stem}.txt").write_bytes(text.encode())
    (folder / "nobody.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    fixed = run(path, tmp_path / "out")
    assert sorted(kinds(fixed)) == [
        "bad-annotation", "duplicate-box", "no-area", "orphan-label", "out-of-image", "out-of-image",
    ]  # fmt: skip
    assert left(fixed) == ["unknown-class"]
    copy = tmp_path / "out" / "labels" / "train"
    assert sorted(file.name for file in copy.iterdir()) == ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert (copy / "a.txt").read_text() == "0 0.5 0.50 0.2 0.2\n1 0.825 0.5 0.35 0.2\n\n"
    assert (copy / "b.txt").read_bytes() == labels["b"].encode()
    assert (copy / "d.txt").read_text() == "0 0.9 0.9 1 0.9 1 0.5 0.95 0.3 0.7 0.4\n7 0.5 0.5 0.1 0.1\n"
    text = (tmp_path / "out" / "data.yaml").read_text()
    assert "# about" in text
    assert "license: x" in text
    assert "path" not in text


def test_classes_of_yolo_become_one(tmp_path: Path) -> None:
    yaml = "train: images/train\nnc: 3\nnames: [cat, Cat, dog]\n"
    labels = {"a": "0 0.5 0.5 0.2 0.2\n0 0.2 0.2 0.2 0.2\n", "b": "1 0.7 0.5 0.1 0.2\n2 0.2 0.2 0.2 0.2\n"}
    fixed = run(write_yolo(tmp_path / "in", labels, yaml=yaml), tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["spelt-twice"], [])
    copy = open_splits(tmp_path / "out")["train"]
    assert copy.names == ("cat", "dog")
    assert [record.labels.tolist() for record in copy.records] == [[0, 0], [0, 1]]


def test_yolo_in_pixels(tmp_path: Path) -> None:
    labels = {stem: f"0 {10 + n} 20 8 10\n1 30 20 10.5 10\n" for n, stem in enumerate("abc")}
    fixed = run(write_yolo(tmp_path / "in", labels), tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["box-form"], [])
    (record, *_) = open_splits(tmp_path / "out")["train"].records
    np.testing.assert_allclose(record.boxes, [[6, 15, 14, 25], [24.75, 15, 35.25, 25]], atol=1e-4)


def test_polygons_among_boxes_of_another_form_are_refused(tmp_path: Path) -> None:
    labels = {stem: f"0 {10 + n} 20 8 10\n1 30 20 10.5 10\n1 30 20 40 20 40 30 30 35\n" for n, stem in enumerate("abc")}
    path = write_yolo(tmp_path / "in", labels)
    with pytest.raises(DataError, match=r"a\.txt:3: has 9 numbers, and the boxes of this data set are written in an"):
        run(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in"]


def test_voc(tmp_path: Path) -> None:
    """Objects on one line, other elements, difficult ones, encodings, files that need no repair."""
    plain = "<?xml version='1.0' encoding='gb2312'?>\n<annotation><!-- 狗 --><filename>b.png</filename>\n".encode(
        "gb18030"
    )
    plain += b"<size><width>60</width><height>40</height></size>"
    plain += (
        "<object><name>狗</name><difficult>1</difficult><pose>左</pose><bndbox><xmin>1.50</xmin><ymin>2</ymin><xmax>30</xmax>"
        "<ymax>20</ymax></bndbox></object></annotation>".encode("gb18030")
    )
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    objects = [
        "<object><name>x</name></object>",
        f"<object><name>x</name><truncated>1</truncated>{box.format(1, 1, '5.250', 5)}</object>",
        f"<object><name>x</name>{box.format(3, 3, 3, 3)}</object>",
        f"<object><name>x</name>{box.format(50, 10, 70, 30)}</object>",
    ]
    root = write_voc(
        tmp_path / "in",
        {
            "a": voc_text([], extra="".join(objects) + "<owner>me</owner>"),
            "b": "",
            "c": voc_text([]),
            "d": "<broken",
        },
        {"train": ["a", "d", "gone"], "val": ["b", "c"]},
    )
    (root / "Annotations" / "b.xml").write_bytes(plain)
    (root / "ImageSets" / "Main" / "x_train.txt").write_text("a 1\n")
    fixed = run(root, tmp_path / "out")
    assert fixed.lost == ["lists in ImageSets/Main that the copy has not: x_train.txt"]
    assert sorted(set(kinds(fixed))) == ["bad-annotation", "missing-file", "no-area", "out-of-image"]
    out = tmp_path / "out"
    assert (out / "Annotations" / "b.xml").read_bytes() == plain
    text = (out / "Annotations" / "a.xml").read_text()
    assert text.count("<object>") == 2
    assert objects[1] in text
    assert "<owner>me</owner>" in text
    assert box.format(50, 10, 60, 30) in text
    assert {file.stem: file.read_text().split() for file in (out / "ImageSets" / "Main").iterdir()} == {
        "train": ["a"], "val": ["b", "c"],
    }  # fmt: skip
    crowd = [record.crowd.tolist() for one in open_splits(out).values() for record in one.records]
    assert crowd == [[False, False], [True], []]


def test_sizes_and_names_of_pictures_that_voc_leaves_out(tmp_path: Path) -> None:
    text = voc_text([("cat", 1.5, 2, 30, 31)])
    texts = {
        "a": voc_text([("cat", 1.5, 2, 30, 31)], size="0 0"),
        "b": text.replace("<size><width>60</width><height>40</height><depth>3</depth></size>", ""),
        "c": text.replace("<filename>x.png</filename>", ""),
        "d": text.replace("x.png", ""),
        "e": text,
    }
    root = write_voc(tmp_path / "in", texts)
    fixed = run(root, tmp_path / "out")
    assert sorted(kinds(fixed)) == ["no-file-name", "no-size"]
    assert not {"no-size", "no-file-name"} & {one.kind for one in fixed.left}
    before, after = (open_splits(place)["all"].records for place in (root, tmp_path / "out"))
    assert [one.path.name for one in after] == [one.path.name for one in before]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        said = parse_annotation(Path(other.source))
        assert (said.size, said.file_name) == ((40, 60), "x.png" if one.path.stem in "abe" else one.path.name)
    assert (tmp_path / "out" / "Annotations" / "e.xml").read_text() == text


def test_voc_with_a_list_of_classes_in_folders(tmp_path: Path) -> None:
    texts = {"cam1/a": voc_text([("x", 1, 1, 9, 9), ("x", 1, 1, 9, 9), ("y", 2, 20, 20, 30)])}
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / "in" / folder / "cam1").mkdir(parents=True)
    (tmp_path / "in" / "Annotations" / "cam1" / "a.xml").write_text(texts["cam1/a"])
    picture(tmp_path / "in" / "JPEGImages" / "cam1" / "a.png")
    (tmp_path / "in" / "classes.txt").write_text("x\nz\n")
    fixed = run(tmp_path / "in", tmp_path / "out")
    assert kinds(fixed) == ["duplicate-box"]
    assert left(fixed) == ["unknown-class", "unused-class"]
    assert (tmp_path / "out" / "classes.txt").read_text() == "x\nz\n"
    assert (tmp_path / "out" / "JPEGImages" / "cam1" / "a.png").is_file()


def test_other_formats_become_coco(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png", value=33)
    rows = ["a.png,cat,1,1,20.5,20", "a.png,cat,1,1,20.5,20", "b.png,Cat,2,2,40,30", "b.png,cat,50,2,80,30"]
    (tmp_path / "in" / "x.csv").write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]) + "\n")
    fixed = run(tmp_path / "in" / "x.csv", tmp_path / "out")
    assert fixed.written == "coco"
    assert fixed.lost == [
        "the copy is a COCO file with pictures, boxes, classes and crowds, and has nothing else of the original"
    ]
    assert sorted(kinds(fixed)) == ["duplicate-box", "out-of-image", "spelt-twice"]
    (name,) = [file.name for file in (tmp_path / "out").glob("*.json") if file.name != LIST]
    tree = tree_of(tmp_path / "out", name)
    assert [one["bbox"] for one in tree["annotations"]] == [[1, 1, 19.5, 19], [2, 2, 38, 28], [50, 2, 10, 28]]
    assert [entry["name"] for entry in tree["categories"]] == ["cat"]


def test_darknet_and_labelimg_become_yolo(tmp_path: Path) -> None:
    for name, description in (("darknet", "obj.data"), ("labelimg", "classes.txt")):
        root = tmp_path / name
        root.mkdir()
        for number, stem in enumerate("ab"):
            picture(root / f"{stem}.png", value=40 + number)
            (root / f"{stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.5 0.2 0.2\n" + "1 0.2 0.5 0.2 0.2\n" * number)
        (root / "classes.txt").write_text("cat\ndog\n")
        if name == "darknet":
            (root / "classes.txt").rename(root / "obj.names")
            (root / "train.txt").write_text("a.png\nb.png\n")
            (root / description).write_text("classes = 2\nnames = obj.names\ntrain = train.txt\n")
        fixed = run(root / description, tmp_path / f"{name} out")
        assert (fixed.written, kinds(fixed), left(fixed)) == ("yolo", ["duplicate-box"], [])
        assert fixed.lost == ["data.yaml describes the copy, in place of the lists and names of the original"]
        copy = open_splits(tmp_path / f"{name} out")["train"]
        assert (copy.names, [record.labels.tolist() for record in copy.records]) == (("cat", "dog"), [[0, 1]] * 2)


def test_names_that_leave_the_folder(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [GOOD], "b.png": [(0, 1, 1, 9, 9)]})
    path = write_coco(tmp_path / "in" / "x.json", tree)
    for image in tree["images"]:
        image["file_name"] = f"../images/{image['file_name']}"
    path.write_text(json.dumps(tree))
    run(path, tmp_path / "deep" / "out")
    assert [image["file_name"] for image in tree_of(tmp_path / "deep" / "out")["images"]] == ["a.png", "b.png"]
    assert sorted(one.name for one in (tmp_path / "deep").iterdir()) == ["out"]


def test_names_that_differ_in_case(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD], "A.PNG": [(0, 1, 1, 9, 9)], "a.jpg": []})
    run(path, tmp_path / "out")
    assert [image["file_name"] for image in tree_of(tmp_path / "out")["images"]] == ["a.png", "A_2.PNG", "a.jpg"]


def test_pictures_that_share_a_label_file(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "in", {"a": "0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.2 0.2\n"})
    picture(tmp_path / "in" / "images" / "train" / "a.jpg", value=77)
    fixed = run(path, tmp_path / "out")
    # Whose boxes they are has to be said by somebody; until then both have them, as when reading.
    assert (fixed.repairs, left(fixed)) == ([], ["other-picture"])
    assert sorted(one.name for one in (tmp_path / "out" / "labels" / "train").iterdir()) == ["a.txt", "a_2.txt"]


def test_a_file_with_the_name_of_the_list(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "in" / "fix.json", coco_tree({"a.png": [GOOD, CAT]}))
    run(path, tmp_path / "out")
    assert tree_of(tmp_path / "out", "annotations.json") == json.loads(path.read_text())


def test_a_copy_of_a_copy(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD, CAT, CAT]})
    assert kinds(run(path, tmp_path / "out")) == ["duplicate-box"]
    again = run(tmp_path / "out", tmp_path / "again")
    assert (again.repairs, left(again)) == ([], [])
    assert tree_of(tmp_path / "again") == tree_of(tmp_path / "out")


def test_the_same_names_in_folders_of_splits(tmp_path: Path) -> None:
    """As some tools write Pascal VOC: pictures and annotations together, a folder per split."""
    for number, split in enumerate(("train", "valid")):
        (tmp_path / "in" / split).mkdir(parents=True)
        (tmp_path / "in" / split / "a.xml").write_text(voc_text([("x", 1, 1, 9 + number, 9)] * 2))
        picture(tmp_path / "in" / split / "a.png", value=50 + number)
    fixed = run(tmp_path / "in", tmp_path / "out")
    assert (kinds(fixed), left(fixed)) == (["duplicate-box"] * 2, [])
    copy = open_splits(tmp_path / "out")
    assert {name: one.records[0].boxes.tolist() for name, one in copy.items()} == {
        "train": [[1, 1, 9, 9]], "val": [[1, 1, 10, 9]],
    }  # fmt: skip


def test_where_a_copy_may_be(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD], "b.png": [(0, 1, 1, 9, 9)]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(DataError, match="exists already; give a new or an empty folder"):
        run(path, tmp_path / "full")
    with pytest.raises(DataError, match="lies in the data set"):
        run(path, path.parent / "images" / "copy")
    assert not (path.parent / "images" / "copy").exists()
    (tmp_path / "empty").mkdir()
    run(path, tmp_path / "empty")


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD], "b.png": [(0, 1, 1, 9, 9)]})
    found = open_splits(path)

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fix(found, check_splits(found), tmp_path / "out", progress=interrupt)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in"]


def test_so_much_that_something_else_is_wrong(tmp_path: Path) -> None:
    path = coco(tmp_path, {"a.png": [GOOD], "b.png": [(0, 1, 1, 9, 9)], "c.png": []})
    (path.parent / "images" / "a.png").unlink()
    (path.parent / "images" / "b.png").unlink()
    with pytest.raises(DataError, match="2 of 3 pictures of split 'all' cannot be read; nothing is written"):
        run(path, tmp_path / "out")
    flat = coco(tmp_path / "flat", {"a.png": [GOOD, (0, 1, 1, 1, 9), (0, 5, 1, 5, 9)]})
    with pytest.raises(DataError, match="2 of 3 boxes of split 'all' would go"):
        run(flat, tmp_path / "out")
