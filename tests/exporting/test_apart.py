"""Converters in a process of their own: what they write arrives, what they say is told."""

from pathlib import Path

import pytest

from falconet.core.errors import ModelError
from falconet.exporting.apart import convert_apart

CONVERTER = """
import sys
from falconet.exporting.apart import run_converter

def convert(network, pixels, manifest, file):
    print("noise", file=sys.stderr)
    {body}

run_converter(convert)
"""


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(body: str) -> str:
        (tmp_path / "some_converter.py").write_text(CONVERTER.format(body=body))
        return "some_converter"

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2] / 'src'}")
    return write


def test_what_it_writes(weights: Path, converter, capfd: pytest.CaptureFixture[str]) -> None:
    module = converter('file.write_text(f"{[*pixels.shape]} {manifest[:18]} {len(network(pixels))}")')
    content = convert_apart(module, weights, program="some", size=(64, 96))
    assert content.decode() == '[1, 64, 96, 3] {"format": 1, "tas 2'
    assert capfd.readouterr() == ("", "")


def test_what_it_says_where_it_fails(weights: Path, converter) -> None:
    module = converter('raise ValueError("no such operator: gelu")')
    with pytest.raises(ModelError, match="some does not convert this network: ValueError: no such operator: gelu"):
        convert_apart(module, weights, program="some", size=None)


def test_one_that_dies(weights: Path, converter) -> None:
    with pytest.raises(ModelError, match="some does not convert this network: noise"):
        convert_apart(converter("import os; os._exit(3)"), weights, program="some", size=None)
