"""A model file, and a service in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.runtime import tiny_model
from tests.serving.here import Asker, serving, source, write_classifier


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny detector."""
    return tiny_model.write(tmp_path / "cells.onnx")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """The tiny detector and the tiny classifier behind addresses."""
    folder = tmp_path_factory.mktemp("served")
    cells, colours = tiny_model.write(folder / "cells.onnx"), write_classifier(folder / "colours.onnx")
    with serving(source(cells), source(colours, "colours")) as asker:
        yield asker
