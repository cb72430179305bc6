"""What a command leaves and says where it is ended from outside."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from falconet.core.terminal import one_line, printable
from falconet.data.drawn import write_drawn_dataset
from tests.data.build import coco_tree, write_coco

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


def test_characters_that_the_output_lacks_are_escaped(tmp_path: Path) -> None:
    tree = coco_tree({"a.png": [(0, 1, 1, 20, 20)]}, names=["苹果"])
    path = write_coco(tmp_path / "x.json", tree)
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command("data", "check", path), capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1 boxes (\\u82f9\\u679c 1)" in done.stdout


def test_a_foreign_name_is_one_line() -> None:
    assert one_line("a\nb\r\tc\u2028\x1b[2J") == r"a\nb\x0d\tc\u2028\x1b[2J"
    assert one_line("n" * 50, longest=10) == "nnnnnnn..."


def test_printable_shows_what_a_terminal_would_obey_and_json_stays_json() -> None:
    assert printable("a\x1b[2J\x07 \u202eb\ud800\tc\n") == "a\\x1b[2J\\x07 \\u202eb\\ud800\tc\n"
    text = "\x1b \x7f\x9b \udc80 é"
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


HOSTILE = ["\x1b[2Jstar", "\u202egnp", "x" * 5000, "nul\x00"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_hostile_class_names_are_shown(tmp_path: Path, options: list[str]) -> None:
    write_drawn_dataset(tmp_path, train=3, val=1, size=(64, 64))
    tree = json.loads((tmp_path / "train.json").read_text())
    for category, name in zip(tree["categories"], HOSTILE, strict=False):
        category["name"] = name
    (tmp_path / "train.json").write_text(json.dumps(tree))
    done = subprocess.run(
        command("data", "check", tmp_path / "train.json", *options), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr
    if options:
        (split,) = json.loads(done.stdout)["splits"].values()
        assert set(HOSTILE) <= set(split["classes"])
    else:
        assert "\\x1b[2Jstar" in done.stdout
        assert "\\u202egnp" in done.stdout


def test_an_error_with_an_escape_sequence_is_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        command("data", "check", tmp_path / "\x1b[31m.json"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b[31m.json" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_on_a_full_disk(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path, train=3, val=1, size=(64, 64))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("data", "check", tmp_path), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        2,
        "falconet: standard output cannot be written: No space left on device\n",
    )
