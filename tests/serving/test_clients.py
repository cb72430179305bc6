"""The clients of docs/serve.md, as they are written there."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import pytest

from falconet.core.images import encode_image, read_image
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture
from tests.serving.process import Served, served

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def block(language: str, place: int = 0) -> str:
    """The code of a block of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[place]


def run(folder: Path, command: list[str]) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    tiny_model.write(folder / "model.onnx")
    (folder / "photo.jpg").write_bytes(encode_image(picture((0, 0, "red")), ".jpg"))
    (folder / "street.jpg").write_bytes(encode_image(picture((2, 2, "green")), ".jpg"))
    with served(folder, "model.onnx") as one:
        yield one


@pytest.fixture
def folder(service: Served) -> Path:
    return Path(f"/proc/{service.process.pid}/cwd").readlink()


needs_proc = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="the service's folder is read from /proc")
pytestmark = needs_proc


def test_python(service: Served, folder: Path) -> None:
    program = block("python").replace(ADDRESS, service.url)
    assert len([line for line in program.splitlines() if line]) <= 6
    (line,) = run(folder, [sys.executable, "-c", program]).splitlines()
    assert line.startswith("red 0.99")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_javascript(service: Served, folder: Path) -> None:
    program = block("js").replace(ADDRESS, service.url)
    assert len(program.splitlines()) <= 5
    (line,) = run(folder, ["node", "--input-type=module", "--eval", program]).splitlines()
    assert line.startswith("red 0.99")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(service: Served, folder: Path) -> None:
    first, second = block("sh").replace(ADDRESS, service.url).splitlines()
    found = json.loads(run(folder, ["bash", "-c", first]))["results"]
    assert [one["file"] for one in found] == ["photo.jpg", "street.jpg"]
    assert [one["detections"][0]["label"] for one in found] == ["red", "green"]
    run(folder, ["bash", "-c", second])
    drawn, _ = read_image(folder / "drawn.jpg")
    assert drawn.shape == cv2.imread(str(folder / "photo.jpg")).shape


@pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("openssl") is None, reason="openssl or curl is missing"
)
def test_tokens(tmp_path: Path) -> None:
    make, ask = block("sh", 1).splitlines()
    tiny_model.write(tmp_path / "model.onnx")
    run(tmp_path, ["bash", "-c", make])
    with served(tmp_path, "model.onnx", "--token-file", "tokens.txt") as service:
        answer = run(tmp_path, ["bash", "-c", "curl -s" + ask.replace(ADDRESS, service.url).removeprefix("curl")])
        assert json.loads(answer)["models"][0]["name"] == "model"
        assert httpx.get(f"{service.url}/v1/models").status_code == 401


def test_tables_of_the_page_are_whole() -> None:
    from falconet.serving.asked import Asked
    from falconet.serving.problems import KINDS

    for name in Asked.model_fields:
        assert f"`{name}`" in PAGE, name
    for kind in KINDS.values():
        assert str(kind.status) in PAGE or kind.status in (431, 500)
