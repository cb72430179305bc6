"""Folders of images without ground truth: what is taken, and what is said of the rest."""

from pathlib import Path

import pytest

from falconet.api.ground_truth import open_images
from falconet.core.errors import DataError


def test_a_folder_of_images_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.MPO", "c.avif", "d.heic", "e.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = open_images(tmp_path)
    assert [record.path.name for record in found.records] == ["a.jpg", "c.avif", "b.MPO"]
    assert found.notes == (f"{tmp_path}: 2 files are not used (.heic 1, .txt 1): d.heic, e.txt",)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(DataError, match="holds no images"):
        open_images(tmp_path)
