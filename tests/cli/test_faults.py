"""What a command leaves and says where it is ended from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from falconet.data.drawn import write_drawn_dataset

SLOW_COPY = """
import shutil, time
from falconet.cli import main
copy = shutil.copyfile
shutil.copyfile = lambda *words: (time.sleep(0.2), copy(*words))
main()
"""


def command(*words: object, program: str = "from falconet.cli import main; main()") -> list[str]:
    return [sys.executable, "-c", program, *map(str, words)]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM to catch")
def test_sigterm_leaves_no_half_of_a_converted_data_set(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path / "in", train=40, val=1, size=(64, 64))
    words = command("data", "convert", tmp_path / "in", "--to", "voc", "--out", tmp_path / "out", program=SLOW_COPY)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*.part/JPEGImages/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (143, "falconet: terminated\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
