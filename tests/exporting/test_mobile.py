"""Files for LiteRT and ExecuTorch: what they say about themselves, and broken ones. `make targets` runs this."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import ModelError
from falconet.exporting.engines import ENGINES
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine
from falconet.runtime.engines import Use, choose_engine
from tests.exporting.test_targets import EXPORTERS

MODULES = {"litert": "litert_torch", "executorch": "executorch"}
ENDINGS = {"litert": ".tflite", "executorch": ".pte"}


@pytest.fixture(scope="module", params=MODULES)
def file(request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec(MODULES[request.param]) is None:
        pytest.skip(f"{request.param} has an environment of its own: make targets")
    out = tmp_path_factory.mktemp(request.param) / f"m{ENDINGS[request.param]}"
    return EXPORTERS[request.param](weights, out)


def opened(path: Path):
    return ENGINES[choose_engine(path, "auto", engines=ENGINES)].open(path, Use(threads=1))


def test_it_says_what_it_is_and_takes_any_number_of_pictures(file: Path, weights: Path, pixels: np.ndarray) -> None:
    engine, torch = opened(file), TorchEngine(weights, max_points=ALL_POINTS)
    assert engine.manifest == torch.manifest
    found, expected = engine(pixels), torch(pixels)
    assert [value.shape for value in found.values()] == [value.shape for value in expected.values()]
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.01)


def test_half_of_a_file(file: Path, tmp_path: Path) -> None:
    half = tmp_path / file.name
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    kind = {".tflite": "LiteRT", ".pte": "ExecuTorch"}[file.suffix]
    with pytest.raises(
        ModelError, match=rf"m\{file.suffix}: is not a complete {kind} model .* copy or export it again"
    ):
        opened(half)


def test_a_file_of_another_program(file: Path, tmp_path: Path) -> None:
    if file.suffix != ".tflite":
        pytest.skip("an ExecuTorch program without our method cannot be made of one with it")
    foreign = tmp_path / "m.tflite"
    with zipfile.ZipFile(file) as archive:
        start = archive.infolist()[0].header_offset
    foreign.write_bytes(file.read_bytes()[:start])
    with zipfile.ZipFile(foreign, "a") as archive:
        archive.writestr("labels.txt", "cat")
    with pytest.raises(ModelError, match="carries no Falconet manifest"):
        opened(foreign)
