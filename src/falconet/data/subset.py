"""A part of the training pictures: smaller parts lie within larger ones, and each class is in them as in the whole."""

from collections.abc import Sequence

import numpy as np

from falconet.core.types import Record
from falconet.data.columns import classes_of, take


def subset(records: Sequence[Record], *, fraction: float, seed: int) -> Sequence[Record]:
    """A share of the records, one at least, in their order; that of a smaller share is part of it."""
    count = min(len(records), max(1, round(fraction * len(records))))
    return take(records, np.array(sorted(nested_order(records, seed=seed)[:count]), np.int64))


def nested_order(records: Sequence[Record], *, seed: int) -> list[int]:
    """Places of the records in an order whose first N stand for all of them, whatever N.

    The order is one of chance, but a class that is missing, or has fallen behind its share by a picture, comes first,
    the rarest before others: so as many pictures as there are classes show all of these. That is the idea of iterative
    stratification (Sechidis, Tsoumakas and Vlahavas, 2011), one picture at a time; choosing each by its class would
    prefer pictures of many classes. Pictures without boxes count as a class.
    """
    chance = np.random.default_rng(seed).permutation(len(records)).tolist()
    pictures, classes = classes_of(records)
    names, columns = np.unique(classes, return_inverse=True)
    begins = np.searchsorted(pictures, np.arange(len(records) + 1))
    everyone = chance[::-1]  # the next one is the last
    rank = np.empty(len(records), np.int64)
    rank[everyone] = np.arange(len(records))
    by_rank = np.argsort(rank[pictures], kind="stable")
    waiting = [pictures[by_rank][columns[by_rank] == column].tolist() for column in range(len(names))]
    total = np.array([len(own) for own in waiting], np.float64)
    taken, used, order = np.zeros(len(names)), [False] * len(records), list[int]()
    while len(order) < len(records):
        behind = (len(order) + 1) / len(records) * total - taken
        needed = np.flatnonzero((taken < total) & ((taken == 0) | (behind >= 1)))
        queue = waiting[needed[np.argmin(total[needed])]] if len(needed) else everyone
        while used[queue[-1]]:
            queue.pop()
        index = queue.pop()
        used[index] = True
        taken[columns[begins[index] : begins[index + 1]]] += 1
        order.append(index)
    return order
