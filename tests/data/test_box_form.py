"""Boxes in another form than the format's, and boxes that are mostly crowds."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.box_form import crowd_problems, form_problems
from falconet.data.dataset import DataSet
from falconet.data.formats import open_dataset
from falconet.data.records import drop_invalid
from tests.data.build import Box, coco_tree, mistakes, picture, voc_text, write_coco, write_voc, write_yolo


def _boxes(count: int = 24, seed: int = 0) -> list[Box]:
    """Boxes within 60 x 40 pixels."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(1, (60, 40), (count, 2, 2)), 1).reshape(-1, 4)
    return [(0, *map(float, (x1, y1, x2 + 1, y2 + 1))) for x1, y1, x2, y2 in corners.tolist()]


def _coco(folder: Path, boxes: list[Box], *, corners: bool = False, scale: float = 1) -> DataSet:
    tree = coco_tree({f"{number}.png": [box] for number, box in enumerate(boxes)})
    for annotation, (_, x1, y1, x2, y2) in zip(tree["annotations"], boxes, strict=True):
        box = [x1, y1, x2, y2] if corners else [x1, y1, x2 - x1, y2 - y1]
        annotation["bbox"] = [box[0] / (60 if scale < 1 else 1), box[1] / (40 if scale < 1 else 1), *box[2:]]
        if scale < 1:
            annotation["bbox"][2:] = [box[2] / 60, box[3] / 40]
    return open_dataset(write_coco(folder / "x.json", tree))


def test_good_boxes(tmp_path: Path) -> None:
    boxes = _boxes()
    assert list(form_problems(_coco(tmp_path / "coco", boxes))) == []
    voc = write_voc(tmp_path / "voc", {str(n): voc_text([("x", *box[1:])]) for n, box in enumerate(boxes)})
    assert list(form_problems(open_dataset(voc))) == []
    lines = [f"0 {(x1 + x2) / 120} {(y1 + y2) / 80} {(x2 - x1) / 60} {(y2 - y1) / 40}" for _, x1, y1, x2, y2 in boxes]
    assert list(form_problems(open_dataset(write_yolo(tmp_path / "yolo", dict(zip("abc", lines, strict=False)))))) == []


def test_corners_in_coco(tmp_path: Path) -> None:
    dataset = _coco(tmp_path, _boxes(), corners=True)
    problem = mistakes({"": dataset})[0]
    assert problem.kind == "box-form"
    assert problem.what.startswith("its boxes seem to be left, top, right, bottom: 24 of 24 are possible so, and ")
    assert problem.what.endswith("are not as left, top, width, height, which the format asks for; convert them")
    with pytest.raises(DataError, match=r"x\.json: its boxes seem to be left, top, right, bottom"):
        drop_invalid(dataset)


@pytest.mark.parametrize(("whole", "form"), [(100, "percent"), (1000, "thousandths")])
def test_parts_of_the_picture(tmp_path: Path, whole: int, form: str) -> None:
    boxes = [*_boxes(30), (0, 0.0, 0.0, 60.0, 40.0)]
    tree = coco_tree({f"{number}.png": [box] for number, box in enumerate(boxes)})
    for image in tree["images"]:
        image["width"], image["height"] = 320, 240
    for annotation, (_, x1, y1, x2, y2) in zip(tree["annotations"], boxes, strict=True):
        sides = (x1 / 60, y1 / 40, (x2 - x1) / 60, (y2 - y1) / 40)
        annotation["bbox"] = [whole * one for one in sides]
    problem = next(form_problems(open_dataset(write_coco(tmp_path / "x.json", tree))))
    assert problem.kind == "box-form"
    assert problem.what.startswith(f"its boxes seem to be {form} of the picture: all 31 lie between 0 and ")
    for annotation in tree["annotations"]:  # boxes in pixels of these pictures
        annotation["bbox"] = [one * 320 / whole if place % 2 == 0 else one * 240 / whole for place, one in
                              enumerate(annotation["bbox"])]  # fmt: skip
    assert list(form_problems(open_dataset(write_coco(tmp_path / "y.json", tree)))) == []


def test_sides_in_voc(tmp_path: Path) -> None:
    texts = {
        str(number): voc_text([("x", x1, y1, x2 - x1, y2 - y1)]) for number, (_, x1, y1, x2, y2) in enumerate(_boxes())
    }
    dataset = open_dataset(write_voc(tmp_path / "voc", texts))
    with pytest.raises(DataError, match="its boxes seem to be left, top, width, height: 24 of 24 are possible so"):
        drop_invalid(dataset)


def test_corners_in_yolo(tmp_path: Path) -> None:
    labels = {
        f"p{number}": f"0 {x1 / 60} {y1 / 40} {x2 / 60} {y2 / 40}"
        for number, (_, x1, y1, x2, y2) in enumerate(_boxes())
    }
    with pytest.raises(DataError, match="its boxes seem to be left, top, right, bottom"):
        drop_invalid(open_dataset(write_yolo(tmp_path, labels)))


