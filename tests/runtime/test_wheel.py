"""The device: the wheel without extras, in an environment of its own, detects without torch."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save

ROOT = Path(__file__).resolve().parents[2]
DETECT = """
import importlib.util, sys, falconet
assert importlib.util.find_spec("torch") is None
assert "site-packages" in falconet.__file__, falconet.__file__
((name, score, box),) = falconet.load("m.onnx").predict("a.png")
print(name, score, box)
"""


def run(*command: str | Path, cwd: Path) -> str:
    # A PYTHONPATH of the developer's would let other packages in.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "falconet/core/nms.onnx" in names
    assert "falconet/runtime/predictor.py" in names
    templates = [path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("pages/*")]
    assert len(templates) > 3
    assert set(templates) <= set(names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"falconet"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_base_install_detects(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "a.png", picture((1, 2, "green")))
    assert run(scripts / "python", "-c", DETECT, cwd=tmp_path) == "green 1.0 (64.0, 32.0, 96.0, 64.0)\n"
    command = "predict a.png --model m.onnx --out out --save images,json,csv,coco,yolo".split()  # noqa: SIM905
    assert "a.png: 128x128, green 1.00, " in run(scripts / "falconet", *command, cwd=tmp_path)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 6
