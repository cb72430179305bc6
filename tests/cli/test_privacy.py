"""A `predict` writes nothing outside its output folder and opens no connection."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save

WATCHED = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)

sys.addaudithook(watch)
from falconet.cli import main
main()
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_predict_leaves_nothing_elsewhere_and_asks_nobody(tmp_path: Path, engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "a.png", picture((0, 0, "red")))
    home = tmp_path / "home"
    home.mkdir()
    # OpenVINO is silent where it takes a machine for one of continuous integration.
    kept = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD")
    }
    folders = dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"), str(home))
    folders |= {f"XDG_{name}_HOME": str(home / name) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    words = ["predict", "a.png", "--model", "m.onnx", "--engine", engine, "--out", "out", "--save", "json"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, *words],
        cwd=tmp_path,
        env=kept | folders,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["a.png", "home", "m.onnx", "out", str(Path("out/detections.json"))]


@pytest.mark.parametrize("module", ["exporting.openvino", "runtime.openvino_rewrite"])
def test_openvino_is_imported_in_one_way(module: str) -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    code = f"import sys, falconet.{module}; sys.exit('openvino_telemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