def test_corners_of_small_boxes_in_yolo(tmp_path: Path) -> None:
    """None leaves the picture far, but most do a little, and all may be corners."""
    rng = np.random.default_rng(3)
    first = rng.uniform(0.05, 0.3, (45, 2))
    rows = np.concatenate([first, first + rng.uniform(0.2, 0.4, (45, 2))], 1)
    labels = {f"p{number}": "0 {} {} {} {}".format(*row) for number, row in enumerate(rows)}
    with pytest.raises(DataError, match="its boxes seem to be left, top, right, bottom: 45 of 45 are possible so"):
        drop_invalid(open_dataset(write_yolo(tmp_path, labels)))


def test_pixels_in_yolo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seem to be in pixels: 2 have .*; expected fractions: divide by"):
        drop_invalid(open_dataset(write_yolo(tmp_path, {"a": "0 32 24 10 10", "b": "1 12 30 8 8"})))


def test_a_few_careless_boxes_are_no_other_form(tmp_path: Path) -> None:
    boxes: list[Box] = [(0, 1, 1, 59, 39)] * 8 + [(0, 10, 10, 64, 42)] * 3 + [(0, 20, 20, 100, 100)]
    dataset = _coco(tmp_path, boxes)
    assert list(form_problems(dataset)) == []
    assert len(drop_invalid(dataset)[0]) == 12


def test_fractions_throughout_are_refused(tmp_path: Path) -> None:
    dataset = _coco(tmp_path, [(0, 20, 10, 40, 30), (0, 1, 1, 30, 20)], scale=0.5)
    with pytest.raises(DataError, match="its boxes seem to be fractions of the picture: all 2 lie between 0 and 1"):
        drop_invalid(dataset)
    assert [problem.kind for problem in mistakes({"": dataset})] == [
        "box-form",
        "not-pixels",
        "not-pixels",
        "unused-class",
    ]


def test_a_box_of_a_whole_picture_among_fractions(tmp_path: Path) -> None:
    tree = coco_tree({f"{number}.png": [(0, 0, 0, 0.5, 0.25)] for number in range(50)})
    tree["annotations"][7]["bbox"] = [0, 0, 1, 1]
    dataset = open_dataset(write_coco(tmp_path / "x.json", tree))
    (problem,) = form_problems(dataset)
    assert problem.what.startswith("its boxes seem to be fractions of the picture: 49 of 50 lie between 0 and 1")


def test_fractions_in_voc(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": voc_text([("x", 0.2, 0.3, 0.7, 0.9), ("x", 2, 3, 7, 9)])})
    kept, problems = drop_invalid(open_dataset(root))
    assert [problem[:3] for problem in problems] == [
        (
            f"{root / 'Annotations' / 'a.xml'}:3",
            "image a.png has box [0.2, 0.3, 0.7, 0.9] smaller than a pixel; expected pixels, not fractions of the "
            "picture (box left out)",
            "not-pixels",
        )
    ]
    np.testing.assert_array_equal(kept.records[0].boxes, [[2, 3, 7, 9]])


def test_a_pixel_in_the_corner_is_a_box(tmp_path: Path) -> None:
    dataset = _coco(tmp_path, [(0, 0, 0, 1, 1), (0, 1, 1, 2, 2), (0, 0.2, 0.2, 3, 0.7)])
    assert drop_invalid(dataset)[1] == []


def _crowds(folder: Path, crowd: list[int]) -> DataSet:
    tree = coco_tree({f"{number}.png": [(number % 2, 5, 5, 20, 20)] for number in range(len(crowd))})
    for annotation, flag in zip(tree["annotations"], crowd, strict=True):
        annotation["iscrowd"] = flag
    return open_dataset(write_coco(folder / "x.json", tree))


@pytest.mark.parametrize(
    ("crowd", "what"),
    [
        ([1, 1, 1, 0], "3 of 4 boxes are crowds ('iscrowd' 1): neither learnt nor counted"),
        ([1, 1, 1, 1], "4 of 4 boxes are crowds ('iscrowd' 1): neither learnt nor counted"),
        ([0, 1, 0, 1], "all 2 boxes of 'dog' are crowds ('iscrowd' 1): neither learnt nor counted"),
    ],
)
def test_crowds(tmp_path: Path, crowd: list[int], what: str) -> None:
    dataset = _crowds(tmp_path, crowd)
    (problem,) = [problem for problem in mistakes({"": dataset}) if problem.kind == "crowds"]
    assert problem[:3] == (dataset.source, what, "crowds")
    assert problem in drop_invalid(dataset)[1]


def test_some_crowds_are_usual(tmp_path: Path) -> None:
    assert list(crowd_problems(_crowds(tmp_path, [1, 1, 0, 0, 0, 0]))) == []


def test_no_boxes(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path / "x.json", coco_tree({"a.png": []})))
    assert [*form_problems(dataset), *crowd_problems(dataset)] == []
    picture(tmp_path / "y.png")
    memory = DataSet(("a",), (), "memory")
    assert [*form_problems(memory), *crowd_problems(memory)] == []
