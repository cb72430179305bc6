"""Which images a model is measured on: a folder of them, or what it was validated on; what is said of the rest."""

import json
import shutil
from pathlib import Path

import pytest

from falconet.api.find import find_model, tell_unfinished
from falconet.api.ground_truth import GroundTruth, open_ground_truth, open_images
from falconet.core.errors import ConfigError, DataError
from falconet.models.weights import load_weights, save_weights
from falconet.training import fit, resume
from falconet.training.run_folder import RunFolder
from falconet.training.state import TrainState
from tests.training.tiny import draw, tiny_run


def test_a_folder_of_images_says_what_it_leaves_out(tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.MPO", "c.avif", "d.heic", "e.txt", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = open_images(tmp_path)
    assert [record.path.name for record in found.records] == ["a.jpg", "c.avif", "b.MPO"]
    assert found.notes == (f"{tmp_path}: 2 files are not used (.heic 1, .txt 1): d.heic, e.txt",)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(DataError, match="holds no images"):
        open_images(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    draw(folder)
    return fit(tiny_run(folder, folder / "run", "train.epochs=1"))


def opened(model: Path, **data: Path | None) -> GroundTruth:
    options = {"data": None, "images": None} | data
    return open_ground_truth(find_model(model), options["data"], options["images"], None, task="detect")


def test_weights_know_what_they_were_validated_on_wherever_they_lie(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((trained / "best.safetensors").read_bytes())
    assert find_model(moved).run is None
    for model in (trained, trained / "last.safetensors", moved):
        truth = opened(model)
        assert len(truth.records) == 5
        assert all(record.path.parent.name == "val" for record in truth.records)
        assert truth.notes == ()


def test_a_run_file_that_was_replaced_is_not_believed(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    RunFolder(copy).write_run(tiny_run(trained.parent, copy, f"data.val={trained.parent}/train.json"))
    assert [record.path.parent.name for record in opened(copy).records] == ["val"] * 5
    assert "those of the weights are taken" in caplog.text


def test_pictures_that_were_trained_on_are_told_also_after_they_moved(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.parent / "train", tmp_path / "elsewhere")
    for folder in (trained.parent / "train", tmp_path / "elsewhere"):
        truth = opened(trained, data=trained.parent / "train.json", images=folder)
        assert truth.notes[0].startswith("12 of 12 pictures were trained on")
    assert opened(trained, data=trained.parent / "val.json", images=trained.parent / "val").notes == ()


def test_a_model_of_some_classes_is_not_asked_for_the_others(trained: Path, tmp_path: Path) -> None:
    network, card = load_weights(trained / "best.safetensors")
    data = card.data | {"classes": ["star", "ring"]}
    save_weights(tmp_path / "some.safetensors", network, card.model_copy(update={"data": data}))
    images = trained.parent / "val"
    truth = opened(tmp_path / "some.safetensors", data=trained.parent / "val.json", images=images)
    assert truth.names == ("star", "ring")
    whole = opened(trained, data=trained.parent / "val.json", images=images)
    kept = sum(int(((record.labels == 1) | (record.labels == 4)).sum()) for record in whole.records)
    assert sum(len(record.labels) for record in truth.records) == kept
    gone = sum(len(record.labels) for record in whole.records) - kept
    assert truth.notes[0] == (
        f"{gone} boxes of classes that data.classes of the training did not name are left out: disc, square, "
        "triangle, cross"
    )


def test_weights_that_say_nothing_of_their_data(trained: Path, tmp_path: Path) -> None:
    network, card = load_weights(trained / "best.safetensors")
    save_weights(tmp_path / "silent.safetensors", network, card.model_copy(update={"data": {}}))
    with pytest.raises(ConfigError, match="does not say which data it was measured on; add --data"):
        opened(tmp_path / "silent.safetensors")
    shutil.copy(trained / "run.yaml", tmp_path / "run.yaml")  # as version 0.1 left it
    assert len(opened(tmp_path / "silent.safetensors").records) == 5


def test_an_exported_file_leads_to_the_weights_that_its_receipt_names(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "m.receipt.json").write_text(receipt(str(trained / "best.safetensors")))
    assert [record.path.parent.name for record in opened(tmp_path / "m.onnx").records] == ["val"] * 5
    truth = opened(tmp_path / "m.onnx", data=trained.parent / "train.json", images=trained.parent / "train")
    assert truth.notes[0].startswith("12 of 12 pictures were trained on")
    (tmp_path / "m.receipt.json").write_text(receipt("gone.safetensors"))
    with pytest.raises(ConfigError, match="there is no default data; add --data"):
        opened(tmp_path / "m.onnx")


def receipt(weights: str) -> str:
    side = {"name": "torch", "version": "2", "milliseconds": 1.0, "threads": 1}
    tree = {"task": "detect", "model": "m.onnx", "weights": Path(weights).name, "weights_path": weights}
    tree |= {"sha256": "", "size": 1, "images": 1}
    return json.dumps(tree | {"findings": [], "torch": side, "exported": side})


def test_data_that_have_moved_are_said_to_be_those_of_the_run(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.parent, tmp_path / "moved")
    run = fit(tiny_run(tmp_path / "moved", tmp_path / "run", "train.epochs=1"))
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(DataError, match="was trained and measured on these data; where they lie elsewhere"):
        opened(run)


def test_a_run_that_has_not_come_to_its_end_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, save = draw(tmp_path / "drawn"), TrainState.save

    def stop(self: TrainState, *args: object) -> None:
        save(self, *args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainState, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "run", "train.epochs=3"))
    tell_unfinished(find_model(tmp_path / "run"))
    assert "this run has not come to its end; these weights are the best of its first 1 epochs" in caplog.text
    monkeypatch.setattr(TrainState, "save", save)
    resume(tmp_path / "run")
    caplog.clear()
    tell_unfinished(find_model(tmp_path / "run"))
    assert caplog.text == ""
