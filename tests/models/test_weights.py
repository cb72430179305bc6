"""Weights files: written whole or not at all, rebuilt from themselves, foreign ones refused in words."""

import errno
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from falconet.core.errors import ModelError
from falconet.core.run_files import find_weights
from falconet.models import PRESETS, build
from falconet.models.reparam import fuse
from falconet.models.weights import (
    ModelCard,
    load_extra,
    load_weights,
    read_card,
    save_weights,
    transfer,
)

CONFIG = PRESETS["nanodet-plus-demo"]
CARD = ModelCard(model=CONFIG, classes=("cat", "dog", "Füchse"), source="drawn", licence="CC0-1.0", metrics={"AP": 0.5})


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return build(CONFIG, 3).to(memory_format=torch.channels_last)


@pytest.fixture
def path(tmp_path, detector) -> Path:
    file = tmp_path / "best.safetensors"
    save_weights(file, detector, CARD, extra={"auxiliary_head.scale": torch.arange(3.0)})
    return file


def test_a_file_rebuilds_its_model(path, detector):
    before = torch.get_rng_state()
    loaded, card = load_weights(path)
    assert torch.equal(before, torch.get_rng_state())
    assert card == CARD
    assert read_card(path) == CARD
    assert not loaded.training
    state = loaded.state_dict()
    assert list(state) == list(detector.state_dict())
    for name, tensor in detector.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_extra_tensors_are_apart(path, tmp_path, detector):
    assert load_extra(path).keys() == {"auxiliary_head.scale"}
    assert load_extra(path)["auxiliary_head.scale"].tolist() == [0, 1, 2]
    save_weights(tmp_path / "none.safetensors", detector, CARD)
    assert load_extra(tmp_path / "none.safetensors") == {}


LARGE = ("ppyoloe-m", "ppyoloe-l", "ppyoloe-x", "ppyoloe-plus-m", "ppyoloe-plus-l", "ppyoloe-plus-x", "yolov3-spp")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PRESETS]
)
def test_every_preset_fits_in_a_file(tmp_path, name):
    config, file = PRESETS[name], tmp_path / f"{name}.safetensors"
    save_weights(file, build(config, 2), ModelCard(model=config, classes=("a", "b")))
    assert load_weights(file)[1].model == config


def test_a_full_disk_leaves_the_previous_file(path, detector, monkeypatch):
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=r"cannot be written: No space left on device; a file .* is unchanged"):
        save_weights(path, detector, CARD)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_created(tmp_path, detector):
    (tmp_path / "no").write_text("a file")
    with pytest.raises(ModelError, match=r"x\.safetensors: cannot be written"):
        save_weights(tmp_path / "no" / "x.safetensors", detector, CARD)


