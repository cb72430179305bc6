"""Loader: the same batches for any number of workers, every picture once, broken pictures replaced."""

from pathlib import Path

import numpy as np
import pytest
import torch

from falconet.core.errors import DataError
from falconet.core.images import read_image
from falconet.core.manifest import Preprocess
from falconet.core.resize import resize
from falconet.core.types import Record
from falconet.data.augment import Augment
from falconet.data.formats import open_dataset
from falconet.training.batch import Batch
from falconet.training.loader import (
    ImageCache,
    Loader,
    default_workers,
    epoch_order,
    input_sizes,
    make_dataset,
)
from tests.training.tiny import draw


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], list[Record]]:
    folder = draw(tmp_path_factory.mktemp("drawn"), train=10, val=5)
    return tuple(list(open_dataset(folder / f"{split}.json").records) for split in ("train", "val"))  # type: ignore[return-value]


def make(
    records: tuple[list[Record], list[Record]],
    *,
    workers: int = 0,
    mosaic: float = 0.5,
    cache_mb: int = 64,
    rank: int = 0,
    processes: int = 1,
    batch_size: int = 4,
    multi_scale: tuple[float, float] | None = None,
) -> Loader:
    dataset = make_dataset(
        *records,
        preprocess=Preprocess(height=64, width=64),
        augmentation=Augment(mosaic=mosaic),
        seed=3,
        cache_mb=cache_mb,
        workers=workers,
        multi_scale=multi_scale,
    )
    return Loader(dataset, batch_size=batch_size, workers=workers, rank=rank, processes=processes)


def epochs(loader: Loader, count: int) -> list[Batch]:
    batches = []
    for epoch in range(count):
        loader.epoch = epoch
        batches += list(loader)
        batches += list(loader.validation(batch_size=3))
    return batches


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.indices, other.indices)
        assert one.placements == other.placements
        for values, others in zip(one.targets, other.targets, strict=True):
            assert (values is None and others is None) or torch.equal(values, others)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers(records: tuple[list[Record], list[Record]], workers: int) -> None:
    assert_equal(epochs(make(records), 3), epochs(make(records, workers=workers), 3))


def test_batches_do_not_depend_on_the_cache_nor_on_earlier_epochs(records: tuple[list[Record], list[Record]]) -> None:
    cached = epochs(make(records), 3)
    assert_equal(cached, epochs(make(records, cache_mb=0), 3))
    late = make(records)
    late.epoch = 2
    assert_equal(cached[-4:-2], list(late))


def test_an_epoch_shows_pictures_once_in_an_order_of_its_own(records: tuple[list[Record], list[Record]]) -> None:
    loader = make(records)
    assert loader.steps == 2
    seen = [[int(i) for batch in (setattr(loader, "epoch", e) or list(loader)) for i in batch.indices] for e in (0, 1)]
    assert all(len(set(order)) == 8 for order in seen)
    assert seen[0] != seen[1]
    assert seen[0] == epoch_order(10, seed=3, epoch=0)[:8].tolist()


