"""JSON of Label Studio, labelme and CreateML."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.dataset import DataSet
from falconet.data.label_tools import read_createml, read_label_studio, read_labelme
from falconet.data.records import drop_invalid
from tests.data.build import picture


def _write(path: Path, tree: Any, *pictures: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
    for number, name in enumerate(pictures):
        picture(path.parent / name, value=20 + number)
    return path


def _region(x: float, y: float, width: Any, height: float, label: str = "cat", **other: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label], **other}
    return {"id": "r", "type": "rectanglelabels", "original_width": 60, "original_height": 40, "value": value}


def _task(image: str, *regions: Any, number: int = 1, **other: Any) -> dict[str, Any]:
    return {"id": number, "annotations": [{"id": 7, "result": list(regions)}], "data": {"image": image}, **other}


def _told(dataset: DataSet) -> list[str]:
    return [str(problem).removeprefix(dataset.source) for problem in dataset.problems]


def test_label_studio(tmp_path: Path) -> None:
    tasks = [_task("a.png", _region(10, 25, 40, 50), _region(0, 0, 100, 100, "dog")), _task("b.png", number=2)]
    dataset = read_label_studio(_write(tmp_path / "x.json", tasks, "a.png", "b.png"))
    assert (dataset.names, dataset.problems) == (("cat", "dog"), ())
    first, second = dataset.records
    np.testing.assert_allclose(first.boxes, [[6, 10, 30, 30], [0, 0, 60, 40]], atol=1e-4)
    assert (first.labels.tolist(), len(second.boxes)) == ([0, 1], 0)
    assert drop_invalid(dataset)[1] == []


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0123abcd-a%20b.png",
        "/data/local-files/?d=some/folder/a%20b.png",
        "https://host/bucket/a%20b.png?token=1",
        "s3://bucket/deep/a b.png",
        "C:\\\\data\\\\a b.png",
        "images/a b.png",
    ],
)
def test_label_studio_names(tmp_path: Path, image: str) -> None:
    for folder in ("", "images"):
        path = _write(tmp_path / (folder or "flat") / "x.json", [_task(image, _region(1, 1, 9, 9))])
        picture(path.parent / folder / "a b.png")
        dataset = read_label_studio(path)
        assert dataset.records[0].path.is_file()
        assert dataset.problems == ()


def test_label_studio_min(tmp_path: Path) -> None:
    region = {**_region(10, 25, 40, 50)["value"], "original_width": 60, "original_height": 40}
    tasks = [{"image": "/data/upload/1/a.png", "id": 1, "label": [region], "choice": "good", "annotator": 1}]
    dataset = read_label_studio(_write(tmp_path / "x.json", tasks, "a.png"))
    np.testing.assert_allclose(dataset.records[0].boxes, [[6, 10, 30, 30]], atol=1e-4)
    assert dataset.problems == ()


def test_label_studio_rotation(tmp_path: Path) -> None:
    # A quarter turn about the upper left corner: 12 x 8 pixels at (30, 20) cover x 22..30, y 20..32.
    tasks = [_task("a.png", _region(50, 50, 20, 20, rotation=90)), _task("b.png", _region(50, 50, 20, 20, rotation=45))]
    first, second = read_label_studio(_write(tmp_path / "x.json", tasks, "a.png", "b.png")).records
    np.testing.assert_allclose(first.boxes, [[22, 20, 30, 32]], atol=1e-4)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(second.boxes, [[30 - 8 * half, 20, 30 + 12 * half, 20 + 20 * half]], atol=1e-4)


def test_label_studio_rectangle_and_label_apart(tmp_path: Path) -> None:
    value = {"x": 10, "y": 25, "width": 40, "height": 50}
    regions = [
        {"id": "p", "type": "rectangle", "value": value},
        {"id": "p", "type": "labels", "value": {**value, "labels": ["cat"]}},
        {"id": "q", "type": "rectangle", "value": value},
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    dataset = read_label_studio(_write(tmp_path / "x.json", [_task("a.png", *regions)], "a.png"))
    assert len(dataset.records[0].boxes) == 1
    assert _told(dataset) == [" (task 1, region q): is a rectangle without a label; left out"]


def test_label_studio_what_is_left_out(tmp_path: Path) -> None:
    good = _region(10, 25, 40, 50)
    tasks = [
        {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [good]}, {"result": []}]},
        {"id": 2, "data": {"image": "b.png"}, "annotations": [{"result": [good], "was_cancelled": True}]},
        {"id": 3, "data": {"image": "c.png"}, "annotations": [], "predictions": [{"result": [good]}]},
        {"id": 4, "data": {"text": "no picture"}, "annotations": []},
        {"id": 5, "data": {"image": "a.png"}, "annotations": []},
        _task("d.png", {"id": "g", "value": {"points": [[1, 1], [2, 2]], "polygonlabels": ["cat"]}}, number=6),
        _task("e.png", _region(1, 1, 9, 9, rectanglelabels=["cat", "dog"]), number=7),
        _task("f.png", {**_region(1, 1, 9, 9, rotation=5), "original_width": None}, number=8),
        _task("g.png", _region(1, 1, "9", 9), number=9),
        "task",
    ]
    names = [f"{letter}.png" for letter in "abcdefgh"]
    dataset = read_label_studio(_write(tmp_path / "x.json", tasks, *names))
    assert [len(record.boxes) for record in dataset.records] == [1, 0, 0, 0, 0, 0, 0]
    told = [
        " (task 1): the task has 2 annotations, of which the first is taken",
        " (task 2): the task was skipped; taken as no boxes",
        " (task 3): the task has predictions, but no annotation; taken as no boxes",
        """ (task 4): the task names no picture: {"id": 4, "data": {"text": "no picture""",
        " (task 5): a.png has a task already; the second is left out",
        " (task 6, region g): is a region of 'polygonlabels', not a rectangle; left out",
        " (task 7, region r): has the labels cat, dog; expected one. Left out",
        " (task 8, region r): is rotated, and 'original_width' and 'original_height' are no sizes; left out",
        """ (task 9, region r): is {"id": "r", "type": "rectanglelabels", "original_width""",
        """ (task 9): the task names no picture: "task"; left out""",
        f"{tmp_path}: 1 file is not used: h.png",
    ]
    for text, wanted in zip(_told(dataset), told, strict=True):
        assert text.startswith(wanted)


def test_labelme(tmp_path: Path) -> None:
    shapes = [
        {"label": "cat", "points": [[30, 30], [6, 10]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[1, 2], [9, 3], [5, 8]]},
        {"label": "dog", "points": [[20, 20], [23, 24]], "shape_type": "circle"},
        {"label": "dog", "points": [[20, 20]], "shape_type": "point"},
        {"label": "dog", "points": [[1, 1], [2, 2]], "shape_type": "line"},
        {"label": "dog", "points": [[1, 1], [2, "x"]]},
        {"points": [[1, 1], [2, 2]]},
        "shape",
    ]
    tree = {"shapes": shapes, "imagePath": "..\\set\\a.png", "imageData": "x", "imageHeight": 40, "imageWidth": 60}
    _write(tmp_path / "set" / "a.json", tree, "a.png", "b.png")
    (tmp_path / "set" / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    dataset = read_labelme(tmp_path / "set")
    assert dataset.names == ("dog", "cat")
    (record,) = dataset.records
    np.testing.assert_array_equal(record.boxes, [[6, 10, 30, 30], [1, 2, 9, 8], [15, 15, 25, 25]])
    assert (record.labels.tolist(), record.width, record.height) == ([1, 0, 0], 60, 40)
    assert dataset.box_source(record, 2) == f"{tmp_path / 'set' / 'a.json'} (shape 3)"
    wanted = "expected a 'label' and 'points' of two numbers. Left out"
    assert _told(dataset) == [
        "/a.json (shape 4): is a point of 1 points, which has no box; left out",
        "/a.json (shape 5): is a line of 2 points, which has no box; left out",
        f"""/a.json (shape 6): is {{"label": "dog", "points": [[1, 1], [2, "x"]]}}; {wanted}""",
        f"""/a.json (shape 7): is {{"points": [[1, 1], [2, 2]]}}; {wanted}""",
        f"""/a.json (shape 8): is {{"shape": "shape"}}; {wanted}""",
        ": 1 file is not used: b.png",
    ]


def test_labelme_broken_files(tmp_path: Path) -> None:
    _write(tmp_path / "a.json", {"shapes": [], "imagePath": "a.png"}, "a.png")
    _write(tmp_path / "b.json", {"shapes": [], "imagePath": "a.png"})
    (tmp_path / "c.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "d.json").write_text("{")
    (tmp_path / "e.json").write_text("{}")
    dataset = read_labelme(tmp_path)
    assert len(dataset) == 1
    assert [problem.kind for problem in dataset.problems] == ["duplicate-file", *["bad-annotation"] * 3]
    assert "its lists and objects nest too deep; file and picture left out" in str(dataset.problems[1])
    (tmp_path / "a.json").unlink()
    (tmp_path / "b.json").unlink()
    with pytest.raises(DataError, match=r"names no pictures; the first problem: .*c\.json.*nest too deep"):
        read_labelme(tmp_path)


@pytest.mark.parametrize("said", ["a.png", "/home/x/a.png", "", "gone.png", "a\0.png"])
def test_labelme_pictures(tmp_path: Path, said: str) -> None:
    _write(tmp_path / "a.json", {"shapes": [], "imagePath": said}, "a.png")
    assert read_labelme(tmp_path).records[0].path == tmp_path / "a.png"
    assert read_labelme(tmp_path / "a.json").records[0].path == tmp_path / "a.png"
    picture(tmp_path / "other" / "a.png")
    assert read_labelme(tmp_path / "a.json", tmp_path / "other").records[0].path == tmp_path / "other" / "a.png"


def _createml(label: str = "cat", **other: Any) -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": 18, "y": 20, "width": 24, "height": 20, **other}}


@pytest.mark.parametrize(("image", "annotations"), [("image", "annotations"), ("imagefilename", "annotation")])
def test_createml(tmp_path: Path, image: str, annotations: str) -> None:
    tree = [{image: "a.png", annotations: [_createml(), _createml("dog", x=12)]}, {image: "b.png", annotations: []}]
    dataset = read_createml(_write(tmp_path / "x.json", tree, "a.png", "b.png"))
    assert (dataset.names, dataset.problems) == (("cat", "dog"), ())
    first, second = dataset.records
    np.testing.assert_array_equal(first.boxes, [[6, 10, 30, 30], [0, 10, 24, 30]])
    assert (first.labels.tolist(), len(second.boxes)) == ([0, 1], 0)


def test_createml_what_is_left_out(tmp_path: Path) -> None:
    tree = [
        {"image": "a.png", "annotations": [_createml(), {"label": "cat"}, _createml(""), _createml(x=None)]},
        {"image": "a.png", "annotations": []},
        {"image": "", "annotations": []},
        {"image": "b.png"},
        {"image": "b\0.png", "annotations": []},
        7,
    ]
    dataset = read_createml(_write(tmp_path / "x.json", tree, "a.png", "b.png"))
    assert [len(record.boxes) for record in dataset.records] == [1]
    told = _told(dataset)
    wanted = "expected a 'label' and 'coordinates' x, y, width, height. Left out"
    assert told[0] == f""" (image a.png, box 2): is {{"label": "cat"}}; {wanted}"""
    assert told[3] == " (entry 1): a.png has an entry already; the second is left out"
    assert told[4].startswith(" (entry 2): names no picture")
    assert told[5].startswith(" (entry 3): has no list 'annotations'")
    assert told[6].startswith(" (entry 4): holds a NUL character")
    assert told[7] == " (entry 5): names no picture: 7; left out"
    assert told[8:] == [f"{tmp_path}: 1 file is not used: b.png"]


def test_two_names_of_one_file(tmp_path: Path) -> None:
    tree = [{"image": "a.png", "annotations": [_createml()]}, {"image": "./a.png", "annotations": [_createml()]}]
    dataset = read_createml(_write(tmp_path / "x.json", tree, "a.png"))
    assert len(dataset) == 1
    assert [problem.kind for problem in dataset.problems] == ["duplicate-file"]


def test_other_documents(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.json", {})
    with pytest.raises(DataError, match=r"x\.json: expected a list of tasks, as Label Studio exports it"):
        read_label_studio(path)
    with pytest.raises(DataError, match=r"x\.json: expected a list of pictures with 'image' and 'annotations'"):
        read_createml(path)
    path.write_text("[" * 100_000 + "]" * 100_000)
    for read in (read_label_studio, read_createml):
        with pytest.raises(DataError, match="nest too deep"):
            read(path)
    path.write_text("[]")
    for read in (read_label_studio, read_createml):
        with pytest.raises(DataError, match="names no pictures"):
            read(path)
