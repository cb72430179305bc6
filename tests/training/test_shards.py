"""Training from tars: an order of shards and buffer that the seed decides, shared by processes, resumed exactly."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from falconet.core.errors import ConfigError, DataError
from falconet.core.manifest import Preprocess
from falconet.core.types import Record
from falconet.data.augment import Augment
from falconet.data.formats import open_dataset
from falconet.data.shards import read_shards
from falconet.data.write_shards import write_shards
from falconet.training import fit, read_run, resume
from falconet.training.loader import Loader, make_dataset
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from falconet.training.run_data import load_data
from falconet.training.shard_order import Shards
from tests.training.test_loader import assert_equal, epochs
from tests.training.tiny import MODEL, assert_same_weights, draw


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"), train=14, val=5)


@pytest.fixture(scope="module")
def shards(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("falconet.data.write_shards._BYTES", 1 << 14)
        write_shards({split: open_dataset(drawn / f"{split}.json") for split in ("train", "val")}, folder, shard_mb=1)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "shard-cache"))


def from_shards(shards: Path, *overrides: str) -> list[str]:
    return [f"data.train.shards={shards}/train-*.tar", f"data.val.shards={shards}/val-*.tar", *overrides]


def records(shards: Path) -> tuple[Sequence[Record], Sequence[Record]]:
    train, val = (read_shards([f"{shards}/{split}-*.tar"]).records for split in ("train", "val"))
    return train, val


def loader(
    shards: Path,
    *,
    seed: int = 3,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    buffer: int = 4,
    mosaic: float = 0,
) -> Loader:
    dataset = make_dataset(
        *records(shards),
        preprocess=Preprocess(height=64, width=64),
        augmentation=Augment(mosaic=mosaic),
        seed=seed,
        cache_mb=1,
        workers=workers,
        shuffle_buffer=buffer,
    )
    return Loader(dataset, batch_size=4, workers=workers, rank=rank, processes=processes)


def seen(one: Loader, epoch: int = 0) -> list[int]:
    one.epoch = epoch
    return [int(index) for batch in one for index in batch.indices]


def test_the_order_is_of_shards_and_of_a_buffer() -> None:
    starts = np.arange(0, 2001, 100)
    for buffer in (1, 7, 300, 5000):
        order = Shards(starts, buffer).order(np.random.default_rng(0))
        assert sorted(order.tolist()) == list(range(2000))
        # A picture goes out after it came in, and no more than the buffer's pictures are ahead of it.
        came = np.empty(2000, np.int64)
        came[np.concatenate([np.arange(s * 100, s * 100 + 100) for s in np.random.default_rng(0).permutation(20)])] = (
            np.arange(2000)
        )
        assert (came[order] < np.arange(2000) + min(buffer, 2000)).all()
    assert (np.diff(Shards(starts, 1).order(np.random.default_rng(0))) == 1).sum() == 1980
    whole = Shards(starts, 5000).order(np.random.default_rng(0))
    assert (np.diff(whole) == 1).sum() < 10
    shards = Shards(starts, 50)
    order = shards.order(np.random.default_rng(1))
    place = {int(index): step for step, index in enumerate(order)}
    for step in (0, 20, 1000, 1999):
        near = [place[index] for index in shards.near(order, step, 200, np.random.default_rng(2))]
        assert max(near) - min(near) < 50
        assert min(near) <= step <= max(near) + 25


def test_the_seed_and_the_epoch_decide_the_order(shards: Path) -> None:
    assert len(list(shards.glob("train-*.tar"))) > 3
    first = seen(loader(shards))
    assert len(set(first)) == len(first) == 12
    assert seen(loader(shards)) == seen(loader(shards, workers=2)) == first
    assert seen(loader(shards, seed=4)) != first
    assert seen(loader(shards), epoch=1) != first
    assert seen(loader(shards, buffer=1)) != first


def test_batches_do_not_depend_on_workers_and_mosaic_draws_from_the_buffer(shards: Path) -> None:
    one = loader(shards, mosaic=1.0)
    assert_equal(epochs(one, 2), epochs(loader(shards, mosaic=1.0, workers=2), 2))
    (request, *_), *_ = one._requests(range(one.steps))
    assert len(request.others) == 3
    plain = loader(shards, mosaic=1.0)
    plain.with_mosaic = False
    assert not any(torch.equal(a.pixels, b.pixels) for a, b in zip(one, plain, strict=True))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_two_processes_see_each_picture_once(shards: Path, mosaic: float) -> None:
    whole = list(loader(shards, mosaic=mosaic))
    shares = [list(loader(shards, rank=rank, processes=2, mosaic=mosaic)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        together = torch.stack([shares[0][step].indices, shares[1][step].indices], 1).flatten()
        assert torch.equal(together, batch.indices)
        pixels = torch.stack([shares[0][step].pixels, shares[1][step].pixels], 1).flatten(0, 1)
        assert torch.equal(pixels, batch.pixels)
    assert len({int(index) for share in shares for batch in share for index in batch.indices}) == 12


def test_run_files_and_overrides(drawn: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shards.parent)
    names = [f"shards/{path.name}" for path in sorted(shards.glob("train-*.tar"))]
    pattern = f"shards/train-{{000000..{len(names) - 1:06d}}}.tar"
    run = tmp_path / "run.yaml"
    run.write_text(
        f"model: {{name: nanodet-plus}}\ndata:\n  train: {{annotations: {drawn}/train.json, split: train}}\n"
    )
    for overrides, expected in {
        (f"data.train.shards={pattern}",): (pattern,),
        tuple(f"data.train.shards={name}" for name in names): tuple(names),  # as a shell writes the braces out
        ('data.train.shards=["shards/train-000000.tar"]',): ("shards/train-000000.tar",),
    }.items():
        source = read_run(run, overrides).data.train
        assert (source.shards, source.annotations, source.split) == (expected, None, None)
    absolute = read_run(run, [f"data.train.shards={pattern}"]).absolute().data.train
    assert absolute.shards == (f"{shards.parent}/{pattern}",)
    assert len(load_data(read_run(run, [f"data.train={pattern}"]).data).names) == 6
    with pytest.raises(ConfigError, match=r"data\.train: shards hold pictures and boxes; expected neither annotations"):
        read_run(run, ["data.train={shards: a.tar, images: b}"])
    with pytest.raises(ConfigError, match=r"data\.val: names no data; expected annotations, or shards"):
        read_run(run, ["data.val={split: val}"])
    run.write_text("model: {name: nanodet-plus}\ndata:\n  train: {shards: a.tar}\n")
    assert read_run(run, []).data.train.shards == ("a.tar",)
    assert read_run(run, ["data.train.annotations=x.json"]).data.train.shards is None


def test_data_of_the_folder_of_shards(shards: Path) -> None:
    run = read_run("nanodet-plus-demo", [f"data={shards}"])
    data = load_data(run.data)
    assert (len(data.train), len(data.val), len(data.names)) == (14, 5, 6)
    aside = load_data(read_run("nanodet-plus-demo", [f"data.train.shards={shards}/train-*.tar"]).data)
    assert (len(aside.train), len(aside.val)) == (12, 2)


def test_a_classifier_is_told_that_shards_hold_boxes(shards: Path) -> None:
    run = read_run("mobilenet-v4-conv-s", from_shards(shards))
    with pytest.raises(ConfigError, match="shards hold boxes, but a classifier learns from a folder of one folder"):
        load_data(run.data, image_level_labels=True)


class InSecondEpoch(NullCallback):
    """Ctrl-C in the second epoch."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 1:
            raise KeyboardInterrupt


