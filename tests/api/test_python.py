"""Falconet from Python: load, train, evaluate, export, and what their results tell."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

import falconet
from falconet.core.errors import ConfigError, DataError
from falconet.core.images import read_image
from falconet.core.types import Classification, Detections
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save
from tests.training.tiny import MODEL, draw


def test_dir_shows_what_there_is() -> None:
    assert {"load", "train", "evaluate", "export", "Run", "Detections", "DataError"} <= set(dir(falconet))
    for name in dir(falconet):
        assert getattr(falconet, name) is not None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "a.png", picture((0, 0, "red"), (2, 2, "blue"), value=100))
    return tmp_path / "m.onnx"


def test_the_score_of_load(model: Path) -> None:
    picture_path = model.parent / "a.png"
    assert len(falconet.load(model).predict(picture_path)) == 2
    assert len(falconet.load(model, score=0.5).predict(picture_path)) == 0


def test_an_answer_shows_and_draws_itself(model: Path) -> None:
    predictor, path = falconet.load(model), model.parent / "a.png"
    found = predictor.predict(path)
    assert str(found) == "red 0.39, blue 0.39"
    assert repr(found) == "<Detections: red 0.39, blue 0.39>"
    drawn = found.plot()
    assert drawn.shape == (128, 128, 3)
    assert (drawn != read_image(path)[0]).any()
    assert found.save(model.parent / "drawn.png") == model.parent / "drawn.png"
    np.testing.assert_array_equal(cv2.imread(str(model.parent / "drawn.png")), drawn)
    assert (found.first(1).plot() != drawn).any()
    pixels = cv2.imread(str(path))
    both = predictor.predict([pixels, path])
    for one in both:
        np.testing.assert_array_equal(one.plot(), drawn)
    np.testing.assert_array_equal(pixels, cv2.imread(str(path)), err_msg="the caller's pixels stay as they are")


def test_an_answer_without_a_picture() -> None:
    with pytest.raises(DataError, match="does not know its picture"):
        Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0)).plot()
    assert str(Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))) == "nothing"


def test_a_classification_shows_and_draws_itself() -> None:
    probabilities = np.array([0.7, 0.1, 0.2], np.float32)
    answer = Classification(probabilities, ("ant", "bee", "cat"), np.zeros((90, 90, 3), np.uint8))
    assert repr(answer) == "<Classification: ant 0.700, cat 0.200, bee 0.100>"
    assert answer.plot().any()


def test_from_pictures_to_an_exported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = draw(tmp_path / "photos", train=8, val=3)
    changes = {key: value for key, _, value in (option.partition("=") for option in MODEL)}
    small = {"train.batch_size": 4, "data.workers": 0, "train.loggers": []}
    run = falconet.train("nanodet-plus-demo", data, epochs=1, output="mine", changes=small | changes)
    assert run.path == tmp_path / "mine"
    assert len(run.history) == 1
    assert run.metrics["AP"] == run.history[0]["AP"]
    assert str(run).startswith(f"{run.path}: AP ")
    measured = falconet.evaluate(run)
    assert measured["AP"] == pytest.approx(run.metrics["AP"], abs=1e-3)
    assert measured["images"] == 3
    assert "AP50 " in str(measured)
    assert measured.save(tmp_path / "report").is_file()
    exported = falconet.export(run, "out", pictures=2, score=0.3)
    assert exported.path == Path("out/mine.onnx")
    assert exported.receipts[0].problems == ()
    predictor = falconet.load(exported)
    assert predictor.manifest.selection.score_threshold == 0.3
    assert len(falconet.evaluate(exported, data, split="val").ground_truth.records) == 3
    # Nobody names a folder: the first that is free.
    again = falconet.train("nanodet-plus-demo", data, epochs=1, changes=small | changes)
    assert again.path == tmp_path / "runs" / "nanodet-plus-demo"


def test_mistakes_are_falconets_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a preset"):
        falconet.train("nanodet-pluss", tmp_path)
    with pytest.raises(ConfigError, match="unknown key"):
        falconet.train("nanodet-plus-demo", tmp_path, changes={"train.epocs": 3})


def test_what_a_training_says_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that has not set up its logging sees the lines; one that has gets them where it wants."""
    from falconet.api.train import spoken

    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers.clear()
    try:
        with spoken():
            logging.getLogger("falconet.anything").info("epoch 1")
        assert capsys.readouterr().err == "epoch 1\n"
        logging.getLogger("falconet.anything").info("epoch 2")
        assert capsys.readouterr().err == ""
    finally:
        root.handlers[:] = before
    with spoken():
        logging.getLogger("falconet.anything").info("epoch 3")
    assert capsys.readouterr().err == ""


def test_an_option_of_evaluate_that_is_none(model: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate: dta is none of its options; did you mean 'data'"):
        falconet.evaluate(model, dta=3)


def test_a_predictor_says_what_it_is(model: Path) -> None:
    assert repr(falconet.load(model)) == "<cells, 64 x 64, 3 classes, in onnxruntime>"
