"""Pictures that occur twice: which of them a repaired copy keeps."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from falconet.core import boxes as box_math
from falconet.data.check import same_content
from falconet.data.repair import MOST, Kept, Repair, Repaired
from falconet.data.skew import TWICE

SPLITS = ("train", "val", "test")
"""In the order of their use: what is measured on last is left as it is."""


def without_copies(repaired: Mapping[str, Repaired]) -> tuple[dict[str, Repaired], list[Repair]]:
    """The splits with each picture once, and what is done for it.

    A picture goes where another one of the same content has all its boxes. Between splits it goes from the one that is
    used first (train before val before test): what is measured on stays, and figures of earlier models remain
    comparable, while one of many pictures is missing from training. It stays where it is annotated in another way,
    where splits have names of their own, and where a split would lose more than half of its pictures.
    """
    by_record = {id(one.record): one for split in repaired.values() for one in split.pictures}
    readable = {split: [one.record for one in part.pictures] for split, part in repaired.items()}
    gone: dict[int, tuple[str, Repair]] = {}
    for group in same_content(readable):
        parts = [(split, by_record[id(record)]) for split, record in group]
        for place, (split, one) in enumerate(parts):
            others = [(at, *part) for at, part in enumerate(parts) if at != place and id(part[1].record) not in gone]
            for at, other_split, other in others:
                goes = _goes_within(one, other, later=place > at) if split == other_split else _goes(split, other_split)
                if not goes or not _has_all(other, one):
                    continue
                kind = "duplicate-file" if other_split == split else "shared-picture"
                what = f"{one.record.path} in split '{split}' has the same content as {other.record.path}"
                what += f" in split '{other_split}' (picture left out of '{split}')"
                gone[id(one.record)] = (split, Repair(kind, one.record.source, what))
                break
    lost = Counter(split for split, done in gone.values() if done.kind == "shared-picture")
    too_many = {split for split, count in lost.items() if count > MOST * len(repaired[split].pictures)}
    gone = {
        key: (split, done)
        for key, (split, done) in gone.items()
        if done.kind != "shared-picture" or split not in too_many
    }
    left = {
        split: replace(part, pictures=[one for one in part.pictures if id(one.record) not in gone])
        for split, part in repaired.items()
    }
    return left, [done for _, done in gone.values()]


def _goes(split: str, other: str) -> bool:
    """Whether pictures of a split go where another one has them, too."""
    used = [
        next((place for place, known in enumerate(SPLITS) if name.startswith(known)), None) for name in (split, other)
    ]
    return used[0] is not None and used[1] is not None and used[0] < used[1]


def _goes_within(one: Kept, other: Kept, *, later: bool) -> bool:
    """Whether a picture goes that a split has twice: the one with fewer boxes, else the later one."""
    return later or not _has_all(one, other)


def _has_all(one: Kept, other: Kept) -> bool:
    """Whether a picture has every box of another."""
    mine, theirs = one.remaining, other.remaining
    if not len(theirs.boxes):
        return True
    if not len(mine.boxes):
        return False
    same = box_math.pairwise_iou(theirs.boxes, mine.boxes) >= TWICE
    same &= (theirs.labels[:, None] == mine.labels[None]) & (theirs.crowd[:, None] == mine.crowd[None])
    return bool(same.any(1).all())
