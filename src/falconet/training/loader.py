"""From records to batches, in worker processes, in an order and with chances that only the seed decides.

The generator of each sample comes from (seed, epoch, index), the order of an epoch from (seed, epoch): batches are
the same for any number of workers. One pool of workers serves training and validation.
"""

import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from falconet.core.cpus import usable_cpus
from falconet.core.errors import DataError, ProcessError
from falconet.core.images import read_image
from falconet.core.manifest import Preprocess
from falconet.core.resize import halved, resize
from falconet.core.types import Pixels, Placement, Record, Sample
from falconet.data.augment import Augment, augment
from falconet.data.mosaic import mosaic
from falconet.training.batch import Batch, pad_targets
from falconet.training.shard_order import Shards

Split = Literal["train", "val"]

_ORDER, _SAMPLE, _SIZE, _OTHERS = 0, 1, 3, 4
"""Streams of chance: the order of an epoch, the augmentation of a sample, the size of a batch and what joins a sample
of a shard never share numbers (2 belongs to the networks)."""

SIZE_STEP = 32
"""Pixels between the input sizes of multi-scale training: the stride of the coarsest usual level."""


class SampleRequest(NamedTuple):
    """One sample that a worker is asked to make."""

    split: Split
    epoch: int
    index: int
    with_mosaic: bool
    size: tuple[int, int] | None = None
    """(height, width) of the network input; None: the model's."""
    others: tuple[int, ...] = ()
    """What joins it in a mosaic; none: any pictures."""


class LoadedSample(NamedTuple):
    """What a worker made of a request."""

    index: int
    sample: Sample | None
    placement: Placement | None
    problems: tuple[str, ...]


class ImageCache:
    """Decoded pictures, as many as fit into a number of bytes; what came first stays."""

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._kept: dict[tuple[Split, int], tuple[Pixels, tuple[int, int]]] = {}

    def get(self, split: Split, index: int) -> tuple[Pixels, tuple[int, int]] | None:
        """Picture and (height, width) of the original, or None."""
        return self._kept.get((split, index))

    def put(self, split: Split, index: int, image: Pixels, original: tuple[int, int]) -> None:
        """Keep the picture if there is room; it must not be changed afterwards."""
        if image.nbytes <= self.free:
            self.free -= image.nbytes
            self._kept[split, index] = image, original


@dataclass(frozen=True)
class TrainDataset(Dataset[LoadedSample]):
    """Samples by request.

    Attributes:
        train, val: records.
        preprocess: of the network input.
        augmentation: ranges of the augmentation.
        seed: of the run.
        cache: of this process; workers get their own copy.
        image_level_labels: a label stands for the whole picture: it holds whatever augmentation leaves of it.
        sizes: (height, width) of the network input that training batches may have; none: the model's.
        shards: of the training pictures, where they lie in some.
        cancelled: shared with the workers; where it holds True, training samples come empty.
    """

    train: Sequence[Record]
    val: Sequence[Record]
    preprocess: Preprocess
    augmentation: Augment
    seed: int
    cache: ImageCache
    image_level_labels: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    shards: Shards | None = None
    cancelled: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool).share_memory_())

    def __getitem__(self, key: SampleRequest) -> LoadedSample:
        """The sample of a request. Unreadable training pictures are replaced by the next readable ones."""
        problems: list[str] = []
        if key.split == "val":
            return self._validation(key.index)
        if self.cancelled:
            return LoadedSample(key.index, None, None, ())
        rng = np.random.default_rng([self.seed, _SAMPLE, key.epoch, key.index])
        rule = self.preprocess
        if key.size is not None:
            rule = replace(rule, height=key.size[0], width=key.size[1])
        sample = self._decoded(key.index, problems)
        if key.with_mosaic and rng.uniform() < self.augmentation.mosaic:
            drawn = key.others or rng.integers(len(self.train), size=3).tolist()
            others = [self._decoded(index, problems) for index in drawn]
            made = mosaic([sample, *others], self.augmentation, rule, rng)
        else:
            made = augment(sample, self.augmentation, rule, rng)
        if self.image_level_labels:
            everything = np.array([[0, 0, rule.width, rule.height]], np.float32)
            made = Sample(made.image, everything, sample.labels)
        return LoadedSample(key.index, made, None, tuple(problems))

    def _decoded(self, index: int, problems: list[str]) -> Sample:
        for step in range(len(self.train)):
            position = (index + step) % len(self.train)
            record = self.train[position]
            try:
                image, (height, width) = self._read("train", position, record)
            except DataError as error:
                problems.append(str(error))
                continue
            factor = np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
            boxes, counted = record.boxes * factor, ~record.crowd
            return Sample(image, boxes[counted], record.labels[counted], boxes[record.crowd])
        raise DataError(f"no training picture can be read; the first problem: {problems[0]}")

    def _read(self, split: Split, index: int, record: Record) -> tuple[Pixels, tuple[int, int]]:
        """The picture no larger than the strongest zoom needs, whether it comes from the cache or not."""
        kept = self.cache.get(split, index)
        if kept is None:
            zoom = self.augmentation.largest_zoom()
            height, width = np.max([(self.preprocess.height, self.preprocess.width), *self.sizes], axis=0)
            needed = (int(np.ceil(height * zoom)), int(np.ceil(width * zoom)))
            image, original = read_image(record.path, at_least=needed)
            kept = halved(image, at_least=needed), original
            self.cache.put(split, index, *kept)
        return kept

    def _validation(self, index: int) -> LoadedSample:
        """Exactly what the runtime feeds the network: same decoding, same fit."""
        rule = self.preprocess
        record = self.val[index]
        kept = self.cache.get("val", index)
        try:
            image, original = kept or read_image(record.path, at_least=(rule.height, rule.width))
        except DataError as error:
            return LoadedSample(index, None, None, (str(error),))
        fitted, placement = resize(image, rule, original=original)
        if kept is None and image.nbytes <= 2 * fitted.nbytes:
            self.cache.put("val", index, image, original)
        return LoadedSample(index, Sample(fitted, record.boxes[:0], record.labels[:0]), placement, ())


