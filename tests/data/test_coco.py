"""COCO JSON: what is read, and what is said about what cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.coco import read_coco
from tests.data.build import coco_tree, picture, write_coco


def _kinds(path: Path) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where.removeprefix(str(path))) for problem in read_coco(path).problems]


def test_by_hand(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(1, 10, 20, 30, 25), (0, 0.5, 1, 2.25, 3)], "b.png": []})
    tree["annotations"][0].update(iscrowd=1, area=33.5, segmentation=[[1, 2, 3, 4, 5, 6]])
    dataset = read_coco(write_coco(tmp_path / "train.json", tree))
    assert dataset.names == ("cat", "dog")
    assert dataset.problems == ()
    assert dataset.format == "coco"
    first, second = dataset.records
    assert (first.image_id, first.path, first.width, first.height) == (1, tmp_path / "images" / "a.png", 60, 40)
    np.testing.assert_array_equal(first.boxes, [[10, 20, 30, 25], [0.5, 1, 2.25, 3]])
    assert first.labels.tolist() == [1, 0]
    assert first.crowd.tolist() == [True, False]
    assert first.areas is not None
    assert first.areas.tolist() == [33.5, 3.5]
    assert dataset.box_source(first, 1) == f"{tmp_path / 'train.json'} (annotation 2)"
    assert second.boxes.shape == (0, 4)


def test_sparse_category_ids_become_indices_in_their_order(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)]})
    tree["categories"] = [{"id": 90, "name": "z"}, {"id": 3, "name": "m"}, {"id": 17, "name": "a"}]
    tree["annotations"][0]["category_id"] = 90
    dataset = read_coco(write_coco(tmp_path / "x.json", tree))
    assert dataset.names == ("m", "a", "z")
    assert dataset.records[0].labels.tolist() == [2]


def test_ids_may_be_texts_or_huge(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5), (0, 2, 2, 6, 6)]})
    tree["images"][0]["id"] = "first"
    for entry, key in zip(tree["annotations"], ["one", 2**80], strict=True):
        entry.update(image_id="first", id=key)
    dataset = read_coco(write_coco(tmp_path / "x.json", tree))
    assert dataset.records[0].image_id == "first"
    assert dataset.records[0].box_keys == ("one", 2**80)


def test_area_and_crowd_may_be_absent(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 6)]})
    for key in ("area", "iscrowd", "id"):
        del tree["annotations"][0][key]
    record = read_coco(write_coco(tmp_path / "x.json", tree)).records[0]
    assert record.areas is not None
    assert record.areas.tolist() == [20]
    assert record.crowd.tolist() == [False]


def test_broken_json_is_named_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DataError) as error:
        read_coco(path)
    assert str(error.value) == f"{path}:2:18: is not valid JSON: Expecting value"


def test_deep_nesting_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"x\.json(:\d+:\d+)?: is not valid JSON"):
        read_coco(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "x.json: expected a COCO object with 'images', 'annotations' and 'categories' at the top"),
        (b"{}", "x.json: 'images' is missing; expected a list, as in every COCO detection file"),
        (b'{"images": {}}', "x.json: 'images' is {}; expected a list, as in every COCO detection file"),
        (b'{"images": [7]}', "x.json: images[0] is 7; expected an object with an 'id'"),
        (b"\xff\xfe{}", "x.json: is not UTF-8 text (byte 0); expected an annotation file"),
    ],
)
def test_not_coco(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_coco(path)
    assert str(error.value) == str(tmp_path / message)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1}], r"""categories\[0\] is \{"id": 1\}; expected an 'id' and a 'name'"""),
        (
            [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
            "category id 1 is used for 'a' and for 'b'; make ids unique",
        ),
        ([{"id": 1, "name": "a"}, {"id": "1", "name": "b"}], "category ids are numbers and texts mixed"),
    ],
)
def test_unusable_categories(tmp_path: Path, categories: list[Any], message: str) -> None:
    tree = coco_tree({"a.png": []})
    tree["categories"] = categories
    with pytest.raises(DataError, match=message):
        read_coco(write_coco(tmp_path / "x.json", tree))


@pytest.mark.parametrize(
    ("change", "kind", "what"),
    [
        ({"image_id": 7}, "unknown-image", "refers to image id 7, which is not listed under 'images'; left out"),
        ({"image_id": [1]}, "unknown-image", "refers to image id [1], which is not listed under 'images'; left out"),
        (
            {"category_id": 5},
            "unknown-class",
            "refers to category id 5, which is not listed under 'categories'; left out",
        ),
        ({"bbox": [1, 2, 3]}, "bad-annotation", "'bbox' is [1, 2, 3]; expected [left, top, width, height]. Left out"),
        ({"bbox": None}, "bad-annotation", "'bbox' is null; expected [left, top, width, height]. Left out"),
        (
            {"bbox": [1, 2, 3, "4"]},
            "bad-annotation",
            "'bbox' is [1, 2, 3, \"4\"]; expected [left, top, width, height]. Left out",
        ),
    ],
)
def test_annotations_left_out(tmp_path: Path, change: dict[str, Any], kind: str, what: str) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5), (1, 2, 2, 8, 8)]})
    tree["annotations"][0].update(change)
    path = write_coco(tmp_path / "x.json", tree)
    dataset = read_coco(path)
    assert [problem[:3] for problem in dataset.problems] == [(f"{path} (annotation 1)", what, kind)]
    assert dataset.records[0].labels.tolist() == [1]


def test_numbers_that_are_not_finite_stay_for_the_check_to_see(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, float("nan"), 1, 5, 5), (0, 1, 1, float("inf"), 5)]})
    path = write_coco(tmp_path / "x.json", tree)
    assert not np.isfinite(read_coco(path).records[0].boxes).all(1).any()


def test_ids_used_twice(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5), (1, 2, 2, 8, 8)], "b.png": []})
    tree["images"][1]["id"] = 1
    tree["annotations"][1]["id"] = 1
    path = write_coco(tmp_path / "x.json", tree)
    assert _kinds(path) == [("duplicate-image-id", " (image 1)"), ("duplicate-annotation-id", " (annotation 1)")]
    dataset = read_coco(path)
    assert [record.path.name for record in dataset.records] == ["a.png"]
    assert len(dataset.records[0].boxes) == 2


def test_class_names_used_twice_and_images_without_name(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": []}, names=("cat", "cat"))
    path = write_coco(tmp_path / "x.json", tree)
    tree["images"].append({"id": 5})
    path.write_text(json.dumps(tree))
    assert _kinds(path) == [("duplicate-class", " (category 2)"), ("bad-annotation", ": images[1]")]


@pytest.mark.parametrize(
    "size", [{"width": 0, "height": 40}, {"width": "60", "height": 40}, {"width": 60.5, "height": 40}]
)
def test_sizes_that_cannot_be(tmp_path: Path, size: dict[str, Any]) -> None:
    tree = coco_tree({"a.png": []})
    path = write_coco(tmp_path / "x.json", tree)
    tree["images"][0].update(size)
    path.write_text(json.dumps(tree))
    assert _kinds(path) == [("wrong-size", " (image 1)")]
    assert read_coco(path).records[0].width is None


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("train.json", "train"),
        ("train.json", "images"),
        ("train.json", "images/train"),
        ("train.json", "."),
        ("annotations/instances_val2017.json", "../val2017"),
        ("annotations/instances_val2017.json", "../images/val2017"),
        ("annotations/val.json", "../images"),
    ],
)
def test_pictures_are_found_beside_the_file(tmp_path: Path, file: str, folder: str) -> None:
    path = write_coco(tmp_path / file, coco_tree({"sub/a.png": []}), folder=folder)
    assert read_coco(path).records[0].path.is_file()


def test_one_missing_picture_does_not_hide_the_folder(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": [], "b.png": []}))
    (tmp_path / "images" / "a.png").unlink()
    assert read_coco(path).records[1].path.is_file()


def test_pictures_not_found(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(coco_tree({"a.png": []})))
    with pytest.raises(
        DataError, match=r"x\.json: its pictures are not found \(a\.png is in none of .*'images' folder"
    ):
        read_coco(path)
    picture(tmp_path / "elsewhere" / "a.png")
    assert read_coco(path, tmp_path / "elsewhere").records[0].path.is_file()


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    tree = coco_tree({"sub/a.png": []})
    path = write_coco(tmp_path / "x.json", tree)
    tree["images"][0]["file_name"] = "sub\\a.png"
    path.write_text(json.dumps(tree))
    assert read_coco(path).records[0].path.is_file()


def test_no_pictures_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('\ufeff{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', encoding="utf-8")
    dataset = read_coco(path)
    assert (dataset.names, len(dataset)) == (("a",), 0)


@pytest.mark.parametrize(
    ("listed", "referred"),
    [(0, "0"), ("0", 0), (0, 0.0), (0.0, 0), ("7", 7.0), (7, "7")],
)
def test_ids_as_texts_and_numbers_are_the_same(tmp_path: Path, listed: Any, referred: Any) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)]}, names=("LP",))
    tree["images"][0]["id"] = tree["categories"][0]["id"] = listed
    tree["annotations"][0].update(image_id=referred, category_id=referred)
    dataset = read_coco(write_coco(tmp_path / "x.json", tree))
    assert dataset.problems == ()
    assert dataset.records[0].labels.tolist() == [0]


def test_ids_that_differ_as_texts_and_numbers_stay_apart(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)], "b.png": [(1, 1, 1, 5, 5)], "c.png": []})
    tree["images"][1]["id"] = tree["annotations"][1]["image_id"] = "1"
    tree["annotations"].append({**tree["annotations"][0], "id": 9, "image_id": "01"})
    dataset = read_coco(write_coco(tmp_path / "x.json", tree))
    assert [record.labels.tolist() for record in dataset.records] == [[0], [1], []]
    (problem,) = dataset.problems
    assert problem.what == """refers to image id "01", which is not listed under 'images'; left out"""


def test_folders_of_another_machine(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)], "b.png": []})
    path = write_coco(tmp_path / "result.json", tree)
    for image in tree["images"]:
        image["file_name"] = f"images\\1/{image['file_name']}"
    path.write_text(json.dumps(tree))
    for images in (None, tmp_path / "images"):
        dataset = read_coco(path, images)
        assert all(record.path.is_file() for record in dataset.records)
        (problem,) = dataset.problems
        assert problem[:3] == (
            str(path),
            f"its file names begin with folders that are not in {tmp_path / 'images'}, as in 'images/1/a.png'; "
            "pictures are found by the rest, 'a.png'",
            "other-path",
        )


def test_accents_may_be_composed_or_not(tmp_path: Path) -> None:
    tree = coco_tree({"U\u0308bung.png": [(0, 1, 1, 5, 5)], "b.png": []})
    path = write_coco(tmp_path / "x.json", tree)
    tree["images"][0]["file_name"] = "\u00dcbung.png"
    path.write_text(json.dumps(tree))
    dataset = read_coco(path)
    assert dataset.records[0].path.is_file()
    assert dataset.problems == ()


def test_pictures_that_no_file_lists(tmp_path: Path) -> None:
    train = write_coco(tmp_path / "train.json", coco_tree({"a.png": []}))
    picture(tmp_path / "images" / "b.png")
    (tmp_path / "images" / "c.heic").write_bytes(b"x")
    (problem,) = read_coco(train).problems
    assert str(problem) == (
        f"{tmp_path / 'images'}: 2 files are not used, being listed in no annotation file (.png 1, .heic 1): "
        "b.png, c.heic"
    )
    # What another file lists is that one's; captions list nothing.
    write_coco(tmp_path / "val.json", coco_tree({"b.png": []}))
    (tmp_path / "notes.json").write_text('{"file_name": "c.heic"}')
    (problem,) = read_coco(train).problems
    assert problem.what.endswith(": c.heic")


def test_other_pictures_beside_the_file(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": []}), folder=".")
    (tmp_path / "readme.html").write_text("")
    picture(tmp_path / "elsewhere" / "b.png")
    assert read_coco(path).problems == ()
    picture(tmp_path / "b.png")
    (problem,) = read_coco(path).problems
    assert problem.what == "1 file is not used, being listed in no annotation file: b.png"


@pytest.mark.parametrize(("name", "why"), [("a\0.png", "a NUL character"), ("\ud800.png", "half of a character")])
def test_impossible_file_names(tmp_path: Path, name: str, why: str) -> None:
    tree = coco_tree({"a.png": [], "b.png": []})
    path = write_coco(tmp_path / "x.json", tree)
    tree["images"][0]["file_name"] = name
    path.write_text(json.dumps(tree))
    dataset = read_coco(path)
    assert [record.path.name for record in dataset.records] == ["b.png"]
    assert (dataset.problems[0].kind, why in dataset.problems[0].what) == ("bad-annotation", True)


def test_deep_documents_that_end(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(
        DataError, match=r"x\.json: is not valid JSON for annotations: its lists and objects nest too deep"
    ):
        read_coco(path)


def test_halves_of_characters(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5), (1, 1, 1, 5, 6)]})
    path = write_coco(tmp_path / "x.json", tree)
    tree["annotations"][0]["category_id"] = "\ud800"
    path.write_text(json.dumps(tree))
    (problem,) = read_coco(path).problems
    assert problem.what == """refers to category id "\\ud800", which is not listed under 'categories'; left out"""
    tree["categories"][0]["name"] = "\ud800"
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"categories\[0\] is .*; expected an 'id' and a 'name'") as error:
        read_coco(path)
    str(error.value).encode()


def test_numbers_beyond_float32_are_told_as_infinite(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 1e300, 5)]})
    assert not np.isfinite(read_coco(write_coco(tmp_path / "x.json", tree)).records[0].boxes).all()


@pytest.mark.parametrize(
    ("flag", "crowd"), [(1, True), ("1", True), (2, True), (0, False), ("0", False), (None, False)]
)
def test_crowd_flags_as_tools_write_them(tmp_path: Path, flag: Any, crowd: bool) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 20, 20)]})
    tree["annotations"][0]["iscrowd"] = flag
    tree["categories"][1]["name"] = 7
    dataset = read_coco(write_coco(tmp_path / "x.json", tree))
    assert dataset.records[0].crowd.tolist() == [crowd]
    assert dataset.names == ("cat", "7")


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": [(0, 1, 1, 20, 20)]}))
    path.write_text(path.read_text()[:-1] + ', "annotations": []}')
    with pytest.raises(DataError, match=r"x\.json: an object has the key 'annotations' twice; expected each once"):
        read_coco(path)
