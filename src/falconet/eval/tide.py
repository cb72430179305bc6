"""Kinds of error, and what each of them costs in every draw of the pictures.

Paper: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, sections 2.2 and 2.3.
An error is one of a picture, so that a draw weights it as it weights everything of its picture: errors are told apart
once, and of each kind AP at IoU 0.5 is computed in each draw with these errors repaired. Where the paper leaves open
what happens, the rules are hotcoco's: of several errors that could find the same object, the one with the highest score
does when it is repaired. hotcoco hands over sums alone; tests hold those of equal weights against it.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.cpus import usable_cpus
from falconet.core.types import Detections, Ints, Record
from falconet.eval.bootstrap import Drawn, in_chunks, in_draws, mean_of, with_all
from falconet.eval.matching import ClassMatches, Truths, pairs_in_blocks
from falconet.eval.weighted import Objects, Weighted

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]

NEAR, FITS = 0.1, 0.5
"""IoU from which on a box has to do with an object, and finds it."""

FALSE = ("Cls", "Loc", "Both", "Dupe", "Bkg")
"""What may be wrong with a detection; the names are the paper's."""

CLASS, PLACE, BOTH, TWICE, NOTHING = range(len(FALSE))

MISSED = "Miss"

NO_ERROR = -1


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """The errors of one class; detections are those of its `ClassMatches`.

    Attributes:
        kinds: [D] place in `FALSE`; `NO_ERROR` for what is right or does not count.
        mended: [D] badly placed, and the one that finds the object when it is placed well.
        gained_images, gained_scores: [K] of detections of other classes that find an object of this one when they
            have its class.
        missed: [N] objects in each picture that no repaired detection would find.
    """

    kinds: Ints
    mended: Bools
    gained_images: Ints
    gained_scores: Floats
    missed: Ints


class ErrorDraws(NamedTuple):
    """One kind of error in the draws: how many there are, and AP50 that is won where all of them are repaired."""

    number: Drawn
    cost: Drawn


def find_errors(
    records: Sequence[Record], answers: Sequence[Detections], matches: Sequence[ClassMatches]
) -> list[ClassErrors]:
    """The errors of each class.

    Args:
        records, answers: aligned.
        matches: of all classes, from these.
    """
    detections, truths = _AllDetections.of(matches), Truths.of(records)
    starts, labels, counts = truths.starts, truths.labels, ~truths.aside[0]
    found = detections.finds >= 0
    taken = np.zeros(len(labels), np.bool_)
    taken[starts[detections.images[found]] + detections.finds[found]] = True
    kinds, targets = _classified(detections, answers, truths, taken)
    usable = counts & ~taken
    targets[~np.append(usable, False)[targets]] = -1
    near = np.zeros(len(labels), np.bool_)
    near[targets[targets >= 0]] = True
    winners = _winners(targets, detections)
    missed = truths.in_pictures(usable & ~near, len(matches))
    gains = np.flatnonzero(winners & (kinds == CLASS))
    gaining = labels[targets[gains]]
    return [
        ClassErrors(
            kinds=kinds[own],
            mended=winners[own] & (kinds[own] == PLACE),
            gained_images=detections.images[gains[gaining == label]],
            gained_scores=detections.scores[gains[gaining == label]],
            missed=missed[label],
        )
        for label, own in enumerate(detections.of_classes)
    ]


@dataclass(frozen=True, slots=True)
class _AllDetections:
    """The detections of all classes behind one another: [T] each; `of_classes` are the places of each class."""

    images: Ints
    places: Ints
    scores: Floats
    labels: Ints
    finds: Ints
    wrong: Bools
    of_classes: tuple[slice, ...]

    @classmethod
    def of(cls, matches: Sequence[ClassMatches]) -> "_AllDetections":
        none = np.zeros(0, np.int64)
        counts = [len(one.images) for one in matches]
        ends = np.cumsum([0, *counts]).tolist()
        return cls(
            images=np.concatenate([none, *(one.images for one in matches)]),
            places=np.concatenate([none, *(one.places for one in matches)]),
            scores=np.concatenate([none.astype(np.float64), *(one.scores for one in matches)]),
            labels=np.repeat(np.arange(len(matches)), counts),
            finds=np.concatenate([none, *(one.finds for one in matches)]),
            wrong=np.concatenate([none.astype(np.bool_), *(~one.right[0] & ~one.ignored[0] for one in matches)]),
            of_classes=tuple(slice(first, last) for first, last in pairwise(ends)),
        )


