"""One export for all tests of the folder: it takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import jaxtyping
import numpy as np
import pytest

from falconet.core.images import write_image
from falconet.core.types import Record
from tests.exporting.models import write_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "small.safetensors", channels="rgb")


@pytest.fixture(scope="session")
def exported(weights, tmp_path_factory) -> Path:
    from falconet.exporting.onnx import export_onnx

    return export_onnx(weights, tmp_path_factory.mktemp("exported") / "small.onnx")


@pytest.fixture(scope="session")
def records(tmp_path_factory) -> list[Record]:
    """Pictures of several shapes; the truth is somewhere in them."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made = []
    for index, (height, width) in enumerate([(96, 128), (200, 150), (60, 300), (333, 333)]):
        image = cv2.resize(random.integers(0, 256, (7, 9, 3), dtype=np.uint8), (width, height))
        path = folder / f"{index}.png"
        write_image(path, image)
        boxes = np.array([[2, 2, width / 2, height / 2]], np.float32)
        made.append(Record(index, path, width, height, boxes, [index % 3], np.zeros(1, bool)))
    return made


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Three pictures of the input's size."""
    random = np.random.default_rng(1)
    small = random.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(one, (128, 96)) for one in small])


@pytest.fixture(scope="module")
def untyped() -> Iterator[None]:
    """While a network is traced its sizes are tensors, which the types that the tests watch over do not allow."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
