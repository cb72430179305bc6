"""The examples in other languages find what Python finds."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import pytest

import falconet
from falconet.core.manifest import MANIFEST_KEY, Selection
from falconet.exporting.nms import add_selection
from falconet.exporting.onnx import export_onnx
from tests.exporting import ncnn_library
from tests.exporting.models import write_weights
from tests.exporting.ncnn_library import cmake
from tests.runtime import tiny_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("untyped")]


class Example(NamedTuple):
    """A program of another language.

    Attributes:
        build: folder -> the command that runs it; skips the test where something is missing.
        picture: ending of the pictures that it reads.
        model: ending of the files that it runs.
    """

    build: Callable[[Path], list[str]]
    picture: str
    model: str


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def javascript(folder: Path) -> list[str]:
    """With its packages of the npm registry."""
    need("npm")
    shutil.copytree(EXAMPLES / "javascript", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
    return ["node", "detect.mjs"]


def cpp(folder: Path, engine: str, place: str) -> list[str]:
    cmake("-S", EXAMPLES / "cpp", "-B", folder, f"-DENGINE={engine}", place)
    cmake("--build", folder)
    return [str(folder / "detect")]


def cpp_openvino(folder: Path) -> list[str]:
    """With the OpenVINO of the Python package."""
    need("cmake", "c++")
    utils = pytest.importorskip("openvino.utils")
    return cpp(folder, "openvino", f"-DOpenVINO_DIR={utils.get_cmake_path()}")


def cpp_ncnn(folder: Path) -> list[str]:
    """With an ncnn built from source."""
    need("cmake", "c++")
    pytest.importorskip("pnnx")
    pytest.importorskip("ncnn")
    return cpp(folder, "ncnn", f"-Dncnn_DIR={ncnn_library.built()}")


EXAMPLE = {
    "javascript": Example(javascript, ".png", ".onnx"),
    "cpp-openvino": Example(cpp_openvino, ".ppm", ".onnx"),
    "cpp-ncnn": Example(cpp_ncnn, ".ppm", ".param"),
}


class Program(NamedTuple):
    """A built example: `run` takes model, picture and class names and gives the lines that it prints."""

    run: Callable[[Path, np.ndarray, Sequence[str]], list[str]]
    model: str


@pytest.fixture(scope="module", params=EXAMPLE)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    example = EXAMPLE[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "example"
    command = example.build(folder)

    def run(model: Path, image: np.ndarray, names: Sequence[str]) -> list[str]:
        cv2.imwrite(str(folder / f"a{example.picture}"), image)
        (folder / "classes.txt").write_text("\n".join(names) + "\n")
        words = [*command, str(model), f"a{example.picture}", "classes.txt"]
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        return sorted(done.stdout.splitlines())

    return Program(run, example.model)


def test_finds_what_python_finds(program: Program, tmp_path: Path) -> None:
    weights, model = write_weights(tmp_path / "small.safetensors", channels="rgb"), tmp_path / f"small{program.model}"
    if program.model == ".onnx":
        export_onnx(weights, model, nms=True, score=0.1)
    else:
        from falconet.exporting.ncnn import export_ncnn

        export_ncnn(weights, model, score=0.1)
    random = np.random.default_rng(5)
    image = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (128, 96), interpolation=cv2.INTER_NEAREST)
    found = falconet.load(model).predict(image)
    ours = sorted((name, score, [round(float(side)) for side in box]) for name, score, box in found)
    assert ours
    assert_alike(ours, [parsed(line) for line in program.run(model, image, falconet.load(model).names)])


def test_fits_large_pictures_as_we_do(program: Program, tmp_path: Path) -> None:
    """A network that says how red a cell is, on stripes that whoever does not average takes for plain red."""
    path = tmp_path / f"m{program.model}"
    if program.model == ".onnx":
        model = onnx.load(tiny_model.write(path, batch=1))
        add_selection(model, Selection(score_threshold=0.25))
        onnx.save(model, path)
    else:
        write_cells(path)
    striped = tiny_model.picture((0, 0, "red"), (2, 1, "blue"), scale=4)
    striped[:, [column for column in range(256) if column % 4 in (0, 3)]] = 0
    odd = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), (320, 192))
    for image in (striped, odd):
        found = falconet.load(path).predict(image)
        ours = [(name, score, [round(float(side)) for side in box]) for name, score, box in found]
        assert len(ours) > 1
        assert_alike(ours, [parsed(line) for line in program.run(path, image, tiny_model.NAMES)])


def write_cells(path: Path) -> None:
    """The tiny model as a pair of ncnn: its outputs are constant boxes [16, 4] and the mean colours of 4 x 4 cells."""
    from falconet.runtime.ncnn_engine import FORMAT

    cells = tiny_model.cell_boxes()
    path.write_text(
        "7767517\n6 6\n"
        "Input in0 0 1 in0\n"
        f"MemoryData boxes 0 1 out0 0=4 1={len(cells)}\n"
        f"Pooling mean 1 1 in0 means 0=1 1={tiny_model.CELL} 2={tiny_model.CELL}\n"
        f"Reshape flat 1 1 means columns 0={len(cells)} 1=3\n"
        "Permute turn 1 1 columns rows 0=1\n"
        f"BinaryOp share 1 1 rows out1 0=2 1=1 2={1 / 255}\n"
    )
    path.with_suffix(".bin").write_bytes(cells.tobytes())
    sums = {end: hashlib.sha256(path.with_suffix(f".{end}").read_bytes()).hexdigest() for end in ("param", "bin")}
    about = {"format": FORMAT, MANIFEST_KEY: json.loads(tiny_model.manifest().to_json()), "sha256": sums}
    path.with_suffix(".falconet.json").write_text(json.dumps(about, indent=2))


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
