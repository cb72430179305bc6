"""A whole training of a classifier: it learns, resumes, writes what it should, starts from other weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.models import Classifier, ClassifierConfig
from falconet.models.weights import load_weights
from falconet.training import fit, resume
from falconet.training.batch import Targets
from falconet.training.criteria.classifier import ClassifierCriterion
from falconet.training.recipes import preset_text
from falconet.training.run_folder import RunFolder
from falconet.training.state import TrainState
from tests.training.criterion import at
from tests.training.tiny import assert_same_weights, draw, tiny_run
from tests.training.tiny_classifier import draw_colours, tiny_classifier


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    draw_colours(folder / "train", count=8)
    draw_colours(folder / "val", count=3, seed=1)
    return folder


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(
        tiny_classifier(data, tmp_path_factory.mktemp("runs") / "first", "train.epochs=28", "train.learning_rate=0.01")
    )


def figures(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_learns_and_writes(first: Path):
    epochs = figures(first)
    assert epochs[-1]["loss"] < 0.8 * epochs[0]["loss"]
    assert max(epoch["top1"] for epoch in epochs) >= 0.8
    assert all(epoch["top5"] == 1 for epoch in epochs), "three classes are always among the best five"
    assert set(epochs[-1]["per_class"]) == {"blue", "green", "red"}
    network, card = load_weights(first / "best.safetensors")
    assert isinstance(network, Classifier)
    assert isinstance(card.model, ClassifierConfig)
    assert card.classes == ("blue", "green", "red")
    assert card.metrics["top1"] == max(epoch["top1"] for epoch in epochs)
    log = (first / "train.log").read_text()
    assert "data: 24 training pictures, 9 for validation" in log
    assert "classes (pictures): blue (8), green (8), red (8)" in log
    assert "best top1 " in log


def test_resume_goes_on_as_if_never_stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = fit(tiny_classifier(data, tmp_path / "whole"))
    original = TrainState.save

    def stop(self, *args):
        original(self, *args)
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_classifier(data, tmp_path / "cut"))
    assert RunFolder(tmp_path / "cut").read_state()["epoch"] == 2
    assert_same_weights(whole / "last.safetensors", resume(tmp_path / "cut") / "last.safetensors")


def test_other_classes_start_anew(first: Path, tmp_path: Path):
    draw_colours(tmp_path / "train", count=3)
    (tmp_path / "train" / "green").rename(tmp_path / "train" / "grass")
    run = tiny_classifier(
        tmp_path, tmp_path / "run", f"train.weights={first}", f"data.val={tmp_path}/train", "train.epochs=1"
    )
    fit(run)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "classes new to these weights: grass (class outputs start anew; the weights know blue, green, red)" in log


def test_a_detector_starts_from_the_backbone(first: Path, tmp_path: Path):
    data = draw(tmp_path / "drawn", train=6, val=2)
    backbone = "model.backbone={name: mobilenet-v2, width: 0.25}"
    weights = (f"train.weights={first}", "train.learning_rate=auto")
    run = tiny_run(data, tmp_path / "run", backbone, *weights, "train.epochs=1")
    log = (fit(run) / "train.log").read_text()
    assert "tensors taken over; neck and head start anew" in log
    assert "learning rate: 0.004 * sqrt" in log
    assert "the first convolution was changed to see the model's own normalisation" in log
    wider = tiny_run(data, tmp_path / "other", backbone.replace("0.25", "0.5"), f"train.weights={first}")
    with pytest.raises(ModelError, match=r"these are the weights of another network: backbone\.stem\.conv\.weight is"):
        fit(wider)
    assert not (tmp_path / "other" / "run.yaml").exists()


def test_minutes(data: Path, tmp_path: Path):
    fit(tiny_classifier(data, tmp_path / "run", "train.minutes=0.02"))
    assert figures(tmp_path / "run")


def test_broken_pictures_are_left_out_and_said(tmp_path: Path):
    draw_colours(tmp_path / "train", count=3)
    draw_colours(tmp_path / "val", count=2)
    (tmp_path / "train" / "red" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    (tmp_path / "train" / "stray.png").write_bytes((tmp_path / "train" / "red" / "1.png").read_bytes())
    fit(tiny_classifier(tmp_path, tmp_path / "run", "train.epochs=1"))
    log = (tmp_path / "run" / "train.log").read_text()
    assert "training data: 2 problems; what is concerned is left out or cut:" in log
    assert "stray.png: lies outside the classes' folders (left out)" in log
    assert "classes (pictures): blue (3), green (3), red (2)" in log


def test_class_that_training_does_not_know(data: Path, tmp_path: Path):
    draw_colours(tmp_path / "val", count=1)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "rust")
    with pytest.raises(DataError, match="its classes do not fit those of the training data: rust not in it"):
        fit(tiny_classifier(data, tmp_path / "run", f"data.val={tmp_path}/val"))


def test_boxes_are_no_image_folder(tmp_path: Path):
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(DataError, match=r"train\.json: is a file; expected a folder that holds one folder of pictures"):
        fit(tiny_classifier(tmp_path, tmp_path / "run", f"data.train={tmp_path}/train.json"))


def test_split_and_mosaic_have_no_meaning(data: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"expected neither data\.\*\.images nor data\.\*\.split beside it"):
        fit(tiny_classifier(data, tmp_path / "run", f"data.train={{annotations: {data}/train, split: train}}"))
    with pytest.raises(ConfigError, match="has no meaning for a classifier"):
        tiny_classifier(data, tmp_path / "run", "augment.mosaic=0.5")


def test_preset_text_is_complete():
    text = preset_text("efficientnet-lite0")
    assert "name: classifier" in text
    assert "batch_size: 32" in text


def test_criterion_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    targets = Targets(torch.zeros(2, 1, 4), torch.tensor([[0], [2]]), torch.ones(2, 1, dtype=torch.bool))
    log = np.log(np.exp([2, 0, 0]) / np.exp([2, 0, 0]).sum())
    expected = (-(0.8 * log[0] + 0.1 * log[1] + 0.1 * log[2]) + np.log(3)) / 2
    loss = ClassifierCriterion(label_smoothing=0.3)(logits, targets, at(0))["class"]
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad.abs().sum() > 0
