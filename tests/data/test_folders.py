"""Image folders as data sets."""

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.folders import natural, open_image_folder
from tests.data.build import picture


def test_a_picture_is_a_record_with_one_box(tmp_path):
    picture(tmp_path / "b" / "1.png", height=30, width=50)
    picture(tmp_path / "a" / "deep" / "2.jpg")
    picture(tmp_path / ".hidden" / "3.png")
    dataset, problems = open_image_folder(tmp_path)
    assert dataset.names == ("a", "b")
    assert [record.path.name for record in dataset.records] == ["2.jpg", "1.png"]
    assert [record.labels.tolist() for record in dataset.records] == [[0], [1]]
    np.testing.assert_array_equal(dataset.records[1].boxes, [[0, 0, 50, 30]])
    assert problems == []


def test_numbers_are_sorted_by_value(tmp_path):
    for name in ("10", "2", "x10", "x9"):
        picture(tmp_path / name / "1.png")
    assert open_image_folder(tmp_path)[0].names == ("2", "10", "x9", "x10")
    assert sorted(["b", "a2b", "a10", ""], key=natural) == ["", "a2b", "a10", "b"]


def test_what_is_left_out(tmp_path):
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").write_bytes(b"no picture")
    (tmp_path / "a" / "notes.txt").write_text("not a picture's ending: counted")
    picture(tmp_path / "stray.png")
    (tmp_path / "empty").mkdir()
    dataset, problems = open_image_folder(tmp_path)
    assert len(dataset) == 1
    assert dataset.names == ("a", "empty")
    assert sorted(problem.kind for problem in problems) == [
        "broken-file",
        "no-class",
        "unused-class",
        "unused-files",
    ]
    assert f"{tmp_path}: 1 file is not used: a/notes.txt" in map(str, problems)


def test_messages(tmp_path):
    with pytest.raises(
        DataError, match=r"none: no such folder; expected a folder that holds one folder of pictures per"
    ):
        open_image_folder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no folders; expected a folder"):
        open_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"no usable picture in the folders a; the first problem: .*holds no pict"):
        open_image_folder(tmp_path)


def test_endings(tmp_path):
    for name in ("a/1.jfif", "a/2.GIF", "b/3.avif", "b/4.mpo"):
        source = picture(tmp_path / "x.png", value=len(name))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        source.rename(tmp_path / name)
    (tmp_path / "b" / "5.heic").write_bytes(b"x")
    (tmp_path / "6.heic").write_bytes(b"x")
    dataset, problems = open_image_folder(tmp_path)
    assert len(dataset) == 4
    assert [str(problem) for problem in problems] == [
        f"{tmp_path / '6.heic'}: lies outside the classes' folders (left out)",
        f"{tmp_path}: 1 file is not used: b/5.heic",
    ]