def collate(loaded: Sequence[LoadedSample]) -> Batch:
    """Samples of the network's size as one batch. Validation pictures that could not be read are left out."""
    problems = tuple(problem for one in loaded for problem in one.problems)
    made = [(one.index, one.sample, one.placement) for one in loaded if one.sample is not None]
    if not made:
        empty = torch.zeros(0, 0, 0, 3, dtype=torch.uint8)
        return Batch(empty, pad_targets([], []), torch.zeros(0, dtype=torch.int64), (), problems)
    return Batch(
        pixels=torch.from_numpy(np.stack([sample.image for _, sample, _ in made])),
        targets=pad_targets(
            [sample.boxes for _, sample, _ in made],
            [sample.labels for _, sample, _ in made],
            [sample.ignored for _, sample, _ in made],
        ),
        indices=torch.tensor([index for index, _, _ in made], dtype=torch.int64),
        placements=tuple(placement for _, _, placement in made if placement is not None),
        problems=problems,
    )


def input_sizes(preprocess: Preprocess, scales: tuple[float, float]) -> tuple[tuple[int, int], ...]:
    """(height, width) of every network input between scales[0] and scales[1] times the model's.

    The shorter side goes in steps of `SIZE_STEP` pixels, the longer one along with it; both are multiples of it.
    """
    sides = (preprocess.height, preprocess.width)
    steps = min(sides) / SIZE_STEP
    smallest, largest = (max(1, round(scale * steps)) for scale in scales)

    def side(of: int, step: int) -> int:
        return max(1, round(of / min(sides) * step)) * SIZE_STEP

    return tuple((side(sides[0], step), side(sides[1], step)) for step in range(smallest, largest + 1))


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees `count` pictures."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def default_workers(*, devices: int) -> int:
    """Worker processes per device: half of the cores, at most eight; none where there is a single core."""
    return min(8, usable_cpus() // 2 // devices)


class _Queue:
    """The batches to load next. The data loader asks for them as its workers get free, and anew when it starts over."""

    def __init__(self) -> None:
        self.batches: Iterable[list[SampleRequest]] = []

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        return iter(self.batches)


class Loader:
    """Batches of training epochs and of the validation, for one of several processes.

    Args:
        dataset: where samples come from.
        batch_size: pictures per step over all processes.
        workers: processes that read; 0 reads in this one.
        rank, processes: which share of each batch is loaded here.

    Attributes:
        epoch: which epoch iterating yields; set before each.
        with_mosaic: whether samples that are asked for from now on may join pictures.
        steps: batches per epoch. Pictures that do not fill a batch sit out, others in each epoch.
        waited: seconds spent waiting for training batches since it was last set to 0.
    """

    def __init__(
        self, dataset: TrainDataset, *, batch_size: int, workers: int, rank: int = 0, processes: int = 1
    ) -> None:
        count = len(dataset.train)
        if count < processes:
            raise DataError(f"{count} training pictures cannot be shared by {processes} devices")
        self.dataset = dataset
        self.batch_size = min(batch_size, count - count % processes)
        self.steps = count // self.batch_size
        self.epoch = 0
        self.with_mosaic = True
        self.waited = 0.0
        self._rank, self._processes = rank, processes
        self._queue = _Queue()
        self._batches = DataLoader(
            dataset,
            batch_sampler=self._queue,  # type: ignore[arg-type]  # keys stand in for integers
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            generator=torch.Generator(),
            multiprocessing_context=_start_method() if workers else None,
        )

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """The epoch's batches. The epoch is looked up with the first batch, not when the iterator is made."""
        return self._training(range(self.steps))

    def first(self, steps: int) -> Iterator[Batch]:
        """The epoch's first batches, from the start again when there are fewer."""
        return self._training([step % self.steps for step in range(steps)])

    def _training(self, steps: Sequence[int]) -> Iterator[Batch]:
        batches = self._load(self._requests(steps))
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _requests(self, steps: Sequence[int]) -> Iterator[list[SampleRequest]]:
        data, sizes = self.dataset, self.dataset.sizes
        order = (
            epoch_order(len(data.train), seed=data.seed, epoch=self.epoch)
            if data.shards is None
            else data.shards.order(np.random.default_rng([data.seed, _ORDER, self.epoch]))
        )
        joins = data.shards is not None and self.with_mosaic and data.augmentation.mosaic > 0
        for step in steps:
            size = None
            if sizes:
                draw = np.random.default_rng([self.dataset.seed, _SIZE, self.epoch, step])
                size = sizes[int(draw.integers(len(sizes)))]
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            share = chosen[self._rank :: self._processes]
            places = range(step * self.batch_size + self._rank, (step + 1) * self.batch_size, self._processes)
            yield [
                SampleRequest(
                    "train", self.epoch, int(index), self.with_mosaic, size, self._near(order, place) if joins else ()
                )
                for index, place in zip(share, places, strict=True)
            ]

    def _near(self, order: np.ndarray, place: int) -> tuple[int, ...]:
        """What may join picture number `place` in a mosaic: of shards, pictures that are read at about that time."""
        data = self.dataset
        assert data.shards is not None
        return data.shards.near(order, place, 3, np.random.default_rng([data.seed, _OTHERS, self.epoch, place]))

    def cancel(self) -> None:
        """No training batch is wanted any more; those that workers were asked for come empty, and so at once."""
        self.dataset.cancelled.fill_(True)

    def validation(self, *, batch_size: int, shuffled: bool = False) -> Iterator[Batch]:
        """The validation pictures of this process, in order, or in another one that is always the same."""
        count = len(self.dataset.val)
        order = epoch_order(count, seed=0, epoch=0) if shuffled else np.arange(count)
        keys = [SampleRequest("val", 0, int(index), False) for index in order[self._rank :: self._processes]]
        return self._load([keys[start : start + batch_size] for start in range(0, len(keys), batch_size)])

    def _load(self, batches: Iterable[list[SampleRequest]]) -> Iterator[Batch]:
        self._queue.batches = batches
        try:
            with _forking_quietly():
                iterator = iter(self._batches)
            yield from iterator
        except DataError as error:
            # torch puts the worker's traceback before the message.
            raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error
        except (ConnectionError, EOFError) as error:
            time.sleep(1)  # as soon as the signal of a dead worker comes, torch raises here what killed it
            raise RuntimeError("DataLoader worker exited unexpectedly") from error


def _start_method() -> str:
    """Fork where it is the custom: workers start at once and share the records' memory."""
    return "fork" if sys.platform == "linux" else multiprocessing.get_start_method()


@contextmanager
def _forking_quietly() -> Iterator[None]:
    """Python 3.12 warns of every fork beside threads; our workers use neither torch's threads nor OpenCV's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


def _start_worker(number: int) -> None:  # noqa: ARG001  # torch passes it
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # which comes to all, or from the training process


@contextmanager
def killed_workers_told() -> Iterator[None]:
    """Raise ProcessError where a worker was killed; torch raises it wherever the training process is just then."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        how = str(error).rpartition("signal: ")[2].rstrip(". ") if "signal: " in str(error) else "it exited"
        raise ProcessError(
            f"a process that reads training images was killed from outside ({how}); there may be too little memory: "
            "fewer data.workers, 0 at the least, and a smaller data.cache_mb need less"
        ) from error


def make_dataset(
    train: Sequence[Record],
    val: Sequence[Record],
    *,
    preprocess: Preprocess,
    augmentation: Augment,
    seed: int,
    cache_mb: int,
    workers: int,
    image_level_labels: bool = False,
    multi_scale: tuple[float, float] | None = None,
    shuffle_buffer: int = 1,
) -> TrainDataset:
    """The samples of a run; the memory for decoded pictures is shared out among the workers."""
    cache = ImageCache((cache_mb << 20) // max(1, workers))
    sizes = () if multi_scale is None else input_sizes(preprocess, multi_scale)
    shards = Shards.of(train, buffer=shuffle_buffer)
    return TrainDataset(train, val, preprocess, augmentation, seed, cache, image_level_labels, sizes, shards)
