"""Run files: presets, overrides, messages, absolute paths, schema."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from falconet.core.config import write_yaml
from falconet.core.errors import ConfigError
from falconet.models import PRESETS
from falconet.models.weights import read_card
from falconet.training.criteria.ppyoloe import PPYOLOECriterionConfig
from falconet.training.originals import ORIGINALS
from falconet.training.recipes import PLACEHOLDER, RECIPES, preset_text, read_run, schema_text
from falconet.training.run_config import RunConfig, Source


@pytest.mark.parametrize("preset", PRESETS)
def test_the_printed_run_file_is_the_preset(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(preset_text(preset).replace(PLACEHOLDER, "train.json"))
    assert read_run(path) == read_run(preset, ["data.train=train.json"])
    assert read_run(path).model == PRESETS[preset]
    assert "# passes over the training pictures" in path.read_text()


def test_recipes_are_of_presets() -> None:
    assert set(RECIPES) <= set(PRESETS)


def test_overrides_reach_a_source_given_as_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {name: nanodet-plus}\ndata:\n  train: a.json\n")
    run = read_run(path, ["data.train.images=photos", "data.val=b.json", "train.epochs=7"])
    assert run.data.train.annotations == Path("a.json")
    assert run.data.train.images == Path("photos")
    assert run.data.val is not None
    assert run.data.val.annotations == Path("b.json")
    assert run.train.epochs == 7


def test_all_mistakes_of_a_run_file_with_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("modle: {}\ndata:\n  train: a.json\n  worker: 2\ntrain:\n  batch_size: 9\n  devices: 2\n")
    with pytest.raises(ConfigError) as error:
        read_run(path, ["augment.flipp=1"])
    assert set(str(error.value).splitlines()) == {
        f"{path}:1: modle: unknown key; did you mean 'model'?",
        f"{path}: model: is missing",
        f"{path}:4: data.worker: unknown key; did you mean 'workers'?",
        "override 'augment.flipp=1': augment.flipp: unknown key; did you mean 'flip'?",
        f"{path}:5: train: batch_size 9 cannot be shared equally by 2 devices",
    }


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'nanodet-plus-m320' is neither a file nor a preset; did you mean 'nano"):
        read_run("nanodet-plus-m320")


def test_a_missing_file_is_not_taken_for_a_preset() -> None:
    with pytest.raises(ConfigError, match=r"^absent\.yaml: no such file"):
        read_run("absent.yaml")


def test_a_run_folder_points_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"is a folder; expected .*--resume {tmp_path}"):
        read_run(tmp_path)


def test_a_preset_without_data_says_what_to_add() -> None:
    with pytest.raises(ConfigError, match=r"preset 'nanodet-plus-demo': the data is missing; add data=FOLDER with"):
        read_run("nanodet-plus-demo", ["train.epochs=2"])


def test_the_placeholder_is_not_a_path(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(preset_text("nanodet-plus-demo"))
    with pytest.raises(ConfigError, match="still is 'path/to/annotations'; write your own path there"):
        read_run(path)


def test_absolute_paths_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = read_run("nanodet-plus-demo", ["data.train=a.json", "data.val=v", "train.weights=w.safetensors"]).absolute()
    assert run.output == tmp_path / "runs/nanodet-plus-demo"
    assert run.data.train.annotations == tmp_path / "a.json"
    assert run.train.weights == tmp_path / "w.safetensors"
    path = tmp_path / "run.yaml"
    path.write_text(write_yaml(run, comments=True))
    assert read_run(path) == run


def test_the_schema_knows_every_section() -> None:
    schema = json.loads(schema_text())
    assert list(schema["properties"]) == ["output", "seed", "model", "slices", "criterion", "data", "augment", "train"]
    assert schema["additionalProperties"] is False
    assert "epochs" in schema["$defs"]["Train"]["properties"]


OLD = """
model:
  name: ppyoloe
  head: {class_loss: focal}
