import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from falconet.cli import startup
from falconet.core.errors import ModelError
from falconet.runtime.engines import OnnxEngine
from tests.runtime import tiny_model


def test_collection_rests_until_the_start_is_over(monkeypatch):
    monkeypatch.setattr(gc, "freeze", lambda: None)  # would last for all other tests
    assert gc.isenabled()
    startup.finish()
    startup.begin()
    try:
        assert not gc.isenabled()
    finally:
        startup.finish()
    assert gc.isenabled()


def test_the_model_is_opened_early(tmp_path):
    path = tiny_model.write(tmp_path / "m.onnx")
    opening = startup.open_early(["predict", "a.jpg", "--model", str(path), "--out", "x"])
    assert opening is not None
    assert opening.path == path
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    early, usual = OnnxEngine(path, session=opening.session()), OnnxEngine(path)
    assert early.manifest == usual.manifest
    for got, expected in zip(early(pixels), usual(pixels), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_broken_model_is_told_where_it_is_asked_for(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    opening = startup.open_early(["predict", "a.jpg", "--model", str(path)])
    assert opening is not None
    with pytest.raises(ModelError, match=r"m\.onnx: is not a complete ONNX model"):
        opening.session()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "predict",
        "predict a.jpg --model",
        "predict a.jpg --model none.onnx",
        "predict a.jpg --model folder.onnx",
        "predict a.jpg --model best.safetensors",
        "predict a.jpg --model m.onnx --threads 1",
        "predict a.jpg --model m.onnx --threads=1",
        "predict --model m.onnx --help",
        "predict a.jpg --model m.onnx --model m.onnx",
        "eval --model m.onnx",
        "--model m.onnx predict",
    ],
)
def test_nothing_is_opened_in_vain(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    tiny_model.write(Path("m.onnx"))
    Path("folder.onnx").mkdir()
    Path("best.safetensors").touch()
    assert startup.open_early(words.split()) is None
    assert [thread for thread in threading.enumerate() if thread.name == "falconet-opening"] == []