def test_processes_share_each_batch(records: tuple[list[Record], list[Record]]) -> None:
    whole = list(make(records))
    shares = [list(make(records, rank=rank, processes=2)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        together = torch.stack([shares[0][step].indices, shares[1][step].indices], 1).flatten()
        assert torch.equal(together, batch.indices)
    seen = [
        int(i)
        for rank in (0, 1)
        for batch in make(records, rank=rank, processes=2).validation(batch_size=2)
        for i in batch.indices
    ]
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_fewer_pictures_than_a_batch(records: tuple[list[Record], list[Record]]) -> None:
    loader = make(records, batch_size=64)
    assert (loader.batch_size, loader.steps) == (10, 1)
    (batch,) = loader
    assert sorted(batch.indices.tolist()) == list(range(10))
    with pytest.raises(DataError, match="1 training pictures cannot be shared by 2 devices"):
        make((records[0][:1], records[1]), processes=2)


def test_validation_is_what_the_runtime_sees(records: tuple[list[Record], list[Record]]) -> None:
    loader = make(records)
    for _ in range(2):  # from the file, then from the cache
        (batch,) = loader.validation(batch_size=8)
        for row, record in enumerate(records[1]):
            image, original = read_image(record.path, at_least=(64, 64))
            pixels, placement = resize(image, Preprocess(height=64, width=64), original=original)
            np.testing.assert_array_equal(batch.pixels[row].numpy(), pixels)
            assert batch.placements[row] == placement


def broken(records: list[Record], index: int, folder: Path) -> list[Record]:
    path = folder / "broken.jpg"
    data = records[index].path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" * 200 + b"\xff\xd9")
    record = records[index]
    replaced = Record(record.image_id, path, record.width, record.height, record.boxes, record.labels, record.crowd)
    return [*records[:index], replaced, *records[index + 1 :]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_replaced_by_the_next(
    records: tuple[list[Record], list[Record]], tmp_path: Path, workers: int
) -> None:
    train = broken(records[0], 4, tmp_path)
    loader = make((train, broken(records[1], 1, tmp_path)), workers=workers, mosaic=0, batch_size=10)
    (batch,) = loader
    assert len(batch.indices) == 10
    assert len(batch.problems) == 1
    assert str(tmp_path / "broken.jpg") in batch.problems[0]
    (validation,) = loader.validation(batch_size=8)
    assert validation.indices.tolist() == [0, 2, 3, 4]
    assert len(validation.problems) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_no_readable_picture_at_all(records: tuple[list[Record], list[Record]], tmp_path: Path, workers: int) -> None:
    train = broken(records[0], 0, tmp_path)[:1] * 3
    with pytest.raises(DataError) as error:
        list(make((train, records[1]), workers=workers))
    assert str(error.value).startswith("no training picture can be read; the first problem: ")
    assert "Traceback" not in str(error.value)


def test_crowd_boxes_do_not_teach(records: tuple[list[Record], list[Record]]) -> None:
    train = [
        Record(r.image_id, r.path, r.width, r.height, r.boxes, r.labels, np.ones(len(r.boxes), bool))
        for r in records[0]
    ]
    assert all(not batch.targets.mask.any() for batch in make((train, records[1])))


def test_the_cache_stops_at_its_limit() -> None:
    cache = ImageCache(100)
    cache.put("train", 0, np.zeros((5, 5, 3), np.uint8), (5, 5))
    cache.put("train", 1, np.zeros((5, 5, 3), np.uint8), (5, 5))
    cache.put("val", 0, np.zeros((2, 2, 3), np.uint8), (2, 2))
    assert cache.get("train", 0) is not None
    assert cache.get("train", 1) is None
    assert cache.get("val", 0) is not None
    assert cache.free == 13


def test_workers_leave_a_core_to_the_training() -> None:
    assert default_workers(devices=10_000) == 0
    assert 0 <= default_workers(devices=1) <= 8


def test_sizes_by_hand() -> None:
    square = Preprocess(height=640, width=640)
    assert input_sizes(square, (0.5, 1.2)) == tuple((side, side) for side in range(320, 769, 32))  # as published
    wide = Preprocess(height=96, width=192)
    assert input_sizes(wide, (0.5, 1)) == ((64, 128), (96, 192))
    assert input_sizes(Preprocess(height=64, width=64), (0.1, 0.1)) == ((32, 32),)


def test_batches_of_several_sizes_are_the_same_for_any_number_of_workers(
    records: tuple[list[Record], list[Record]],
) -> None:
    first = epochs(make(records, multi_scale=(0.5, 2)), 3)
    assert_equal(first, epochs(make(records, workers=2, multi_scale=(0.5, 2)), 3))
    training = [batch for batch in first if not batch.placements]
    sizes = {tuple(batch.pixels.shape[1:3]) for batch in training}
    assert len(sizes) > 1
    assert sizes <= {(32, 32), (64, 64), (96, 96), (128, 128)}
    assert all(tuple(batch.pixels.shape[1:3]) == (64, 64) for batch in first if batch.placements)
    for batch in training:
        assert batch.targets.boxes.max() <= batch.pixels.shape[1]


def test_processes_agree_on_the_size_of_a_batch(records: tuple[list[Record], list[Record]]) -> None:
    shares = [list(make(records, multi_scale=(0.5, 2), rank=rank, processes=2)) for rank in range(2)]
    for one, other in zip(*shares, strict=True):
        assert one.pixels.shape == other.pixels.shape


def test_mosaics_end_within_an_epoch(records: tuple[list[Record], list[Record]]) -> None:
    whole, never, changing = (make(records, mosaic=1.0) for _ in range(3))
    never.with_mosaic = False
    batches = []
    for batch in changing:
        batches.append(batch)
        changing.with_mosaic = False
    assert torch.equal(batches[0].pixels, next(iter(whole)).pixels)
    assert not torch.equal(batches[1].pixels, list(whole)[1].pixels)
    assert torch.equal(batches[1].pixels, list(never)[1].pixels)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cancelled_epoch_leaves_the_validation_whole(
    records: tuple[list[Record], list[Record]], workers: int
) -> None:
    loader = make(records, workers=workers)
    assert len(next(iter(loader)).indices) == 4
    loader.cancel()
    assert [len(batch.indices) for batch in loader] == [0, 0]
    seen = [index for batch in loader.validation(batch_size=2) for index in batch.indices.tolist()]
    assert seen == [0, 1, 2, 3, 4]


def test_a_shuffled_validation_is_the_same_each_time(records: tuple[list[Record], list[Record]]) -> None:
    orders = [
        [index for batch in make(records).validation(batch_size=2, shuffled=True) for index in batch.indices.tolist()]
        for _ in range(2)
    ]
    assert orders[0] == orders[1] != [0, 1, 2, 3, 4]
    assert sorted(orders[0]) == [0, 1, 2, 3, 4]
