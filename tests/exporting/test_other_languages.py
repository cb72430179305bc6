"""The examples in other languages find what Python finds."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import falconet
from falconet.core.manifest import Selection
from falconet.exporting.nms import add_selection
from falconet.exporting.onnx import export_onnx
from tests.exporting.models import write_weights
from tests.runtime import tiny_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Program = Callable[[Path, np.ndarray, Sequence[str]], list[str]]
"""(model, picture, class names) -> the lines that it prints."""


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def javascript(folder: Path) -> list[str]:
    """The example with its packages of the npm registry; the command that runs it."""
    need("npm")
    shutil.copytree(EXAMPLES / "javascript", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    return ["node", "detect.mjs"]


def cpp(folder: Path) -> list[str]:
    """The example, built with the OpenVINO of the Python package; the command that runs it."""
    need("cmake")
    need("c++")
    utils = pytest.importorskip("openvino.utils")
    place = f"-DOpenVINO_DIR={utils.get_cmake_path()}"
    for words in (["-S", str(EXAMPLES / "cpp"), "-B", str(folder), place], ["--build", str(folder)]):
        done = subprocess.run(["cmake", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return [str(folder / "detect")]


@pytest.fixture(scope="module", params=[(javascript, ".png"), (cpp, ".ppm")], ids=["javascript", "cpp"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    make, suffix = request.param
    folder = tmp_path_factory.mktemp(make.__name__) / "example"
    command = make(folder)

    def run(model: Path, image: np.ndarray, names: Sequence[str]) -> list[str]:
        cv2.imwrite(str(folder / f"a{suffix}"), image)
        (folder / "classes.txt").write_text("\n".join(names) + "\n")
        words = [*command, str(model), f"a{suffix}", "classes.txt"]
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        return sorted(done.stdout.splitlines())

    return run


@pytest.mark.slow
def test_finds_what_python_finds(program: Program, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "small.safetensors", channels="rgb")
    model = export_onnx(weights, tmp_path / "small.onnx", nms=True, score=0.1)
    random = np.random.default_rng(5)
    image = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (128, 96), interpolation=cv2.INTER_NEAREST)
    found = falconet.load(model).predict(image)
    ours = sorted((name, score, [round(float(side)) for side in box]) for name, score, box in found)
    assert ours
    assert_alike(ours, [parsed(line) for line in program(model, image, falconet.load(model).names)])


@pytest.mark.slow
def test_fits_large_pictures_as_we_do(program: Program, tmp_path: Path) -> None:
    """A network that says how red a cell is, on stripes that whoever does not average takes for plain red."""
    model = onnx.load(tiny_model.write(tmp_path / "m.onnx", batch=1))
    add_selection(model, Selection(score_threshold=0.25))
    onnx.save(model, tmp_path / "m.onnx")
    striped = tiny_model.picture((0, 0, "red"), (2, 1, "blue"), scale=4)
    striped[:, [column for column in range(256) if column % 4 in (0, 3)]] = 0
    odd = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), (320, 192))
    for image in (striped, odd):
        found = falconet.load(tmp_path / "m.onnx").predict(image)
        ours = [(name, score, [round(float(side)) for side in box]) for name, score, box in found]
        assert len(ours) > 1
        assert_alike(ours, [parsed(line) for line in program(tmp_path / "m.onnx", image, tiny_model.NAMES)])


Found = tuple[str, float, list[int]]
"""Name, score, box."""


def parsed(line: str) -> Found:
    """A line of an example."""
    name, score, _, box = line.rsplit(" ", 3)
    return name, float(score), [int(side) for side in box.split(",")]


def place(found: Found) -> tuple[str, list[int]]:
    return found[0], found[2]


def assert_alike(ours: Sequence[Found], theirs: Sequence[Found]) -> None:
    """The same names and boxes; scores but for the rounding to two digits."""
    assert len(ours) == len(theirs)
    for one, other in zip(sorted(ours, key=place), sorted(theirs, key=place), strict=True):
        assert place(one) == place(other)
        assert one[1] == pytest.approx(other[1], abs=0.01)