def _classified(
    detections: _AllDetections, answers: Sequence[Detections], truths: Truths, taken: Bools
) -> tuple[Ints, Ints]:
    """What is wrong with detections: [T] kinds, and the object each is about, -1 where none is.

    Args:
        taken: [G] objects that are found.
    """
    kinds, targets = np.full(len(detections.images), NO_ERROR), np.full(len(detections.images), -1)
    kinds[detections.wrong] = NOTHING
    firsts = np.cumsum([0, *(len(one.boxes) for one in answers)])
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in answers)])
    objects = np.diff(truths.starts)[detections.images]
    wrong = np.flatnonzero(detections.wrong & (objects > 0))
    for part, things, partners in pairs_in_blocks(objects[wrong]):
        own = wrong[part]
        which = truths.starts[detections.images[own]][things] + partners
        overlaps = truths.overlaps(which, boxes[firsts[detections.images[own]] + detections.places[own]][things])
        same = detections.labels[own][things] == truths.labels[which]
        kinds[own], pairs = _classify(overlaps, same, which, truths, taken, np.flatnonzero(partners == 0))
        targets[own] = np.where(pairs >= 0, which[pairs], -1)
    return kinds, targets


def _classify(
    overlaps: Floats, same: Bools, which: Ints, truths: Truths, taken: Bools, starts: Ints
) -> tuple[Ints, Ints]:
    """What is wrong with false detections: [F] kinds, and the pair with the object each is about, -1 where none is.

    Args:
        overlaps, same: [P] IoU of each with each object of its picture, and whether they have the same class.
        which: [P] the object.
        taken: [G] objects that are found.
        starts: [F] the first pair of each.
    """
    own, other = np.where(same, overlaps, 0.0), np.where(same | truths.crowd[which], 0.0, overlaps)
    most, others_most = np.maximum.reduceat(own, starts), np.maximum.reduceat(other, starts)
    twice = np.logical_or.reduceat((own >= FITS) & taken[which], starts)
    kinds = np.select(
        [(most >= NEAR) & (most <= FITS), others_most >= FITS, twice, others_most <= NEAR],
        [PLACE, CLASS, TWICE, NOTHING],
        BOTH,
    )
    aims = np.select(
        [kinds == PLACE, kinds == CLASS], [_first(own, most, starts), _first(other, others_most, starts)], -1
    )
    return kinds, aims


def _first(values: Floats, wanted: Floats, starts: Ints) -> Ints:
    """[F] in each group of values [P] the first one that is what is wanted [F]."""
    count = len(values)
    equal = values == np.repeat(wanted, np.diff(np.append(starts, count)))
    first: Ints = np.minimum.reduceat(np.where(equal, np.arange(count), count), starts)
    return first


def _winners(targets: Ints, detections: _AllDetections) -> Bools:
    """[T] the detection with the highest score among those about the same object."""
    aimed = np.flatnonzero(targets >= 0)
    order = np.lexsort((detections.places[aimed], -detections.scores[aimed], targets[aimed]))
    _, first = np.unique(targets[aimed][order], return_index=True)
    winners = np.zeros(len(targets), np.bool_)
    winners[aimed[order[first]]] = True
    return winners


