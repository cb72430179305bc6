"""What intervals cost: 5,000 made pictures with 80 classes, with them and without. python benchmarks/intervals.py

The two are computed by turns, in this process, from the same detections to the lines and the dictionary that `falconet
eval` prints; no network runs. CPU time counts all threads. Others who compute on the machine change seconds, and the
share of time that two threads save; the last line says how busy they were.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from falconet.core.cpus import busy_cpus, usable_cpus
from falconet.core.types import Detections, Record
from falconet.eval.classes import match
from falconet.eval.detection import DetectionResults

FREQUENT = 0.7
"""The chance of the n-th class goes with n to the power of minus this."""


def made(pictures: int, classes: int, *, false: float) -> tuple[list[Record], list[Detections]]:
    """Pictures of seven objects each on average; of three in four objects one detection, of some a second one, and so
    many `false` ones, most of which have low scores."""
    chance = np.random.default_rng(0)
    share = np.arange(1, classes + 1) ** -FREQUENT
    share /= share.sum()
    records, answers = [], []
    for number in range(pictures):
        count, more = int(chance.poisson(7)), int(chance.poisson(false))
        boxes, others = _boxes(chance, count), _boxes(chance, more)
        labels = chance.choice(classes, count, p=share)
        crowd = chance.random(count) < 0.01
        records.append(Record(number, Path(f"{number}.jpg"), 720, 720, boxes.astype(np.float32), labels, crowd))
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        near = np.concatenate([boxes + chance.normal(0, 0.08, boxes.shape) * sides for _ in range(2)])
        found = chance.random(2 * count) < np.repeat([0.75, 0.3], count)
        corners = np.concatenate([near[found], others]).astype(np.float32)
        corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
        scores = np.concatenate([chance.beta(4, 2, int(found.sum())), chance.beta(1.2, 6, more)]).astype(np.float32)
        own = np.concatenate([np.tile(labels, 2)[found], chance.choice(classes, more, p=share)])
        order = np.argsort(-scores, kind="stable")
        answers.append(Detections(corners[order], scores[order], own[order]))
    return records, answers


def _boxes(chance: np.random.Generator, count: int) -> np.ndarray:
    """[count, 4] of all sizes from 10 to 220 pixels, each as often as twice the size."""
    corner, sides = chance.uniform(0, 500, (count, 2)), np.exp(chance.uniform(np.log(10), np.log(220), (count, 2)))
    return np.concatenate([corner, corner + sides], 1)


def main() -> None:
    """Print seconds, their ratio, and the most memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--false", type=float, default=20.0, help="false detections of a picture, on average")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    records, answers = made(asked.pictures, asked.classes, false=asked.false)
    names = tuple(str(label) for label in range(asked.classes))
    classes = match(names, names, data="made", model="made")
    told = sum(len(one) for one in answers)
    print(
        f"{asked.pictures} pictures, {asked.classes} classes, {sum(len(one.boxes) for one in records)} objects, ",
        end="",
    )
    print(f"{told} detections, {usable_cpus()} CPUs")
    walls: dict[bool, list[float]] = {False: [], True: []}
    spent: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(asked.rounds + 1):
        for intervals in (False, True):
            wall, cpu = time.perf_counter(), time.process_time()
            done = DetectionResults.of(
                classes, records, answers, limit=100, own_score=0.3, least=0.05, intervals=intervals
            )
            done.as_dict()
            done.lines()
            if turn:  # the first one warms up
                walls[intervals].append(time.perf_counter() - wall)
                spent[intervals].append(time.process_time() - cpu)
    print(f"{'':<18}{'without':>9}{'with':>9}{'ratio':>9}")
    for name, times in (("seconds", walls), ("seconds of CPUs", spent)):
        without, within = (statistics.median(times[intervals]) for intervals in (False, True))
        print(f"{name:<18}{without:>9.2f}{within:>9.2f}{within / without:>9.2f}")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    print(f"CPUs that others kept busy at the end: {busy_cpus() or 0.0:.1f}")


if __name__ == "__main__":
    main()
