"""A whole training: it learns, it is the same each time, it writes what it should, it stops where it must."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from falconet import __version__
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.models import PRESETS, build
from falconet.models.norms import unmeasured
from falconet.models.weights import ModelCard, load_weights, save_weights
from falconet.training import fit
from falconet.training.initial import StartingPoint
from falconet.training.plan import (
    NEW_CLASSES_RATE,
    SCRATCH_RATE,
    TUNING_RATE,
    choose_precision,
    has_bfloat16,
    resolve_learning_rate,
    validate_every,
    warmup_steps,
)
from falconet.training.progress import Progress
from falconet.training.run_config import Train
from falconet.training.run_data import load_data, train_val_split
from falconet.training.run_folder import RunFolder
from tests.training.tiny import assert_same_weights, draw, tiny_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "first"))


class Witness:
    """A callback that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.losses: list[float] = []

    def start(self, progress: Progress, *, steps: int) -> None:
        self.told.append(f"start {progress.epochs} {steps} {progress.epoch}")

    def step(self, progress: Progress, *, step: int, loss: float) -> None:
        self.told.append(f"step {progress.epoch}/{progress.epochs} {step}")
        self.losses.append(loss)

    def epoch(self, metrics: dict[str, Any], progress: Progress) -> None:
        self.told.append(f"epoch {metrics['epoch']} {progress.fraction:.2f}")

    def stop(self) -> None:
        self.told.append("stop")


def test_the_folder_holds_everything(first: Path) -> None:
    names = {path.name for path in first.iterdir()}
    assert names == {
        "run.yaml",
        "best.safetensors",
        "last.safetensors",
        "state.ckpt",
        "metrics.jsonl",
        "tensorboard",
        "train.log",
    }
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"loss", "loss_class", "loss_box", "learning_rate", "AP", "AP50", "seconds", "data_wait"} <= set(lines[0])
    assert 0 <= lines[1]["data_wait"] <= 1
    assert lines[0]["loss"] == pytest.approx(sum(v for k, v in lines[0].items() if k.startswith("loss_")), rel=1e-4)
    log = (first / "train.log").read_text()
    for expected in (
        "data: 12 training pictures",
        "classes (boxes): disc (",
        "learning rate: 0.004 * sqrt(batch 4 / 8) = 0.00283; warm-up over 0 steps",
        "weights: from scratch",
        "model: nanodet-plus, 6 classes, 64 x 64 pixels; 0.16 M parameters, 2.75 M MACs (5.49 M FLOPs)",
        "epoch 1/2  loss",
        "0 loader workers",
        "done: 2 epochs in ",
    ):
        assert expected in log


