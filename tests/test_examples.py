"""Every example runs as a user would run it."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.runtime import tiny_model
from tests.runtime.test_stream import write_video
from tests.runtime.tiny_model import picture, save

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "in" / "a.png", picture((0, 0, "red"), (2, 2, "red")))
    save(tmp_path / "in" / "deep" / "b.png", picture((3, 3, "green")))
    return tmp_path


def run(folder: Path, name: str, *words: str, code: int = 0) -> tuple[list[str], str]:
    """Lines of standard output, and standard error."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_array(folder):
    assert run(folder, "detect_array.py", "m.onnx", "in/deep/b.png")[0] == ["green 1.00 at 96,96 to 128,128"]


def test_folder(folder):
    (folder / "in" / "c.png").write_bytes(b"")
    assert run(folder, "detect_folder.py", "m.onnx", "in")[0] == [
        f"{Path('in/a.png')}: {{'red': 2}}",
        f"left out: {Path('in/c.png')}: is empty; expected a picture",
        f"{Path('in/deep/b.png')}: {{'green': 1}}",
        "in all: {'red': 2, 'green': 1}",
    ]


def test_video(folder):
    write_video(folder / "clip.mp4", frames=3)
    lines, _ = run(folder, "detect_video.py", "m.onnx", "clip.mp4", "drawn.mp4")
    assert [line.partition(" in ")[0] for line in lines] == [f"frame {index}: 0 found" for index in range(3)]
    capture = cv2.VideoCapture(str(folder / "drawn.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    capture.release()
    (folder / "broken.mp4").write_bytes(b"")
    assert "broken.mp4: cannot be opened" in run(folder, "detect_video.py", "m.onnx", "broken.mp4", "x.mp4", code=1)[1]


@pytest.mark.slow
def test_demo(tmp_path):
    pytest.importorskip("torch")
    lines, _ = run(tmp_path, "demo.py", "--out", "demo", "train.minutes=0.2")
    assert "verdict              the same within tolerance" in lines
    words = {line.split()[0] for line in lines[-9:] if line}
    assert {"AP", "AP50", "AP75", "drift", "minutes"} <= words
    assert (tmp_path / "demo" / "report.html").is_file()
    assert list((tmp_path / "demo" / "found" / "annotated").iterdir())


def test_there_is_a_test_for_each():
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    source = Path(__file__).read_text("utf-8")
    assert examples >= {"detect_array.py", "detect_folder.py", "detect_video.py"}
    assert [name for name in examples if f'"{name}"' not in source] == []
