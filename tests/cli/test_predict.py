import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from falconet.api import engines
from falconet.api.find import FoundModel
from falconet.cli import predict as command
from falconet.core.errors import ConfigError, DataError, ModelError
from tests.runtime import tiny_model
from tests.runtime.test_journal import SLOW
from tests.runtime.test_stream import write_video
from tests.runtime.tiny_model import picture, save

app = typer.Typer()
app.command()(command.predict)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model and three pictures in `in`."""
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "in" / "a.png", picture((0, 0, "red"), (2, 2, "red"), (1, 1, "blue")))
    save(tmp_path / "in" / "b.jpg", picture((3, 3, "green")))
    save(tmp_path / "in" / "deep" / "c.png", picture())
    return tmp_path


def run(*arguments: str, code: int = 0) -> tuple[list[str], list[str]]:
    """Lines of standard output and of standard error."""
    result = CliRunner().invoke(app, ["--model", "m.onnx", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout.splitlines(), result.stderr.splitlines()


def fail(kind: type[Exception], *arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, kind), result.exception
    return str(result.exception)


def test_a_line_per_picture_and_a_summary(folder):
    lines, errors = run("in", "--recursive")
    assert errors == []
    assert [line.rpartition(",")[0] for line in lines[:3]] == [
        f"{Path('in/a.png')}: 128x128, 2 red 1.00, blue 1.00",
        f"{Path('in/b.jpg')}: 128x128, green 1.00",
        f"{Path('in/deep/c.png')}: 128x128, nothing",
    ]
    assert all(line.endswith(" ms") for line in lines[:3])
    assert lines[3] == "3 pictures, 4 detections"
    assert lines[4].startswith("median ms per picture: read ")
    assert [word for word in lines[4].split() if word in ("read", "network", "postprocess", "write")] == [
        "read",
        "network",
        "postprocess",
    ]
    assert lines[5] == "nothing was saved; --out FOLDER draws the boxes, --save names other files"
    assert not (folder / "runs").exists()


def test_saving(folder):
    lines, _ = run("in", "--out", "out", "--save", "json, csv,yolo,coco", "--batch", "2", "--threads", "1")
    assert "write " in lines[-2]
    assert lines[-1] == "saved json, csv, yolo, coco in out"
    names = sorted(path.name for path in (folder / "out").rglob("*") if path.is_file())
    assert names == [
        "a.txt",
        "b.txt",
        "detections.csv",
        "detections.json",
        "detections_coco.json",
        "detections_coco_results.json",
    ]


def test_pictures_are_saved_where_a_folder_is_given(folder):
    before = {path: path.read_bytes() for path in (folder / "in").rglob("*.*")}
    run("in", "--out", "in", "-r")
    assert {path.name for path in (folder / "in" / "annotated").rglob("*.jpg")} == {"a.jpg", "b.jpg", "c.jpg"}
    assert {path: path.read_bytes() for path in before} == before
    lines, _ = run("in/b.jpg", "--save", "yolo")
    assert lines[-1] == f"saved yolo in {Path('runs/predict')}"
    assert (folder / "runs" / "predict" / "yolo_labels" / "b.txt").exists()


@pytest.mark.usefixtures("folder")
def test_json_on_standard_output():
    output, errors = run("in", "--json")
    found = json.loads("\n".join(output))
    assert [one["file"] for one in found["pictures"]] == [str(Path("in/a.png")), str(Path("in/b.jpg"))]
    assert found["pictures"][1]["detections"][0]["box"] == [96, 96, 128, 128]
    assert errors[0] == "in: its folders are not looked into without --recursive: deep"
    assert errors[3] == "2 pictures, 4 detections"


def test_thresholds_and_classes(folder):
    save(folder / "half.png", picture((0, 0, "red"), value=100))
    (line, *_), _ = run("half.png")
    assert ", red 0.39, " in line
    (line, *_), _ = run("half.png", "--score", "0.5")
    assert ", nothing, " in line
    (line, *_), _ = run("in/a.png", "--max-detections", "1")
    assert ", red 1.00, " in line
    (line, *_), _ = run("in/a.png", "--classes", "blue,green", "--iou", "0.3")
    assert ", blue 1.00, " in line


def test_a_broken_picture_is_reported_and_the_others_are_done(folder):
    (folder / "in" / "aa.jpg").write_bytes((folder / "in" / "b.jpg").read_bytes()[:200])
    lines, errors = run("in", "--save", "json", "--out", "out", code=2)
    assert [line.partition(":")[0] for line in lines[:2]] == [str(Path("in/a.png")), str(Path("in/b.jpg"))]
    assert "2 pictures, 4 detections, 1 not readable" in lines
    assert len(errors) == 2  # the first is about the folder
    assert errors[1].startswith(f"falconet: {Path('in/aa.jpg')}: ")
    assert "truncated" in errors[1] or "damaged" in errors[1]
    pictures = json.loads((folder / "out" / "detections.json").read_text())["pictures"]
    assert ["error" in one for one in pictures] == [False, True, False]


def test_a_video_has_one_line(folder):
    write_video(folder / "clip.mp4", frames=4)
    lines, _ = run("clip.mp4", "in", "--out", "out")
    assert lines[0] == "clip.mp4: 4 frames at 10 per second, nothing"
    assert lines[1].startswith(str(Path("in/a.png")))
    assert lines[3] == "2 pictures, 4 frames, 4 detections"
    capture = cv2.VideoCapture(str(folder / "out" / "annotated" / "clip.webm"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    capture.release()


@pytest.mark.usefixtures("folder")
def test_a_camera_has_a_line_per_frame(monkeypatch):
    class Capture:
        def __init__(self, number: int) -> None:
            self.left = 2
            assert number == 0

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _what: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (self.left >= 0, picture((0, 0, "red")) if self.left >= 0 else None)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    lines, errors = run("0", code=2)
    assert [line.rpartition(",")[0] for line in lines[:2]] == [
        "camera 0 frame 0: 128x128, red 1.00",
        "camera 0 frame 1: 128x128, red 1.00",
    ]
    assert errors == ["falconet: camera 0: gives no more pictures after 2; is it still connected?"]


def test_what_is_wrong_is_said_before_anything_is_written(folder, monkeypatch):
    monkeypatch.setenv("FALCONET_WEIGHTS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    assert "but FALCONET_WEIGHTS names this folder; put nanodet-plus-m_416" in fail(ModelError, "in", "--out", "out")
    assert "no such file or folder" in fail(DataError, "nowhere", "--model", "m.onnx", "--out", "out")
    assert "none.onnx: no such file" in fail(ModelError, "in", "--model", "none.onnx", "--out", "out")
    assert fail(ModelError, "in", "--model", "none.safetensors") == (
        "none.safetensors: no such file; expected a run folder, a weights file, an exported .onnx file or the name of "
        "published weights"
    )
    message = fail(ConfigError, "in", "--model", "m.onnx", "--classes", "rde", "--out", "out")
    assert message == "classes: the model does not know 'rde'; its classes are: blue, green, red"
    assert "cannot save 'xml'" in fail(ConfigError, "in", "--model", "m.onnx", "--save", "xml", "--out", "out")
    (folder / "empty").mkdir()
    assert "has no pictures or videos" in fail(DataError, "empty", "--model", "m.onnx", "--out", "out")
    assert not (folder / "out").exists()


def test_weights_without_torch(folder, monkeypatch):
    (folder / "best.safetensors").write_bytes(b"")
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    for model in ("best.safetensors", "."):
        assert fail(ModelError, "in", "--model", model) == (
            "best.safetensors: running weights needs torch, which is not installed; export them where it is, with "
            "'falconet export best.safetensors --to onnx --out FOLDER', and pass the .onnx file, or "
            "pip install 'falconet[train]'"
        )


def test_streams_give_the_same_file(folder):
    for streams in ("1", "2"):
        run("in", "in/deep", "--out", streams, "--save", "json", "--streams", streams)
    assert (folder / "1/detections.json").read_bytes() == (folder / "2/detections.json").read_bytes()


@pytest.mark.usefixtures("folder")
def test_streams_and_a_batch_exclude_each_other():
    message = fail(ConfigError, "in", "--model", "m.onnx", "--batch", "2", "--streams", "2")
    assert message == "--batch 2 --streams 2: leave one out; a batch is one run at a time"


@pytest.mark.usefixtures("folder")
def test_a_precision_the_engine_has_not():
    message = fail(ConfigError, "in", "--model", "m.onnx", "--precision", "bfloat16")
    assert message == "precision bfloat16: engine onnxruntime has none but float32; openvino can"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", [("--score", "1.5"), ("--batch", "0"), ("--threads", "0"), ("--iou", "-1")])
def test_numbers_out_of_range(option):
    result = CliRunner().invoke(app, ["in", "--model", "m.onnx", *option])
    assert result.exit_code == 2
    assert option[0] in result.output


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent to a process of its own")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_keep_what_is_done(folder, number):
    write_video(folder / "clip.mp4", frames=40)
    words = ["in/a.png", "clip.mp4", "--model", "m.onnx", "--out", "out", "--save", "images,json,csv,coco,yolo"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, text=True)
    labels = folder / "out" / "yolo_labels" / "clip.mp4"
    deadline = time.monotonic() + 60
    while not (labels / "000001.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    done = len(list(labels.iterdir()))
    assert 2 <= done < 40
    pictures = json.loads((folder / "out" / "detections.json").read_text())["pictures"]
    assert len(pictures) == done + 1
    assert len(json.loads((folder / "out" / "detections_coco.json").read_text())["images"]) == done + 1
    capture = cv2.VideoCapture(str(folder / "out" / "annotated" / "clip.webm"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == done
    capture.release()
    assert f"clip.mp4: {done} frames at 10 per second, nothing" in output
    assert f"interrupted: {done + 1} of 41 done, the rest is not" in output
    assert [path for path in (folder / "out").rglob("*") if ".part" in path.name] == []


def falconet(*words: str) -> "subprocess.CompletedProcess[str]":
    start = [sys.executable, "-c", "from falconet.cli import main; main()"]
    return subprocess.run([*start, *words], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("folder")
def test_the_whole_command():
    done = falconet("predict", "in/b.jpg", "--model", "m.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{Path('in/b.jpg')}: 128x128, green 1.00, ")
    assert "1 picture, 1 detection\n" in done.stdout
    done = falconet("predict", "in/b.jpg", "--model", "in/b.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("falconet: in/b.jpg: is not a complete ONNX model")


def test_a_folder_that_another_predict_writes_into_is_refused(folder):
    (folder / "out").mkdir()
    (folder / "out" / ".falconet.lock").write_text(f"{os.getppid()} {socket.gethostname()}")
    told = fail(DataError, "in", "--model", "m.onnx", "--out", "out")
    assert f"out: process {os.getppid()} on {socket.gethostname()} writes there just now" in told
    assert [path.name for path in (folder / "out").iterdir()] == [".falconet.lock"]


def test_scores_of_several_of_a_class(folder):
    save(folder / "two.png", picture((0, 0, "red")) + picture((2, 2, "red"), value=100))
    (line, *_), _ = run("two.png")
    assert ", 2 red 1.00 to 0.39, " in line


def test_quiet_tells_only_what_goes_wrong(folder):
    assert run("in", "--recursive", "--quiet") == ([], [])
    (folder / "in" / "aa.jpg").write_bytes(b"no picture")
    lines, errors = run("in", "-r", "-q", code=2)
    assert lines == []
    assert errors[0].startswith(f"falconet: {Path('in/aa.jpg')}: ")


def test_without_a_model_the_one_that_is_taken_is_named(folder, monkeypatch):
    monkeypatch.setattr("falconet.api.find.find_model", lambda *_, **__: FoundModel(folder / "m.onnx", "m"))
    result = CliRunner().invoke(app, ["in/a.png"], catch_exceptions=False)
    assert result.stderr == (
        "model: nanodet-plus-m-416-coco, which knows the 80 classes of COCO; --model takes your own\n"
    )
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "best.safetensors").write_bytes(b"")
    result = CliRunner().invoke(app, ["in/a.png"], catch_exceptions=False)
    assert f"; your own: --model {Path('runs/mine')}\n" in result.stderr