def test_the_weights_rebuild_the_model(first: Path) -> None:
    detector, card = load_weights(first / "best.safetensors")
    assert card.classes == ("disc", "ring", "square", "triangle", "star", "cross")
    assert card.model.input.height == 64
    assert card.metrics["epoch"] in (1, 2)
    assert "AP50" in card.metrics
    assert not detector.training
    assert not any(name.startswith("extra.auxiliary") for name in load_file(first / "best.safetensors"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_weights_for_any_number_of_workers(data: Path, first: Path, tmp_path: Path, workers: int) -> None:
    torch.rand(7)  # what happened before in this process does not matter
    other = fit(tiny_run(data, tmp_path / "run", f"data.workers={workers}"))
    assert_same_weights(first / "last.safetensors", other / "last.safetensors")


def test_another_seed_gives_other_weights(data: Path, first: Path, tmp_path: Path) -> None:
    other = fit(tiny_run(data, tmp_path / "run", "seed=1", "train.epochs=1"))
    one, two = load_file(first / "last.safetensors"), load_file(other / "last.safetensors")
    assert any(not np.array_equal(values, two[name]) for name, values in one.items())


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    """Box terms are weighted by the network's own scores, so the loss first climbs with these."""
    witness = Witness()
    options = ["train.epochs=32", "augment.strength=0", "train.validate_every=100", "criterion.detach_epoch=0"]
    fit(tiny_run(data, tmp_path / "run", *options, "train.learning_rate=2e-2"), callback=witness)
    assert witness.told[0] == "start 32 3 0"
    assert witness.told[1:5] == ["step 0/32 1", "step 0/32 2", "step 0/32 3", "epoch 1 0.03"]
    assert witness.told[-2:] == ["epoch 32 1.00", "stop"]
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert ["AP" in line for line in lines] == [False] * 31 + [True]
    losses = [line["loss"] for line in lines]
    assert losses[-1] < 0.85 * max(losses)


def test_a_dropped_branch_is_left_alone(data: Path, tmp_path: Path) -> None:
    long = fit(tiny_run(data, tmp_path / "long", "train.epochs=3", "criterion.detach_epoch=1", "train.average_decay=0"))
    weights = load_file(long / "last.safetensors")
    short_options = ["train.epochs=3", "criterion.detach_epoch=1", "train.average_decay=0", "train.patience=1"]
    lines = [json.loads(line) for line in (long / "metrics.jsonl").read_text().splitlines()]
    assert ["loss_auxiliary_class" in line for line in lines] == [True, False, False]
    state = RunFolder(long).read_state()
    assert state is not None
    moved = [moments["step"].item() for moments in state["optimizer"]["state"].values()]
    assert set(moved) == {3.0, 9.0}  # steps taken by the parameters of the branch, and by all others
    kept = fit(tiny_run(data, tmp_path / "kept", *short_options[:3], "criterion.auxiliary=keep"))
    assert any(
        not np.array_equal(values, load_file(kept / "last.safetensors")[name])
        for name, values in weights.items()
        if name.startswith("extra.")
    )


class Failing(nn.Module):
    """A criterion whose terms go wrong in the second epoch."""

    def __init__(self, inner: nn.Module, *, spoil_gradient: bool) -> None:
        super().__init__()
        self.inner = inner
        self.spoil_gradient = spoil_gradient

    def forward(self, trace: Any, targets: Any, progress: Progress) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.inner(trace, targets, progress)
        if progress.epoch == 1 and self.spoil_gradient:
            zero = trace.raw.logits.sum() * 0
            terms["bad"] = zero.abs().sqrt()  # finite, but its slope at 0 is not
        elif progress.epoch == 1:
            terms["bad"] = terms["class"] * float("nan")
        return terms


@pytest.mark.parametrize("spoil_gradient", [False, True])
def test_a_loss_that_is_not_finite_stops_and_names_the_pictures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil_gradient: bool
) -> None:
    entry = sys.modules["falconet.training.initial"]
    original = entry.build_criterion
    monkeypatch.setattr(
        entry,
        "build_criterion",
        lambda *args, **options: Failing(original(*args, **options), spoil_gradient=spoil_gradient),
    )
    folder = tmp_path / "run"
    with pytest.raises(ModelError) as error:
        fit(tiny_run(data, folder, "train.precision=float32"))
    message = str(error.value)
    what = "the gradients are not finite" if spoil_gradient else "the loss is not finite ("
    assert message.startswith(f"epoch 2, step 4: {what}")
    assert sum(line.startswith(f"  {data}/train/") for line in message.splitlines()) == 4
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert load_weights(folder / "last.safetensors")[1].metrics["epoch"] == 1
    assert all(np.isfinite(values).all() for values in load_file(folder / "last.safetensors").values())


def test_a_picture_that_breaks_later_does_not_stop_the_run(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    path = sorted((data / "train").iterdir())[3]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\0" * 300 + b"\xff\xd9")
    folder = fit(tiny_run(data, tmp_path / "run"))
    log = (folder / "train.log").read_text()
    assert log.count(f"left out, training goes on: {path}") == 1
    assert "done: 2 epochs in " in log


def test_what_is_left_out_is_said_at_the_start(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    sorted((data / "train").iterdir())[0].unlink()
    folder = fit(tiny_run(data, tmp_path / "run", "train.epochs=1"))
    log = (folder / "train.log").read_text()
    assert "training data: 1 problem; what is concerned is left out or cut:" in log
    assert "data: 11 training pictures" in log


def test_patience(data: Path, tmp_path: Path) -> None:
    folder = fit(tiny_run(data, tmp_path / "run", "train.epochs=30", "train.patience=1", "train.learning_rate=1e-9"))
    log = (folder / "train.log").read_text()
    assert "stopped early: no better AP since epoch 1 (train.patience=1)" in log
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_fine_tuning_from_weights(data: Path, first: Path, tmp_path: Path) -> None:
    weights = (f"train.weights={first}", "train.learning_rate=auto")
    folder = fit(tiny_run(data, tmp_path / "run", *weights, "train.epochs=1"))
    log = (folder / "train.log").read_text()
    assert f"weights: {first}/best.safetensors: " in log
    assert "learning rate: 0.001 * sqrt" in log
    assert "measured anew" not in log
    assert "batch norms: 98 folded into the convolutions (train.norms)" in log
    assert "learning rate: 0.001 * sqrt" in log


def test_fine_tuning_measures_norms_that_were_folded_away(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "folded.safetensors"
    run = tiny_run(data, tmp_path / "run", "train.epochs=1", "train.norms=batch", f"train.weights={weights}")
    names = ("disc", "ring", "square", "triangle", "star", "cross")
    detector = build(run.model, len(names)).eval()
    assert unmeasured(detector)
    card = ModelCard(model=run.model, classes=names, falconet_version=__version__)
    save_weights(weights, detector, card)
    folder = fit(run)
    assert "measured anew on 256 training images" in (folder / "train.log").read_text()


def test_weights_of_other_classes(first: Path, tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    for split in ("train", "val"):
        path = data / f"{split}.json"
        path.write_text(path.read_text().replace('"ring"', '"tyre"'))
    options = [f"train.weights={first}", "train.epochs=1"]
    folder = fit(tiny_run(data, tmp_path / "run", *options))
    log = (folder / "train.log").read_text()
    assert "class outputs taken over by name: disc, square, triangle, star, cross" in log
    assert "classes new to these weights: tyre (class outputs start from the mean of all; the weights know" in log


def test_classes_of_the_run_file_are_known_to_the_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fit(tiny_run(data, tmp_path / "run", "data.classes=[disk, star]"))
    assert "disk not in" in str(error.value)
    assert "did you mean 'disc'?" in str(error.value)
    assert "  asked for: disk, star\n  data:      disc, ring, square, triangle, star, cross" in str(error.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="expected each name once"):
        load_data(tiny_run(data, tmp_path / "run", "data.classes=[disc, disc]").data)


def test_some_classes_of_the_data(data: Path, tmp_path: Path) -> None:
    whole = load_data(tiny_run(data, tmp_path / "run").data)
    some = load_data(tiny_run(data, tmp_path / "run", "data.classes=[star, ring]").data)
    assert some.names == ("star", "ring")
    old = [whole.names.index(name) for name in some.names]
    for before, after in zip(whole.train + whole.val, some.train + some.val, strict=True):
        keep = np.isin(before.labels, old)
        np.testing.assert_array_equal(after.boxes, before.boxes[keep])
        np.testing.assert_array_equal(np.array(old)[after.labels], before.labels[keep])
    gone = sum(int((~np.isin(record.labels, old)).sum()) for record in whole.train)
    assert gone > 0
    (note,) = (note for note in some.notes if note.startswith("data.classes"))
    assert note.startswith(
        f"data.classes: {gone} training boxes of other classes left out (disc, square, triangle, cross)"
    )


def test_a_validation_set_may_know_more_than_the_classes_that_are_learnt(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    path = data / "val.json"
    path.write_text(path.read_text().replace('"disc"', '"wheel"'))
    run = tiny_run(data, tmp_path / "run", "data.classes=[ring, star]")
    assert load_data(run.data).names == ("ring", "star")


def test_validation_classes_are_matched_by_name(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    path = data / "val.json"
    tree = json.loads(path.read_text())
    swapped = {"disc": "ring", "ring": "disc"}
    for category in tree["categories"]:
        category["name"] = swapped.get(category["name"], category["name"])
    for annotation in tree["annotations"]:
        annotation["category_id"] = {1: 2, 2: 1}.get(annotation["category_id"], annotation["category_id"])
    before = load_data(tiny_run(data, tmp_path / "run").data)
    path.write_text(json.dumps(tree))
    after = load_data(tiny_run(data, tmp_path / "run").data)
    for one, other in zip(before.val, after.val, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    tree["categories"][0]["name"] = "wheel"
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="its classes do not fit those of the training data: wheel not in it"):
        load_data(tiny_run(data, tmp_path / "run").data)


def test_a_part_is_set_aside_for_validation(data: Path, tmp_path: Path) -> None:
    run = tiny_run(data, tmp_path / "run", "data.val=null", "data.val_fraction=0.25")
    loaded = load_data(run.data)
    assert (len(loaded.train), len(loaded.val)) == (9, 3)
    assert not {r.image_id for r in loaded.train} & {r.image_id for r in loaded.val}
    assert [r.image_id for r in loaded.val] == [r.image_id for r in load_data(run.data).val]
    assert "no data.val given; 3 of 12 pictures are set aside" in loaded.notes[0]
    assert [len(part) for part in train_val_split(loaded.train[:2], fraction=0.01)] == [1, 1]
    assert train_val_split(loaded.train[:1], fraction=0.5)[1] == ()


def test_nothing_to_learn(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    tree = json.loads((data / "train.json").read_text())
    crowds = [annotation | {"iscrowd": 1} for annotation in tree["annotations"]]
    (data / "train.json").write_text(json.dumps(tree | {"annotations": crowds}))
    with pytest.raises(DataError, match=r"so there is nothing to learn\n(.*\n)*.*crowd"):
        fit(tiny_run(data, tmp_path / "run"))
    (data / "train.json").write_text(json.dumps(tree | {"annotations": []}))
    with pytest.raises(DataError, match="no training picture has a box that counts, so there is nothing to learn"):
        fit(tiny_run(data, tmp_path / "run"))


def test_few_known_classes_take_a_higher_rate(first: Path, tmp_path: Path) -> None:
    weights = first / "best.safetensors"
    _, card = load_weights(weights)
    start = StartingPoint(card.model, weights)
    assert start.rate(card.model, card.classes) == TUNING_RATE
    assert start.rate(card.model, ("disc", "tyre")) == TUNING_RATE, "half of them"
    assert start.rate(card.model, ("disc", "tyre", "wheel")) == NEW_CLASSES_RATE
    assert StartingPoint(card.model, None).rate(card.model, card.classes) == SCRATCH_RATE
    other = PRESETS["ppyoloe-plus-t-320"]
    save_weights(tmp_path / "other.safetensors", build(other, 2), ModelCard(model=other, classes=("a", "b")))
    start = StartingPoint(other, tmp_path / "other.safetensors")
    assert start.rate(other, ("c", "d")) == TUNING_RATE, "it was not measured there"


def test_rates_by_hand() -> None:
    rate = resolve_learning_rate(Train(), batch_size=4, usual=SCRATCH_RATE)
    assert rate.peak == pytest.approx(2e-3)
    assert rate.origin == "0.004 * sqrt(batch 4 / 16) = 0.002"
    assert resolve_learning_rate(Train(), batch_size=16, usual=TUNING_RATE).peak == 1e-3
    assert resolve_learning_rate(Train(), batch_size=64, usual=SCRATCH_RATE) == (
        4e-3,
        "0.004 * sqrt(batch 64 / 16) = 0.008, at most 0.004",
    )
    assert resolve_learning_rate(Train(learning_rate=0.01), batch_size=64, usual=SCRATCH_RATE).peak == 0.02, (
        "as asked for"
    )
    as_given = Train(reference_batch=None, learning_rate=0.01)
    assert resolve_learning_rate(as_given, batch_size=2, usual=TUNING_RATE) == (0.01, "0.01 as given")
    assert [warmup_steps(Train(), total_steps=total) for total in (1200, 30_000, None)] == [120, 500, 500]
    assert warmup_steps(Train(warmup_steps=7), total_steps=None) == 7
    assert [validate_every(Train(), epochs=epochs) for epochs in (5, 100, 300)] == [1, 2, 6]


def test_precision_follows_the_processor(tmp_path: Path) -> None:
    assert choose_precision("float32", device="cpu") == ("float32", "as given")
    path = tmp_path / "cpuinfo"
    path.write_text("model name : x\nflags\t: fpu avx512_bf16 amx_tile\n")
    assert has_bfloat16(path)
    path.write_text("flags\t: fpu avx2\n")
    assert not has_bfloat16(path)
    assert not has_bfloat16(tmp_path / "absent")
