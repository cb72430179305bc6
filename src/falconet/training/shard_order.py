"""The order in which an epoch sees pictures that lie in shards: shards by chance, then a buffer.

As in WebDataset: the shards are read one after the other in an order of chance, pictures wait in a buffer of some
thousand, and whenever one comes in, one of those that wait goes out. Which ones follows from their number alone, so the
order is worked out before anything is read, and is the same for any number of workers and processes. What waits is an
index: a picture is read when it is its turn, from a part of the disk that the buffer goes over just then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from falconet.core.tar_index import split_path
from falconet.core.types import Ints, Record

OTHERS = 1000
"""Pictures outside of shards that are taken together like one: those of `data.unlabelled`."""


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards that pictures lie in.

    Attributes:
        starts: [S + 1] where the pictures of each shard begin, and the end.
        buffer: pictures that wait; 1 keeps the order within the shards.
    """

    starts: Ints
    buffer: int

    @classmethod
    def of(cls, records: Sequence[Record], *, buffer: int) -> "Shards | None":
        """Those of `records`, None where none of these lies in a shard."""
        starts: list[int] = []
        before: Path | None = None
        any_shard = False
        for index, record in enumerate(records):
            tar = _tar_of(record.path, before)
            any_shard |= tar is not None
            if not starts or tar != before or (tar is None and index - starts[-1] >= OTHERS):
                starts.append(index)
            before = tar
        return cls(np.array([*starts, len(records)], np.int64), buffer) if any_shard else None

    def order(self, rng: np.random.Generator) -> Ints:
        """[N] An order of all pictures, each once; `rng` is the only source of chance."""
        shards = rng.permutation(len(self.starts) - 1)
        coming = np.concatenate([np.arange(self.starts[shard], self.starts[shard + 1]) for shard in shards])
        count, buffer = len(coming), min(self.buffer, len(coming))
        waiting = coming[:buffer].copy()
        order = np.empty(count, np.int64)
        places = rng.integers(buffer, size=count - buffer).tolist()
        for step, place in enumerate(places):
            order[step] = waiting[place]
            waiting[place] = coming[buffer + step]
        order[count - buffer :] = rng.permutation(waiting)
        return order

    def near(self, order: Ints, place: int, count: int, rng: np.random.Generator) -> tuple[int, ...]:
        """`count` pictures of an `order` that go through the buffer at about the same time as number `place` of it."""
        buffer = min(self.buffer, len(order))
        first = max(0, min(place - buffer // 2, len(order) - buffer))
        return tuple(order[rng.integers(first, first + buffer, size=count)].tolist())


def _tar_of(path: Path, before: Path | None) -> Path | None:
    """The shard that a picture lies in; mostly that of the picture before it."""
    if before is not None and path.parent == before:
        return before
    split = split_path(path)
    return None if split is None else split[0]
