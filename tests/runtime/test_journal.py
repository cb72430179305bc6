"""An interrupted run over pictures goes on where it was, and ends with the files of an undisturbed one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import falconet
from falconet.core.errors import ConfigError
from falconet.core.types import Classification
from falconet.runtime.journal import NAME, Journal, frames_with
from falconet.runtime.pipeline import predict_frames
from falconet.runtime.stream import find_sources
from falconet.runtime.tasks import Classify
from tests.runtime import tiny_model
from tests.runtime.test_stream import write_video
from tests.runtime.tiny_model import picture, save

HEAD = {"model": "abc", "score": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    for index in range(5):
        save(tmp_path / "in" / f"{index}.png", picture((0, index % 4, "red"), (2, 2, "blue"), value=100 + index))
    (tmp_path / "in" / "2.png").write_bytes(b"no picture")
    write_video(tmp_path / "in" / "clip.mp4", frames=3)
    return tmp_path


@pytest.fixture
def predictor(folder: Path):
    return falconet.load(folder / "m.onnx")


def keep(folder: Path, predictor, count: int) -> None:
    """A run that ends after so many items."""
    journal = Journal(folder / "out", HEAD, predictor)
    items = frames_with(journal, predictor, find_sources([folder / "in"]), batch=1)
    for _, item in zip(range(count), items, strict=False):
        journal.add(item)
    items.close()
    journal.close()


def answers(items) -> list[tuple[str, object]]:
    return [
        (str(item.source), "broken") if not hasattr(item, "frame") else (str(item.frame.source), item.answer)
        for item in items
    ]


def resumed(folder: Path, predictor, **options) -> tuple[Journal, list]:
    journal = Journal(folder / "out", HEAD, predictor, **options)
    items = list(frames_with(journal, predictor, find_sources([folder / "in"]), batch=1))
    journal.close()
    return journal, items


@pytest.mark.parametrize("count", [0, 1, 3, 5, 8])
def test_the_same_answers_in_the_same_order(folder: Path, predictor, count: int) -> None:
    whole = answers(predict_frames(predictor, find_sources([folder / "in"])))
    keep(folder, predictor, count)
    journal, items = resumed(folder, predictor)
    assert journal.found == [0, 1, 2, 4, 4][[0, 1, 3, 5, 8].index(count)]
    for (source, found), (other, expected) in zip(answers(items), whole, strict=True):
        assert source == other
        if found != "broken":
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.labels, expected.labels)
            assert found.names == expected.names


def kept(items) -> list[str]:
    return [item.frame.source.name for item in items if hasattr(item, "frame") and item.frame.is_kept]


def test_a_picture_that_has_changed_or_lost_its_copy_is_done_anew(folder: Path, predictor) -> None:
    keep(folder, predictor, 5)
    save(folder / "in" / "1.png", picture((3, 3, "green")))
    _, items = resumed(folder, predictor, is_whole=lambda source: source.name != "3")
    assert kept(items) == ["0", "4"]
    assert items[1].answer.names[int(items[1].answer.labels[0])] == "green"


def test_half_a_line_is_done_anew_and_nothing_is_written_behind_it(folder: Path, predictor) -> None:
    keep(folder, predictor, 4)
    path = folder / "out" / NAME
    path.write_bytes(path.read_bytes()[:-20])
    journal = Journal(folder / "out", HEAD, predictor)
    assert journal.found == 2
    for item in frames_with(journal, predictor, find_sources([folder / "in"]), batch=1):
        journal.add(item)
    journal.close()
    assert resumed(folder, predictor)[0].found == 4


def test_another_model_or_option_begins_anew_or_is_refused(folder: Path, predictor) -> None:
    keep(folder, predictor, 2)
    with pytest.raises(ConfigError, match=r"was begun with another score: None, now 0\.3; go on with the same"):
        Journal(folder / "out", HEAD | {"score": 0.3}, predictor, strict=True)
    with pytest.raises(ConfigError, match="was begun with another model; go on"):
        Journal(folder / "out", HEAD | {"model": "def"}, predictor, strict=True)
    assert resumed(folder, predictor)[0].found == 2
    anew = Journal(folder / "out", HEAD | {"score": 0.3}, predictor)
    anew.close()
    assert (anew.found, anew.differs) == (0, "was begun with another score: None, now 0.3")
    (folder / "out" / NAME).write_text("[1]\n")
    journal, _ = resumed(folder, predictor)
    assert (journal.found, journal.differs) == (0, "cannot be read")


def test_classes_to_the_last_digit(predictor) -> None:
    task = Classify(predictor.manifest)
    answer = Classification(np.array([0.1, 1 / 3, 0.56666], np.float32), ("a", "b", "c"))
    again = task.from_tree(task.tree(answer), answer.names)
    np.testing.assert_array_equal(again.probabilities, answer.probabilities)
    assert again.names == answer.names


SLOW = (
    "import time, typer\n"
    "from falconet.cli.predict import predict\n"
    "from falconet.runtime.predictor import Predictor\n"
    "run = Predictor.run\n"
    "Predictor.run = lambda self, prepared: (time.sleep(0.3), run(self, prepared))[1]\n"
    "app = typer.Typer(); app.command()(predict); app()\n"
)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process of its own")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_files_are_those_of_an_undisturbed_run(folder: Path, number: int) -> None:
    shutil.rmtree(folder / "in")
    for index in range(30):
        save(folder / "in" / f"{index:02d}.png", picture((0, index % 4, "red"), value=100 + index))
    words = ["in", "--model", "m.onnx", "--save", "images,json,csv,coco,yolo", "--streams", "1", "--out"]
    start = [sys.executable, "-m", "falconet", "predict", *words]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words, "out"], stdout=subprocess.PIPE, text=True)
    journal, deadline = folder / "out" / NAME, time.monotonic() + 60
    while not (journal.exists() and len(journal.read_bytes().splitlines()) > 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert ("the same command goes on" in said) == (number == signal.SIGINT)
    subprocess.run([*start, "whole"], check=True, capture_output=True)
    again = subprocess.run([*start, "out"], check=True, capture_output=True, text=True)
    assert " of them by the run before" in again.stdout
    assert "an interrupted run with the same settings finished" in again.stderr
    files = sorted(path.relative_to(folder / "whole") for path in (folder / "whole").rglob("*"))
    assert files == sorted(path.relative_to(folder / "out") for path in (folder / "out").rglob("*"))
    for file in files:
        if (folder / "whole" / file).is_file():
            assert (folder / "whole" / file).read_bytes() == (folder / "out" / file).read_bytes(), file


def test_where_there_is_nothing_to_go_on_with(folder: Path) -> None:
    start = [sys.executable, "-m", "falconet", "predict", "in", "--model", "m.onnx"]
    done = subprocess.run([*start, "--out", "out", "--resume"], capture_output=True, text=True, check=False)
    assert f"--resume: no interrupted run is in {Path('out')}; it begins anew" in done.stderr
    assert not (folder / "out" / NAME).exists()
    refused = subprocess.run([*start, "--resume"], capture_output=True, text=True, check=False)
    assert "--resume goes on with what an interrupted run saved; expected its --out beside it" in refused.stderr
