"""The tiny exported model, once per test."""

from pathlib import Path

import pytest

from tests.runtime import tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model as an .onnx file."""
    return tiny_model.write(tmp_path / "cells.onnx")
