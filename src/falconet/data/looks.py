"""What pictures look like: those that look like another one, dark, blurred and flat ones, grey ones among coloured.

Pictures that look alike are found by a hash of 64 bits, each of which says whether a spot is brighter than its
neighbour ("difference hash", N. Krawetz, "Kind of Like That", 2013), without comparing every two: hashes that differ in
at most `BITS` bits share one of `BITS` + 1 parts. What the hashes propose is compared as small pictures.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from falconet.core.figures import percent, plural
from falconet.core.types import Pixels, Record
from falconet.data.dataset import Problem

SIDE = 16
"""Pixels of the small pictures that are compared."""

BITS = 3
"""By which hashes of pictures that look alike differ at most."""

ALIKE = 0.985
"""Least correlation of the small pictures of such pictures."""

DARK, FLAT = 12.0, 3.0
"""Mean grey value below which a picture is nearly black, and deviation below which it shows nothing."""

SHARP_SIDE, BLURRED = 256, 0.02
"""Pixels of the side at which sharpness is measured; the share of the usual one below which a picture is blurred."""

GREY, FEW = 2.0, 0.05
"""Mean difference of the colours of a grey picture, and the share up to which such pictures are the odd ones."""

LEAST = 20
"""Pictures from which on one can be unlike the rest."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture looks like.

    Attributes:
        hash: 64 bits.
        small: uint8 [SIDE * SIDE], grey.
        mean, deviation: of its grey values, 0 to 255.
        sharpness: variance of the Laplacian.
        colour: mean difference between its largest and smallest colour, 0 to 255.
    """

    hash: int
    small: Pixels
    mean: float
    deviation: float
    sharpness: float
    colour: float

    @classmethod
    def of(cls, image: Pixels) -> "Look":
        """That of uint8 [H, W, 3].

        Only halves and the last step to `SHARP_SIDE` are taken, as other factors cost several times as much.
        """
        grey = _halved(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), below=2 * SHARP_SIDE)
        scale = min(1.0, SHARP_SIDE / max(grey.shape))
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        half = _halved(grey, below=SHARP_SIDE)
        steps = cv2.resize(half, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
        bits = np.packbits((steps[:, 1:] > steps[:, :-1]).ravel())
        (mean,), (deviation,) = (values.ravel().tolist() for values in cv2.meanStdDev(grey))
        _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
        blue, green, red = cv2.split(_halved(image, below=SHARP_SIDE))
        colour = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
        return cls(
            hash=int.from_bytes(bits.tobytes(), "big"),
            small=np.asarray(cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8).reshape(-1),
            mean=mean,
            deviation=deviation,
            sharpness=edges.item() ** 2,
            colour=cv2.mean(colour)[0],
        )


def _halved(image: NDArray[Any], *, below: int) -> Pixels:
    """Averaged over 2 x 2 pixels until its longer side is shorter than that."""
    while max(image.shape[:2]) >= below:
        half = max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8)


def look_problems(
    splits: Mapping[str, Sequence[tuple[Record, Look]]], *, copies: Set[Path] = frozenset()
) -> Iterator[Problem]:
    """What is odd about the pictures of all splits.

    Args:
        splits: their pictures.
        copies: files that are told to be copies already.
    """
    for parts in splits.values():
        for record, look in parts:
            yield from _unusable(record, look)
        yield from _unlike_the_rest(parts)
    yield from _alike({split: [one for one in parts if one[0].path not in copies] for split, parts in splits.items()})


def _unusable(record: Record, look: Look) -> Iterator[Problem]:
    name = record.path.name
    if look.deviation < FLAT:
        what = f"{name} shows nothing: all of it has nearly the same brightness (deviation {look.deviation:.1f} of 255)"
        yield Problem.of_picture(record, what, "flat-picture")
    elif look.mean < DARK:
        yield Problem.of_picture(
            record, f"{name} is nearly black: mean brightness {look.mean:.0f} of 255", "dark-picture"
        )


def _unlike_the_rest(parts: Sequence[tuple[Record, Look]]) -> Iterator[Problem]:
    if len(parts) < LEAST:
        return
    usual = float(np.median([look.sharpness for _, look in parts]))
    grey = [look.colour < GREY for _, look in parts]
    share = sum(grey) / len(parts)
    for (record, look), without in zip(parts, grey, strict=True):
        if look.sharpness < BLURRED * usual and look.deviation >= FLAT:
            what = f"{record.path.name} is blurred: {percent(look.sharpness / usual)} % of the usual sharpness here"
            yield Problem.of_picture(record, what, "blurred-picture")
        if 0 < share <= FEW and without:
            what = f"{record.path.name} has no colour, as {plural(sum(grey), 'picture')} of {len(parts)}"
            yield Problem.of_picture(record, what, "odd-colour")
        if 0 < 1 - share <= FEW and not without:
            count = len(parts) - sum(grey)
            what = f"{record.path.name} has colours, as {plural(count, 'picture')} of {len(parts)}; the others are grey"
            yield Problem.of_picture(record, what, "odd-colour")


def _alike(splits: Mapping[str, Sequence[tuple[Record, Look]]]) -> Iterator[Problem]:
    """Pictures of two splits that look the same, one by one; those within a split as a number."""
    every = [(split, record, look) for split, parts in splits.items() for record, look in parts]
    pairs = alike([look for _, _, look in every])
    within: defaultdict[str, dict[int, int]] = defaultdict(dict)
    told: set[int] = set()
    for one, other in pairs:
        (split, record, _), (other_split, other_record, _) = every[one], every[other]
        if split == other_split:
            within[split].setdefault(other, one)
        elif other not in told:
            told.add(other)
            what = f"{other_record.path} in split '{other_split}' looks like {record.path} in split '{split}'"
            yield Problem.of_picture(other_record, what, "similar-in-splits", other=record)
    for split, found in within.items():
        first, twin = every[min(found)][1], every[found[min(found)]][1]
        what = (
            f"{plural(len(found), 'picture')} of {len(splits[split])} in split '{split}' "
            f"{'looks' if len(found) == 1 else 'look'} almost like another one of it, for example {first.path.name}; "
            "they teach little, and a part set aside at random would hold copies of what was learnt"
        )
        yield Problem.of_picture(first, what, "similar-pictures", other=twin)


def alike(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Pairs (first, second) of pictures that look alike, each second one once with the first that it looks like.

    Exact copies (equal small pictures and hashes) count, too; flat pictures, which all look alike, do not.
    """
    buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    width = 64 // (BITS + 1)
    found = []
    smalls = [_normal(look) for look in looks]
    for place, look in enumerate(looks):
        if look.deviation < FLAT:
            continue
        keys = [(part, look.hash >> (part * width) & ((1 << width) - 1)) for part in range(BITS + 1)]
        near = sorted({other for key in keys for other in buckets[key]})
        for other in near:
            if (looks[other].hash ^ look.hash).bit_count() <= BITS and float(smalls[other] @ smalls[place]) >= ALIKE:
                found.append((other, place))
                break
        for key in keys:
            buckets[key].append(place)
    return found


def _normal(look: Look) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    values = look.small.astype(np.float32)
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)
