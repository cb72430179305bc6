"""What lies in folders."""

import os
from pathlib import Path

import pytest

from falconet.core.images import is_any_picture, is_picture
from falconet.data.listing import Names, files_in, first_below, impossible, unused, walk


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_endings() -> None:
    for name in ("a.jpg", "a.JPG", "a.jfif", "a.mpo", "a.gif", "a.jp2", "a.avif", "a.pjpeg", "a.ppm"):
        assert is_picture(Path(name)), name
    assert [is_picture(Path(name)) for name in ("a.heic", "a.txt", "a", ".jpg")] == [False] * 4
    assert [is_any_picture(Path(name)) for name in ("a.HEIC", "a.jxl", "a.txt")] == [True, True, False]


def test_walk_skips_what_systems_put_there(tmp_path: Path) -> None:
    kept = [_touch(tmp_path / name) for name in ("a.jpg", "b/c.jpg", "b/readme_1.txt", "license.jpg")]
    for name in (
        ".a.jpg",
        "._a.jpg",
        "Thumbs.db",
        "__MACOSX/a.jpg",
        ".git/x",
        "b/README.md",
        "LICENSE",
        "README.roboflow.txt",
    ):
        _touch(tmp_path / name)
    assert walk(tmp_path) == sorted(kept)
    assert files_in(tmp_path) == sorted(kept[:1] + kept[3:])
    assert files_in(tmp_path / "nowhere") == walk(tmp_path / "nowhere") == []
    assert first_below(tmp_path, [".txt"]) == kept[2]
    assert first_below(tmp_path, [".xml"]) is None


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    _touch(tmp_path / "real" / "a.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
    assert walk(tmp_path / "set") == [tmp_path / "set" / "linked" / "a.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_lead_nowhere_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    _touch(tmp_path / "a.jpg")
    assert [path.name for path in files_in(tmp_path)] == ["a.jpg"]


def test_unused_is_counted_and_some_are_named(tmp_path: Path) -> None:
    assert unused(tmp_path, []) == []
    (one,) = unused(tmp_path, [tmp_path / "b" / "a.heic"], ", being late")
    assert tuple(one)[:3] == (str(tmp_path), "1 file is not used, being late: b/a.heic", "unused-files")
    (many,) = unused(tmp_path, [tmp_path / f"{number}.heic" for number in range(8)] + [tmp_path / "x"])
    assert many.what == (
        "9 files are not used (.heic 8, without ending 1): 0.heic, 1.heic, 2.heic, 3.heic, 4.heic and 4 more"
    )


def test_names(tmp_path: Path) -> None:
    file = _touch(tmp_path / "U\u0308bung" / "a\u0300.JPG")
    names = Names()
    assert names.find(file) == file
    assert names.find(tmp_path / "\u00dcbung" / "\u00e0.jpg") == file
    assert names.find(tmp_path / "\u00dcbung" / "b.jpg") is None
    assert names.find(tmp_path / "nowhere" / "b.jpg") is None
    assert names.find(tmp_path / "a\0.jpg") is None
    assert names.find(tmp_path / ("x" * 5000)) is None


def test_impossible() -> None:
    assert impossible("a/" * 100 + "ü.jpg") is None
    assert impossible("a\0b") == "holds a NUL character"
    assert impossible("\ud800") == "holds half of a character (a lone surrogate)"
    assert impossible("a" * 256) == impossible("a/" * 2000) == "is too long"
