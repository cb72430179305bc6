import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.core.lock import LOCK, locked


def hold(folder: Path, process: int, machine: str) -> Path:
    folder.mkdir()
    (folder / LOCK).write_text(f"{process} {machine}\n")
    return folder


def test_the_lock_is_there_while_it_is_held_and_leaves_no_trace(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK).read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    with locked(tmp_path / "own"):
        pass
    assert list((tmp_path / "own").iterdir()) == []


def test_a_living_process_is_named(tmp_path: Path) -> None:
    folder = hold(tmp_path / "run", os.getppid(), socket.gethostname())
    with pytest.raises(DataError) as error, locked(folder):
        pass
    assert str(error.value) == (
        f"{folder}: process {os.getppid()} on {socket.gethostname()} writes there just now; wait for it or choose "
        f"another folder. If it is long gone, remove {folder / LOCK}"
    )
    assert (folder / LOCK).exists()


def test_another_machine_cannot_be_asked(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="process 1 on elsewhere writes there"),
        locked(hold(tmp_path / "a", 1, "elsewhere")),
    ):
        pass


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    folder = hold(tmp_path / "run", done.pid, socket.gethostname())
    with locked(folder):
        assert (folder / LOCK).read_text().split()[0] == str(os.getpid())
    assert f"{folder}: taken over from process {done.pid}, which ended without tidying up" in caplog.text


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with (
        pytest.raises(DataError, match="run: is a file; expected a folder"),
        locked(tmp_path / "run"),
    ):
        pass
