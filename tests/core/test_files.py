"""Files appear whole or not at all."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.core.files import regular, replace_file
from falconet.core.images import image_size, read_image
from falconet.core.terminal import argument
from falconet.data.dataset import read_text


def test_text_and_bytes_arrive_and_folders_are_made(tmp_path: Path) -> None:
    replace_file(tmp_path / "a" / "b.txt", "grüß\n")
    replace_file(tmp_path / "a" / "c.bin", b"\x00\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "grüß\n".encode()
    assert (tmp_path / "a" / "c.bin").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b.txt", "c.bin"]


def test_a_full_disk_leaves_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, "before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match=r"a\.txt: cannot be written: No space left on device$"):
        replace_file(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits of this kind")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        replace_file(tmp_path / "a.txt", "")
    finally:
        os.umask(previous)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders")
def test_pipes_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read: is a pipe, a socket or a device; expected a file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read: is a pipe"):
        image_size(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.json: cannot be read: is a pipe"):
        read_text(tmp_path / "a.json")
    assert regular(tmp_path / "absent") == tmp_path / "absent"


def test_arguments_can_be_pasted() -> None:
    assert argument(Path("runs/mine-2")) == "runs/mine-2"
    assert shlex.split(f"eval {argument('runs/mine ü')}") == ["eval", "runs/mine ü"]
    assert shlex.split(f"eval {argument('it is $HOME')}") == ["eval", "it is $HOME"]