data: {train: a.json}
train: {epochs: 7, static_share: 0.5, auxiliary: keep}
"""


def test_keys_of_earlier_versions_move_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(OLD)
    run = read_run(path)
    assert run.criterion == PPYOLOECriterionConfig(class_loss="focal", static_share=0.5)
    assert run.train.epochs == 7
    assert sorted(caplog.messages) == [
        f"{path}: model.head.class_loss is criterion.class_loss now; please move it there",
        f"{path}: train.auxiliary: means nothing for ppyoloe; leave it out",
        f"{path}: train.static_share is criterion.static_share now; please move it there",
    ]
    caplog.clear()
    path.write_text(write_yaml(run))
    assert read_run(path) == run
    assert caplog.messages == []


def test_old_keys_as_overrides(caplog: pytest.LogCaptureFixture) -> None:
    run = read_run("nanodet-plus-demo", ["data.train=a.json", "train.auxiliary=keep", "train.detach_epoch=4"])
    assert (run.criterion.auxiliary, run.criterion.detach_epoch) == ("keep", 4)
    assert caplog.messages == [
        "override 'train.auxiliary=keep' is criterion.auxiliary now; please move it there",
        "override 'train.detach_epoch=4' is criterion.detach_epoch now; please move it there",
    ]
    assert read_run("yolov3-tiny", ["data.train=a.json", "model.criterion=classic"]).criterion.kind == "classic"


def test_a_wrong_key_of_a_criterion_names_those_of_its_model() -> None:
    with pytest.raises(ConfigError, match=r"criterion\.auxilary: unknown key; did you mean 'auxiliary'"):
        read_run("nanodet-plus-demo", ["data.train=a.json", "criterion.auxilary=keep"])
    with pytest.raises(
        ConfigError, match=r"criterion\.detach_epoch: unknown key; expected one of: auxiliary, class_loss"
    ):
        read_run("ppyoloe-s", ["data.train=a.json", "criterion.detach_epoch=4"])
    with pytest.raises(ConfigError, match=r"criterion\.name is yolov3, but the model is nanodet-plus"):
        read_run("nanodet-plus-demo", ["data.train=a.json", "criterion={name: yolov3}"])


@pytest.mark.parametrize("written", ["train: {detach_epoch: 7}", "criterion: {detach_epoch: 7}"])
@pytest.mark.parametrize("key", ["train.detach_epoch", "criterion.detach_epoch"])
def test_an_override_beats_the_file_under_either_name(tmp_path: Path, written: str, key: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: {{name: nanodet-plus}}\ndata: {{train: a.json}}\n{written}\n")
    assert read_run(path).criterion.detach_epoch == 7
    assert read_run(path, [f"{key}=3"]).criterion.detach_epoch == 3


def test_another_model_takes_its_own_criterion() -> None:
    options = ["data.train=a.json", "criterion.static_share=0.25", "model.name=ppyoloe"]
    run = read_run("nanodet-plus-demo", options)
    assert run.criterion == PPYOLOECriterionConfig(static_share=0.25)
    with pytest.raises(ConfigError, match=r"model: there is no 'pyoloe'; did you mean 'ppyoloe'"):
        read_run("nanodet-plus-demo", ["data.train=a.json", "model.name=pyoloe"])


def test_values_of_the_caller_stay_as_they_are() -> None:
    tree = {"model": {"name": "yolov3", "criterion": "classic"}, "data": {"train": "a.json"}}
    assert RunConfig.model_validate(tree).criterion.kind == "classic"
    assert tree == {"model": {"name": "yolov3", "criterion": "classic"}, "data": {"train": "a.json"}}


@pytest.mark.parametrize(
    ("preset", "old"),
    [("ppyoloe-plus-s", {"head": {"class_loss": "focal", "reg_max": 16}}), ("yolov3-tiny", {"criterion": "classic"})],
)
def test_weights_of_earlier_versions_say_how_they_were_trained_and_load(
    tmp_path: Path, preset: str, old: dict[str, Any]
) -> None:
    tree = PRESETS[preset].model_dump(mode="json")
    card = {"model": tree | old, "classes": ["a"]}
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"falconet": json.dumps(card)})
    assert read_card(path).model == PRESETS[preset]


def test_the_first_nanodet_is_not_stretched() -> None:
    for preset in ("nanodet-m-320", "nanodet-m-416", "nanodet-m-1.5x"):
        augment = read_run(preset, ["data.train=photos"]).augment
        assert (augment.scale, augment.stretch) == ((0.5, 1.4), (1, 1))
    assert read_run("nanodet-plus-m-320", ["data.train=photos"]).augment.stretch == (0.8, 1.2)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_source_and_its_parts_in_any_order(turn: int) -> None:
    words = ["data.train=my photos", "data.train.split=train", "data.val.split=val", "data.val=my photos"]
    run = read_run("nanodet-plus-m-320", words[::turn])
    assert run.data.train == Source(annotations=Path("my photos"), split="train")
    assert run.data.val == Source(annotations=Path("my photos"), split="val")
    assert read_run("nanodet-plus-m-320", [*words[:2], "data.val=null"]).data.val is None


@pytest.mark.parametrize("preset", ORIGINALS)
def test_the_recipe_of_the_authors_changes_the_training_only(preset: str, tmp_path: Path) -> None:
    run = read_run(preset, ["data.train=photos"], "original")
    assert run.model == PRESETS[preset]
    assert run.train.epochs >= 80
    assert run != read_run(preset, ["data.train=photos"])
    assert read_run(preset, ["data.train=photos", "train.epochs=3"], "original").train.epochs == 3
    path = tmp_path / "run.yaml"
    path.write_text(preset_text(preset, "original").replace(PLACEHOLDER, "photos"))
    assert read_run(path) == run


def test_a_recipe_belongs_to_a_preset(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="yolov3-tiny: its authors' recipe is not known here; expected one of: nanodet"
    ):
        read_run("yolov3-tiny", ["data.train=photos"], "original")
    path = tmp_path / "run.yaml"
    path.write_text(preset_text("yolov3-tiny").replace(PLACEHOLDER, "photos"))
    with pytest.raises(ConfigError, match=r"run\.yaml: is a run file, which says everything"):
        read_run(path, (), "original")


def test_sgd_has_no_rate_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"train: optimizer sgd .* expected a learning_rate beside it$"):
        read_run("nanodet-plus-demo", ["data.train=a.json", "train.optimizer=sgd"])


@pytest.mark.parametrize("word", ["null", "none", "None", "scratch"])
def test_no_weights_in_words(word: str) -> None:
    assert read_run("nanodet-plus-demo", ["data.train=a.json", f"train.weights={word}"]).train.weights is None


@pytest.mark.parametrize("beside", ["", "; did you mean "])
def test_a_model_in_place_of_a_run_file(tmp_path: Path, beside: str) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(b"\x08\x09\x12\x00\xff")
    if beside:
        (tmp_path / "run.yaml").write_text("output: runs\n")
    with pytest.raises(ConfigError) as error:
        read_run(model)
    assert str(error.value).startswith(f"{model}: holds no text, as a model's file does; expected a run file")
    assert str(error.value).endswith(f"a preset name{beside}{tmp_path / 'run.yaml'}?" if beside else "a preset name")


def test_the_size_of_the_input_at_once() -> None:
    with pytest.raises(ConfigError, match=r"\(height, width, .*\), as in model\.input\.height=192, but got 192"):
        read_run("nanodet-plus-m-320", ["data.train.annotations=x.json", "model.input=192"])
