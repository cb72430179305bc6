"""Where the pictures lie that an annotation file names."""

from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.data.image_paths import locate
from tests.data.build import picture


def test_rest_of_a_name(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "images" / "x" / "a.png"), picture(tmp_path / "images" / "y" / "a.png")
    names = ["C:/data/x/a.png", "C:/data/y/a.png"]
    located = locate(tmp_path / "set.json", names)
    assert located.paths == {names[0]: one, names[1]: two}
    assert [problem.kind for problem in located.problems] == ["other-path"]
    assert locate(tmp_path / "set.json", names, tmp_path / "images", rest_only=True).problems == []


def test_names_that_the_rest_does_not_tell_apart(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"'x/a\.png' and 'y/a\.png' cannot be told apart by the rest, 'a\.png'"):
        locate(tmp_path / "set.json", ["x/a.png", "y/a.png"])


def test_what_is_there_as_it_is_written_comes_first(tmp_path: Path) -> None:
    here = picture(tmp_path / "images" / "sub" / "a.png")
    picture(tmp_path / "images" / "a.png")
    located = locate(tmp_path / "set.json", ["sub/a.png", "sub/gone.png"])
    assert located.paths == {"sub/a.png": here, "sub/gone.png": tmp_path / "images" / "sub" / "gone.png"}
    assert located.problems == []


def test_not_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its pictures are not found \(a\.png is in none of .*'images' folder"):
        locate(tmp_path / "set.json", ["a.png"])
    (tmp_path / "images").mkdir()
    assert locate(tmp_path / "set.json", ["a.png"], tmp_path / "images").paths == {
        "a.png": tmp_path / "images" / "a.png"
    }
    assert locate(tmp_path / "set.json", []).paths == {}
