"""The page's modules that touch no page, run by Node.js, and held against what Python does."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from falconet.core.manifest import Preprocess
from falconet.core.resize import resize

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "src/falconet/webpage/static"


def node(*words: str) -> str:
    """What Node.js prints."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    done = subprocess.run(["node", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("tests", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.name)
def test_modules_do_what_their_tests_say(tests: Path) -> None:
    told = node("--test", str(tests))
    assert "# fail 0" in told or "fail 0" in told
    assert "pass 0" not in told


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(64, 96), (40, 61), (333, 130), (500, 701), (128, 192), (20, 400)])
def test_pictures_are_fitted_as_python_fits_them(size: tuple[int, int], rule: str, tmp_path: Path) -> None:
    random = np.random.default_rng(sum(size))
    image = random.integers(0, 256, (*size, 3), np.uint8)
    rgba = np.dstack([image[..., ::-1], np.full(size, 255, np.uint8)])
    (tmp_path / "in").write_bytes(rgba.tobytes())
    preprocess = Preprocess(height=64, width=96, resize=rule, pad_value=114)
    picture = {"height": size[0], "width": size[1]}
    fields = {"height": 64, "width": 96, "resize": rule, "pad_value": 114}
    words = json.dumps({"picture": picture, "input": fields})
    placement = json.loads(node(str(HERE / "fit.mjs"), str(tmp_path / "in"), str(tmp_path / "out"), words))
    pixels = np.frombuffer((tmp_path / "out").read_bytes(), np.uint8).reshape(64, 96, 3)
    expected, ours = resize(image, preprocess)
    assert placement["scale"] == pytest.approx(ours.scale)
    assert tuple(placement["offset"]) == ours.offset
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.max() == 0


def test_every_module_is_one_that_browsers_read() -> None:
    for module in STATIC.glob("*.js"):
        done = subprocess.run(
            ["node", "--check", "--input-type=module"],
            input=module.read_text(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{module.name}: {done.stderr}"
