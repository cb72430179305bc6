"""Every kind of problem is caused once and found, with its place."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.check import class_counts, open_splits, spelt_twice, summary
from falconet.data.dataset import DataSet, Problem
from falconet.data.formats import open_dataset
from falconet.data.kinds import KINDS
from tests.core.pictures import encode
from tests.data.build import coco_tree, mistakes, voc_text, write_coco, write_voc, write_yolo


def _clean(folder: Path, name: str = "train") -> DataSet:
    tree = coco_tree({f"{name}_a.jpg": [(0, 1, 1, 20, 20)], f"{name}_b.png": [(1, 2, 2, 30, 30)], f"{name}_c.png": []})
    return open_dataset(write_coco(folder / f"{name}.json", tree, folder=name))


def check(dataset, **options):
    return mistakes({"all": dataset}, **options)


def test_nothing_wrong(tmp_path: Path) -> None:
    dataset = _clean(tmp_path)
    assert check(dataset) == []
    assert class_counts(dataset) == {"cat": 1, "dog": 1}
    assert summary([]) == {}


def test_boxes(tmp_path: Path) -> None:
    boxes = [
        (0, 1, 1, 1, 9),
        (0, 50, 1, 70, 9),
        (0, float("nan"), 1, 2, 2),
        (1, 2, 2, 9, 9),
        (1, 2, 2, 9, 9),
        (0, 2, 2, 9, 9),
    ]
    path = write_coco(tmp_path / "x.json", coco_tree({"a.png": boxes}))
    problems = check(open_dataset(path))
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("no-area", f"{path} (annotation 1)"),
        ("out-of-image", f"{path} (annotation 2)"),
        ("not-finite", f"{path} (annotation 3)"),
        ("duplicate-box", f"{path} (annotation 5)"),
        ("two-classes", f"{path} (annotation 6)"),
    ]
    assert problems[3].what == f"image a.png has the box [2, 2, 9, 9] of 'dog' twice, first at {path} (annotation 4)"


def test_places_are_lines_in_the_other_formats(tmp_path: Path) -> None:
    voc = write_voc(tmp_path / "voc", {"a": voc_text([("x", 1, 1, 5, 5), ("x", 3, 3, 3, 3)])})
    (problem,) = check(open_dataset(voc))
    assert problem.where == f"{voc / 'Annotations' / 'a.xml'}:4"
    yolo = write_yolo(tmp_path / "yolo", {"a": "0 0.5 0.5 0.5 0.5\n1 0.9 0.5 0.5 0.5\n"})
    (problem,) = check(open_dataset(yolo))
    assert problem.where == f"{tmp_path / 'yolo' / 'labels' / 'train' / 'a.txt'}:2"


def test_files(tmp_path: Path) -> None:
    dataset = _clean(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    jpeg = encode(noise, ".jpg")
    (tmp_path / "train" / "train_a.jpg").write_bytes(jpeg[:-200])
    (tmp_path / "train" / "train_b.png").unlink()
    (tmp_path / "train" / "train_c.png").write_bytes(encode(np.zeros((9, 9, 3), np.uint8), ".png"))
    problems = check(dataset)
    assert [problem.kind for problem in problems] == ["broken-file", "missing-file", "wrong-size"]
    assert [problem.where.rpartition(" (")[2] for problem in problems] == ["image 1)", "image 2)", "image 3)"]


def test_damage_in_the_middle_is_found_by_decoding_only(tmp_path: Path) -> None:
    dataset = _clean(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    jpeg = encode(noise, ".jpg")
    (tmp_path / "train" / "train_a.jpg").write_bytes(jpeg[: len(jpeg) // 2] + jpeg[-2:])
    assert check(dataset, decode=False) == []
    seen: list[tuple[int, int]] = []
    (problem,) = check(dataset, progress=lambda done, total: seen.append((done, total)))
    assert problem.kind == "broken-file"
    assert "the JPEG is damaged" in problem.what
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_classes(tmp_path: Path) -> None:
    train = _clean(tmp_path)
    val = open_dataset(write_coco(tmp_path / "val.json", coco_tree({"v.png": []}, names=("cat", "cow")), folder="val"))
    problems = mistakes({"train": train, "val": val})
    assert [(problem.kind, problem.what) for problem in problems] == [
        ("unused-class", "the class 'cow' has no box"),
        ("different-classes", f"classes are [cat, cow], but [cat, dog] in {train.source}"),
    ]


def test_a_class_used_in_one_split_is_used(tmp_path: Path) -> None:
    train = _clean(tmp_path)
    val = open_dataset(write_coco(tmp_path / "val.json", coco_tree({"v.png": []}), folder="val"))
    assert mistakes({"train": train, "val": val}) == []


def test_pictures_in_two_splits(tmp_path: Path) -> None:
    train, val = _clean(tmp_path, "train"), _clean(tmp_path, "val")
    (tmp_path / "val" / "val_c.png").write_bytes((tmp_path / "train" / "train_b.png").read_bytes())
    (problem,) = mistakes({"train": train, "val": val})
    assert problem.kind == "shared-picture"
    assert problem.what == (
        f"{tmp_path / 'val' / 'val_c.png'} in split 'val' has the same content as "
        f"{tmp_path / 'train' / 'train_b.png'} in split 'train'"
    )


def test_the_same_file_in_two_splits(tmp_path: Path) -> None:
    root = write_voc(
        tmp_path / "voc",
        {"a": voc_text([("x", 1, 1, 2, 2)]), "b": voc_text([])},
        {"train": ["a", "b"], "val": ["b"]},
    )
    (problem,) = mistakes(open_splits(root))
    assert (problem.kind, " has the same file as " in problem.what) == ("shared-picture", True)


def test_the_same_content_twice_in_one_split(tmp_path: Path) -> None:
    dataset = _clean(tmp_path)
    (tmp_path / "train" / "train_c.png").write_bytes((tmp_path / "train" / "train_b.png").read_bytes())
    (problem,) = check(dataset)
    assert problem.kind == "duplicate-file"


def test_one_file_under_two_ids(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 5, 5)], "b.png": [(1, 1, 1, 5, 5)]})
    tree["images"][1]["file_name"] = "a.png"
    (problem,) = check(open_dataset(write_coco(tmp_path / "x.json", tree)))
    assert (problem.kind, problem.where.endswith("(image 2)")) == ("duplicate-file", True)


def test_what_the_reader_found_is_listed_once(tmp_path: Path) -> None:
    root = write_voc(
        tmp_path / "voc",
        {"a": voc_text([("x", 1, 1, 2, 2)]), "b": voc_text([]), "c": "<broken"},
        {"train": ["a"], "val": ["b"]},
    )
    problems = mistakes(open_splits(root))
    assert [problem.kind for problem in problems] == ["bad-annotation"]


def test_open_splits(tmp_path: Path) -> None:
    _clean(tmp_path, "train")
    assert list(open_splits(tmp_path / "train.json")) == ["all"]
    assert list(open_splits(tmp_path)) == ["train"]
    _clean(tmp_path, "val")
    assert list(open_splits(tmp_path)) == ["train", "val"]
    assert list(open_splits(tmp_path, split="val")) == ["val"]
    with pytest.raises(DataError, match="holds no split 'test'"):
        open_splits(tmp_path, split="test")


def test_summary_counts_kinds() -> None:
    problems = [Problem("a", "x", "no-area"), Problem("b", "x", "wrong-size"), Problem("c", "x", "wrong-size")]
    assert list(summary(problems).items()) == [("wrong-size", 2), ("no-area", 1)]
    assert set(summary(problems)) <= set(KINDS)


def test_classes_spelt_in_two_ways(tmp_path: Path) -> None:
    boxes = {"a.png": [(0, 1, 1, 20, 20), (1, 2, 2, 30, 30)]}
    tree = coco_tree(boxes, names=("Traffic-Light", "traffic light"))
    path = write_coco(tmp_path / "x.json", tree)
    (problem,) = check(open_dataset(path))
    assert problem.kind == "spelt-twice"
    assert "the class 'traffic light' (1 box in all splits) is spelt almost as 'Traffic-Light' (1)" in problem.what


@pytest.mark.parametrize(
    ("boxes", "pairs"),
    [
        ({"apple": 32, "aple": 3}, [("aple", "apple")]),
        ({"apple": 32, "aple": 30}, []),  # too many for a slip
        ({"class1": 32, "class2": 1}, []),
        ({"car": 32, "cat": 1}, []),
        ({"apple": 32, "Apple": 40, "APPLE": 1}, [("apple", "Apple"), ("APPLE", "Apple")]),
        ({"apple": 32, "Apple": 0}, []),  # told as a class without boxes
    ],
)
def test_what_is_a_slip(boxes: dict[str, int], pairs: list[tuple[str, str]]) -> None:
    assert spelt_twice(boxes) == pairs