def test_a_fused_model_is_not_saved(tmp_path, detector):
    with pytest.raises(ModelError, match=r"not written: the network is not the one its card describes: .* missing"):
        save_weights(tmp_path / "x.safetensors", fuse(detector), CARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:0],
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: struct.pack("<Q", 2**62) + data[8:],
        lambda data: struct.pack("<Q", 90_000_000) + data[8:],
        lambda data: b"\x80\x02}q\x00." + data,
        lambda data: data[:8] + b"\xff" * 20 + data[28:],
    ],
    ids=["empty", "cut", "cut header", "absurd header", "long header", "pickle", "no JSON"],
)
def test_damaged_files_are_refused(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    for read in (load_weights, read_card, load_extra):
        with pytest.raises(ModelError, match=r"best\.safetensors: is damaged or no weights file") as error:
            read(path)
        assert "expected a .safetensors file written by 'falconet train'" in str(error.value)


def test_foreign_files_are_refused(path, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, foreign)
    with pytest.raises(ModelError, match=r"foreign\.safetensors: is a safetensors file without a Falconet descr"):
        load_weights(foreign)
    safetensors.torch.save_file(tensors, foreign, metadata={"falconet": '{"model": {"name": "nanodet-max"}}'})
    with pytest.raises(ModelError, match=r"its description cannot be read \(model: Input tag 'nanodet-max' found"):
        load_weights(foreign)
    safetensors.torch.save_file(tensors, foreign, metadata={"falconet": "{"})
    with pytest.raises(ModelError, match=r"its description cannot be read \(JSON: "):
        load_weights(foreign)
    tensors.pop("head.outputs.0.bias")
    safetensors.torch.save_file(tensors, foreign, metadata={"falconet": CARD.model_dump_json()})
    with pytest.raises(ModelError, match=r"do not fit its own description: 1 missing \(head\.outputs\.0\.bias\)"):
        load_weights(foreign)
    tensors["head.outputs.0.bias"] = torch.zeros(5)
    safetensors.torch.save_file(tensors, foreign, metadata={"falconet": CARD.model_dump_json()})
    with pytest.raises(ModelError, match=r"head\.outputs\.0\.bias has shape \[5\], expected \[35\]"):
        load_weights(foreign)


def test_what_a_path_means(path, tmp_path):
    assert find_weights(path) == path
    assert find_weights(tmp_path) == path
    last = tmp_path / "last.safetensors"
    path.rename(last)
    assert find_weights(tmp_path) == last
    last.unlink()
    with pytest.raises(ModelError, match=r"holds no weights; expected a run folder with best\.safetensors or last"):
        find_weights(tmp_path)
    with pytest.raises(ModelError, match="does not exist; expected a weights file"):
        find_weights(tmp_path / "nothing")
    with pytest.raises(ModelError, match="does not exist; expected a weights file"):
        load_weights(tmp_path / "nothing")


def test_transfer_to_the_same_model_takes_everything(detector):
    target = build(CONFIG, 3)
    report = transfer(target, detector.state_dict())
    assert (report.classes, report.fresh, report.unused) == ((), (), ())
    result = target.state_dict()
    for name, tensor in detector.state_dict().items():
        assert torch.equal(result[name], tensor)


@pytest.mark.parametrize("classes", [1, 5])
def test_transfer_to_other_classes_keeps_only_class_rows_fresh(detector, classes):
    torch.manual_seed(1)
    target = build(CONFIG, classes)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = transfer(target, detector.state_dict())
    assert report.classes == tuple(f"head.outputs.{n}.{kind}" for n in range(4) for kind in ("weight", "bias"))
    assert (report.fresh, report.unused) == ((), ())
    assert "another number of classes in 8 (head.outputs.0.weight, head.outputs.0.bias, ...)" in str(report)
    source = detector.state_dict()
    for name, tensor in target.state_dict().items():
        if name in report.classes:
            assert torch.equal(tensor[:classes], before[name][:classes])
            assert torch.equal(tensor[classes:], source[name][3:])
        else:
            assert torch.equal(tensor, source[name])


def test_transfer_between_models_reports_what_is_left(detector):
    other = CONFIG.model_copy(update={"neck": CONFIG.neck.model_copy(update={"extra_levels": 0})})
    report = transfer(build(other, 3), detector.state_dict())
    assert report.fresh == ()
    assert any(name.startswith("neck.extra_in.0") for name in report.unused)
    assert "of the source unused (neck.extra_in.0.depthwise.conv.weight, " in str(report)
    report = transfer(build(CONFIG, 3), build(other, 3).state_dict())
    assert any(name.startswith("head.outputs.3") for name in report.fresh)
    with pytest.raises(ModelError, match="no tensor of the source fits the model; expected weights of the same arch"):
        transfer(build(CONFIG, 3), {"net.weight": torch.zeros(3)})


def test_card_refuses_duplicate_classes():
    with pytest.raises(ValueError, match="class names must differ"):
        ModelCard(model=CONFIG, classes=("a", "a"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path, detector, value):
    state = detector.state_dict()
    name = "head.outputs.1.bias"
    with torch.no_grad():
        state[name][3] = value
    save_weights(path, detector, read_card(path))
    with pytest.raises(ModelError, match=rf"{name} holds numbers that are not finite"):
        load_weights(path)


def test_an_exported_file_is_no_weights_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(ModelError, match=r"m\.onnx: is exported already; expected the weights"):
        load_weights(tmp_path / "m.onnx")