SHARDED = ["augment.mosaic=0.5", "data.shuffle_buffer=4", "train.epochs=2"]


def run_of(shards: Path, folder: Path, *overrides: str) -> list[str]:
    own = ["train.batch_size=4", "data.workers=0", f"output={folder}", *SHARDED, *overrides]
    return [*MODEL, *from_shards(shards), *own]


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same_run(shards: Path, tmp_path: Path) -> None:
    whole = fit(read_run("nanodet-plus-demo", run_of(shards, tmp_path / "whole")))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    with pytest.raises(KeyboardInterrupt):
        fit(read_run("nanodet-plus-demo", run_of(shards, tmp_path / "cut")), callback=InSecondEpoch())
    resume(tmp_path / "cut")
    assert_same_weights(tmp_path / "cut" / "last.safetensors", whole / "last.safetensors")


@pytest.mark.slow
def test_workers_and_another_seed(shards: Path, tmp_path: Path) -> None:
    whole, workers, other = (
        fit(read_run("nanodet-plus-demo", run_of(shards, tmp_path / name, *own)))
        for name, own in {"whole": (), "workers": ("data.workers=2",), "other": ("seed=1",)}.items()
    )
    assert_same_weights(whole / "last.safetensors", workers / "last.safetensors")
    with pytest.raises(AssertionError):
        assert_same_weights(whole / "last.safetensors", other / "last.safetensors")


@pytest.mark.slow
def test_two_devices_train_from_shards(shards: Path, tmp_path: Path) -> None:
    folder = fit(read_run("nanodet-plus-demo", run_of(shards, tmp_path / "two", "train.devices=2", "train.epochs=1")))
    assert "cpu x 2" in (folder / "train.log").read_text()


def test_a_tar_that_breaks_off_stops_the_run_before_it_begins(shards: Path, tmp_path: Path) -> None:
    data = (shards / "train-000000.tar").read_bytes()
    bad = tmp_path / "train-000000.tar"
    bad.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"train-000000\.tar: is cut off: it has [\d,]+ bytes"):
        fit(read_run("nanodet-plus-demo", run_of(shards, tmp_path / "run", f"data.train.shards={bad}")))
    assert not (tmp_path / "run" / "state.ckpt").exists()