def resample_errors(
    matches: Sequence[ClassMatches], errors: Sequence[ClassErrors], drawn: NDArray[np.float32]
) -> dict[str, ErrorDraws]:
    """How many errors of each kind there are, and what they cost, by the paper's names.

    Args:
        matches, errors: of all classes.
        drawn: [R, N] weights of the pictures.
    """
    drawn = with_all(drawn)
    images, chunks = drawn.shape[1], in_chunks(drawn)
    number = in_draws([one.objects[0] for one in matches], drawn)
    missed = in_draws([one.missed for one in errors], drawn)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        of_class = partial(_costs, chunks=chunks)
        costs = list(pool.map(of_class, matches, errors, number, missed))
    numbers = {name: _in_pictures(matches, errors, kind, images) for kind, name in enumerate(FALSE)}
    numbers[MISSED] = np.sum([np.zeros(images), *(one.missed for one in errors)], axis=0)

    def drawn_of(values: Floats) -> Drawn:
        return Drawn(float(values[0]), values[1:].astype(np.float64), images)

    draws = {}
    for name, own in numbers.items():
        cost = mean_of(np.stack([one[name] for one in costs])) if costs else np.full(len(drawn), np.nan)
        draws[name] = ErrorDraws(drawn_of(drawn @ own.astype(np.float32)), drawn_of(cost))
    return draws


def _in_pictures(
    matches: Sequence[ClassMatches], errors: Sequence[ClassErrors], kind: int, images: int
) -> NDArray[np.float64]:
    """[N] errors of one kind in each picture."""
    found = np.zeros(images)
    for one, own in zip(matches, errors, strict=True):
        found += np.bincount(one.images[own.kinds == kind], minlength=images)
    return found


def _costs(
    matches: ClassMatches,
    errors: ClassErrors,
    number: NDArray[np.float32],
    missed: NDArray[np.float32],
    chunks: Sequence[tuple[slice, NDArray[np.float32]]],
) -> Mapping[str, NDArray[np.float64]]:
    """[R] AP50 of one class that is won where a kind of error is repaired, by its name; NaN without an object.

    Args:
        matches, errors: of the class.
        number, missed: [R] its objects in each draw, and those that no repaired detection would find.
        chunks: of the draws.
    """
    costs = {name: np.full(len(number), np.nan) for name in (*FALSE, MISSED)}
    right, kept = matches.right[0], ~matches.ignored[0]
    found = np.flatnonzero(right)
    # In the order of scores; of equal ones those of the class itself come first.
    merged = np.argsort(-np.concatenate([matches.scores, errors.gained_scores]), kind="stable")
    gained = np.ones(len(errors.gained_scores), np.bool_)
    kinds = [errors.kinds == kind for kind in range(len(FALSE))]
    for chunk, drawn in chunks:
        objects, findable = number[chunk], number[chunk] - missed[chunk]
        there = Objects(objects)
        own = Weighted(drawn, matches.images)
        wrong_told = [own.told(np.flatnonzero(wrong), found) if wrong.any() else None for wrong in kinds]
        told = own.told(found, found)
        for part in wrong_told:
            told += 0 if part is None else part
        before = own.average_precision(found, told, there)
        for kind, name in enumerate(FALSE):
            wrong = kinds[kind]
            if kind == CLASS and len(gained):
                images = np.concatenate([matches.images, errors.gained_images])[merged]
                all_right = np.flatnonzero(np.append(right, gained)[merged])
                all_kept = np.flatnonzero(np.append(kept & ~wrong, gained)[merged])
                others = Weighted(drawn, images)
                after = others.average_precision(all_right, others.told(all_kept, all_right), there)
            elif kind == PLACE and errors.mended.any():
                all_right = np.flatnonzero(right | errors.mended)
                all_kept = np.flatnonzero(kept & (~wrong | errors.mended))
                after = own.average_precision(all_right, own.told(all_kept, all_right), there)
            elif (repaired := wrong_told[kind]) is not None:
                after = own.average_precision(found, told - repaired, there)
            else:
                after = before
            costs[name][chunk] = (after - before)[0]
        after = own.average_precision(found, told, Objects(findable)) if errors.missed.any() else before
        costs[MISSED][chunk] = np.where((findable > 0) | (objects == 0), (after - before)[0], 0.0)
    return costs
