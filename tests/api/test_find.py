"""Which model is meant, and that every command and `falconet.load` mean the same."""

from pathlib import Path

import pytest

import falconet
from falconet.api import find
from falconet.api.find import FoundModel, find_model, usual_weights
from falconet.core.errors import ConfigError, ModelError
from falconet.models import CLASSIFIERS, PRESETS
from falconet.models.backbones import GhostNetConfig
from tests.runtime import tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a run, loose weights and an exported file."""
    monkeypatch.chdir(tmp_path)
    for name in ("run/run.yaml", "run/best.safetensors", "run/last.safetensors", "loose/some.safetensors"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    tiny_model.write(tmp_path / "cells.onnx")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("model", "path", "name", "run"),
    [
        ("run", "run/best.safetensors", "run", "run"),
        ("run/best.safetensors", "run/best.safetensors", "run", "run"),
        ("run/last.safetensors", "run/last.safetensors", "run", "run"),
        ("loose/some.safetensors", "loose/some.safetensors", "some", None),
        ("cells.onnx", "cells.onnx", "cells", None),
    ],
)
def test_files_and_folders(model, path, name, run):
    assert find_model(model) == FoundModel(Path(path), name, None if run is None else Path(run))


def test_the_last_weights_where_no_best_ones_are(folder):
    (folder / "run/best.safetensors").unlink()
    assert find_model("run").path == Path("run/last.safetensors")
    (folder / "run/last.safetensors").unlink()
    with pytest.raises(ModelError, match=r"run: this run has no weights yet.* falconet train --resume run"):
        find_model("run")


@pytest.mark.usefixtures("folder")
def test_nothing_there_suggests_a_name():
    with pytest.raises(ModelError) as caught:
        find_model("nanodet-plus-m-416-coc")
    assert str(caught.value) == (
        "nanodet-plus-m-416-coc: no such file; expected a run folder, a weights file, an exported .onnx file or the "
        "name of published weights; did you mean 'nanodet-plus-m-416-coco'?"
    )
    with pytest.raises(ModelError, match="did you mean 'my-own'"):
        find_model("my-ow", others=["my-own"])


def test_published_names_are_fetched_in_the_form_that_is_wanted(folder, monkeypatch):
    from falconet.zoo.published import fetch as published

    monkeypatch.setattr(published, "fetch_onnx", lambda name: folder / f"{name}.onnx")
    monkeypatch.setattr(published, "fetch_weights", lambda name: folder / f"{name}.safetensors")
    name = "nanodet-plus-m-416-coco"
    assert find_model(name) == FoundModel(folder / f"{name}.onnx", name)
    assert find_model(name, weights=True) == FoundModel(folder / f"{name}.safetensors", name)
    (folder / name).mkdir()
    (folder / name / "best.safetensors").touch()
    assert find_model(name).path == Path(name) / "best.safetensors", "a folder of that name goes first"


@pytest.mark.usefixtures("folder")
def test_published_weights_that_need_torch(monkeypatch):
    monkeypatch.setattr(find, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="ppyoloe-s-coco: converting these published weights needs torch"):
        find_model("ppyoloe-s-coco")
    with pytest.raises(ModelError, match="is a backbone alone"):
        find_model("yolov3-darknet53-imagenet")


def test_load_takes_a_published_name(folder, monkeypatch):
    from falconet.zoo.published import fetch as published

    monkeypatch.setattr(published, "fetch_onnx", lambda _name: folder / "cells.onnx")
    assert falconet.load("nanodet-plus-m-416-coco").names == tiny_model.NAMES


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        ("nanodet-plus-m-416", "nanodet-plus-m-416-coco"),
        ("nanodet-plus-m-320", "nanodet-plus-m-416-coco"),
        ("ppyoloe-plus-t-relu-320", "ppyoloe-plus-t-relu-320-coco"),
        ("nanodet-plus-m-1.5x-320", "imagenet"),
        ("efficientnet-lite0", "efficientnet-lite0-imagenet"),
        ("ghostnet-1.0", "ghostnet-1.0-imagenet"),
        ("ghostnet-0.5", None),
    ],
)
def test_what_weights_auto_stands_for(preset: str, weights: str | None) -> None:
    assert usual_weights((PRESETS | CLASSIFIERS)[preset]) == weights


def test_weights_of_a_changed_network_are_those_of_its_backbone() -> None:
    changed = PRESETS["nanodet-plus-m-416"]
    neck = changed.neck.model_copy(update={"channels": 64})
    smaller = changed.model_copy(update={"neck": neck})
    assert usual_weights(smaller) == "nanodet-plus-m-416-coco"
    assert usual_weights(PRESETS["nanodet-plus-m-1.5x-416"].model_copy(update={"neck": neck})) == "imagenet"
    assert usual_weights(smaller.model_copy(update={"backbone": GhostNetConfig(width=0.5)})) is None
    other = smaller.model_copy(update={"backbone": PRESETS["ppyoloe-plus-s"].backbone})
    assert usual_weights(other) == "ppyoloe-plus-s-coco"
