"""A model file, and a service in this process."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import tiny_model

if find_spec("fastapi") is None:  # the extra `serve`
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny detector."""
    return tiny_model.write(tmp_path / "cells.onnx")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The tiny detector and the tiny classifier behind addresses."""
    from tests.serving.here import serving, source, write_classifier

    folder = tmp_path_factory.mktemp("served")
    cells, colours = tiny_model.write(folder / "cells.onnx"), write_classifier(folder / "colours.onnx")
    with serving(source(cells), source(colours, "colours")) as asker:
        yield asker
