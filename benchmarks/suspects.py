"""Are wrong labels found? python benchmarks/suspects.py bccd:0 fruit:1 --data FOLDER

Of each data set 5 % of the labels are spoilt in four known ways: left out, shifted, given another class, and boxes put
where nothing is. `falconet data suspects` then looks at all of them. Told is how many of the spoilt ones are among the
first suspects, as many as a tenth of the labels; what else is there are doubts about labels as they were given. A row
says the same of cleanlab's scores of the same answers, with its own thresholds and with lower ones (--cleanlab, which
wants cleanlab 2.9). Trainings that are finished in the working folder are not repeated.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import write

from falconet.api.suspects import Suspects, suspects
from falconet.api.train import spoken
from falconet.core.boxes import pairwise_iou
from falconet.core.coco_json import coco_annotation, coco_categories, coco_result
from falconet.core.files import replace_file
from falconet.core.types import Detections, Floats, Record
from falconet.eval.report import read_history
from falconet.eval.suspects import Kind, Suspect
from falconet.training.run_config import Data
from falconet.training.run_data import load_data

SHARE, FIRST = 0.05, 0.1
KINDS: tuple[Kind, ...] = ("missing", "bad outline", "wrong class", "nothing there")
SETTINGS = ("model.input={height: 256, width: 256}", "train.batch_size=8", "data.workers=0")


@dataclass(frozen=True)
class Spoilt:
    """A label that was spoilt: the record it is of, what was done, its box now (None: left out) and before
    (None: new)."""

    image: int
    kind: Kind
    box: Floats | None
    before: Floats | None

    def is_found_by(self, suspect: Suspect) -> bool:
        """Whether a suspect is about it: the label itself, or the object that it no longer covers."""
        if suspect.image != self.image:
            return False
        if suspect.box is not None:
            return self.box is not None and bool(np.abs(np.array(suspect.box) - self.box).max() < 0.01)
        here = np.array([suspect.suggested_box], np.float32)
        return self.before is not None and bool(pairwise_iou(here, self.before[None])[0, 0] >= 0.5)


def load(name: str, folder: Path) -> tuple[tuple[str, ...], list[Record]]:
    """Class names and pictures: of bccd train and val, of fruit train and test."""
    whole: dict[str, Any] = {
        "bccd": {part: {"annotations": folder / "bccd", "split": part} for part in ("train", "val")},
        "fruit": {"train": folder / "fruit/train.json", "val": folder / "fruit/test.json"},
    }[name]
    data = load_data(Data.model_validate(whole))
    return data.names, [*data.train, *data.val]


def spoil(names: Sequence[str], records: list[Record], seed: int) -> tuple[list[Record], list[Spoilt]]:
    """Records of which `SHARE` of the labels are spoilt, as many in each way."""
    chance = np.random.default_rng(seed)
    places = [(image, index) for image, record in enumerate(records) for index in range(len(record.boxes))]
    drawn = chance.permutation(len(places))[: round(SHARE * len(places))].tolist()
    boxes, labels = [record.boxes.copy() for record in records], [record.labels.copy() for record in records]
    keep = [np.ones(len(record.boxes), np.bool_) for record in records]
    added: list[list[tuple[Floats, int]]] = [[] for _ in records]
    done = []
    for number, place in enumerate(drawn):
        image, index = places[place]
        kind, before = KINDS[number % len(KINDS)], records[image].boxes[index]
        if kind == "missing":
            keep[image][index] = False
            done.append(Spoilt(image, kind, None, before))
        elif kind == "wrong class":
            labels[image][index] = (labels[image][index] + chance.integers(1, len(names))) % len(names)
            done.append(Spoilt(image, kind, before, before))
        elif kind == "bad outline":
            boxes[image][index] = shifted(before, records[image], chance)
            done.append(Spoilt(image, kind, boxes[image][index], before))
        else:
            image, box, label = new_box(records, places, chance)
            added[image].append((box, label))
            done.append(Spoilt(image, kind, box, None))
    spoilt = []
    for image, record in enumerate(records):
        more = [box for box, _ in added[image]]
        own = np.concatenate([boxes[image][keep[image]], np.array(more, np.float32).reshape(-1, 4)])
        classes = np.concatenate([labels[image][keep[image]], np.array([label for _, label in added[image]], np.int64)])
        crowd = np.zeros(len(own), np.bool_)
        spoilt.append(replace(record, boxes=own, labels=classes, crowd=crowd, areas=None, box_keys=()))
    return spoilt, done


def shifted(box: Floats, record: Record, chance: np.random.Generator) -> Floats:
    """The box 15 to 35 % of its sides to the left or right, and up or down, within the picture; IoU 0.6 at most."""
    limit = np.array([record.width, record.height] * 2, np.float32)
    for _ in range(1000):
        way = chance.uniform(0.15, 0.35, 2) * chance.choice([-1, 1], 2) * (box[2:] - box[:2])
        moved = np.clip(box + np.tile(way, 2).astype(np.float32), 0, limit)
        if pairwise_iou(moved[None], box[None])[0, 0] < 0.6:
            return np.asarray(moved, np.float32)
    raise AssertionError(f"no room to shift {box} in {record.path}")


def new_box(
    records: list[Record], places: list[tuple[int, int]], chance: np.random.Generator
) -> tuple[int, Floats, int]:
    """A picture, and a box of the size and class of some label where the picture has none."""
    while True:
        image = int(chance.integers(len(records)))
        record, (other, index) = records[image], places[int(chance.integers(len(places)))]
        sides = records[other].boxes[index, 2:] - records[other].boxes[index, :2]
        room = np.array([record.width, record.height], np.float32) - sides
        if (room <= 0).any():
            continue
        corner = chance.uniform(0, room).astype(np.float32)
        box = np.concatenate([corner, corner + sides])
        if not len(record.boxes) or pairwise_iou(box[None], record.boxes).max() < 0.1:
            return image, box, int(records[other].labels[index])


def write_coco(path: Path, names: Sequence[str], records: Sequence[Record]) -> None:
    """Pictures by their absolute paths."""
    images, annotations = [], []
    for image, record in enumerate(records, start=1):
        images.append({"id": image, "file_name": str(record.path), "width": record.width, "height": record.height})
        for box, label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True):
            annotations.append(coco_annotation(len(annotations) + 1, coco_result(image, label, box, digits=6)))
    tree = {"images": images, "annotations": annotations, "categories": coco_categories(names)}
    replace_file(path, json.dumps(tree))


def cleanlab(done: Suspects, high: float, low: float) -> list[Suspect]:
    """Suspects by cleanlab's three scores, the lowest first; the lower one of a label's two counts.

    Args:
        high, low: its thresholds of scores: for missing labels and wrong classes, for outlines.
    """
    from cleanlab.object_detection import rank

    held, names = done.held_out, done.names
    labels = [{"bboxes": one.boxes.astype(float), "labels": one.labels} for one in held.records]
    answers = [
        Detections(one.boxes[keep], one.scores[keep], one.labels[keep])
        for one, keep in ((one, one.scores > min(high, low) / 2) for one in held.answers)
    ]
    said: list[Any] = []
    for one in answers:
        said.append(np.empty(len(names), object))
        for label in range(len(names)):
            own = one.labels == label
            said[-1][label] = np.concatenate([one.boxes[own], one.scores[own, None]], 1).astype(float)
    missing = rank.compute_overlooked_box_scores(labels=labels, predictions=said, high_probability_threshold=high)
    outline = rank.compute_badloc_box_scores(labels=labels, predictions=said, low_probability_threshold=low)
    swapped = rank.compute_swap_box_scores(labels=labels, predictions=said, high_probability_threshold=high)
    found = []
    for image, (record, answer) in enumerate(zip(held.records, answers, strict=True)):
        for index, box in enumerate(record.boxes.tolist()):
            scores = {"bad outline": outline[image][index], "wrong class": swapped[image][index]}
            kind: Any = min(scores, key=lambda one: scores[one])
            found.append(Suspect(kind, 1 - scores[kind], image, index, int(record.labels[index]), tuple(box)))
        by_class = np.argsort(answer.labels, kind="stable")
        for place in np.flatnonzero(~np.isnan(missing[image])).tolist():
            own = int(by_class[place])
            corners = tuple(answer.boxes[own].tolist())
            doubt = 1 - missing[image][place]
            found.append(
                Suspect("missing", doubt, image, suggested_label=int(answer.labels[own]), suggested_box=corners)
            )
    return sorted(found, key=lambda one: -one.doubt)


def row(done: Suspects, suspects: Sequence[Suspect], spoilt: Sequence[Spoilt], places: Sequence[int]) -> dict[str, Any]:
    """What is among the first suspects.

    Args:
        places: of the pictures that were answered, among all.
    """
    first = [replace(one, image=places[one.image]) for one in suspects[: math.ceil(FIRST * done.labels)]]
    found = [(one, next((suspect for suspect in first if one.is_found_by(suspect)), None)) for one in spoilt]
    there = {kind: [suspect for one, suspect in found if one.kind == kind] for kind in KINDS}
    hit = sum(suspect is not None for _, suspect in found)
    others = Counter(suspect.kind for suspect in first if not any(one.is_found_by(suspect) for one in spoilt))
    return {
        "looked at": len(first),
        "found": f"{hit} of {len(spoilt)} ({100 * hit / len(spoilt):.0f} %)",
        **{kind: f"{sum(one is not None for one in ones)} of {len(ones)}" for kind, ones in there.items()},
        "of the right kind": sum(suspect is not None and suspect.kind == one.kind for one, suspect in found),
        "not spoilt": ", ".join(f"{count} {kind}" for kind, count in others.most_common()),
    }


def rows(name: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What comes out of one spoilt copy of a data set."""
    classes, records = load(name, options.data)
    records, spoilt = spoil(classes, records, seed)
    folder = options.work / f"{name}-{seed}"
    write_coco(folder / "labels.json", classes, records)
    changes = [*SETTINGS, f"data.train={folder / 'labels.json'}", f"train.epochs={options.epochs}"]
    changes.append(f"train.validate_every={options.epochs}")
    with spoken():
        done = suspects("nanodet-plus-m-320", changes, out=folder / "out", folds=options.folds)
    seconds = sum(epoch["seconds"] for path in folder.glob("out/folds/*/metrics.jsonl") for epoch in read_history(path))
    place_of = {record.path: place for place, record in enumerate(records)}
    places = [place_of[record.path] for record in done.held_out.records]
    folds = ", ".join(f"{100 * value:.1f}" for value in done.held_out.ap)
    own = {"data": name, "seed": seed, "labels": done.labels, "AP of the folds": folds}
    found = [
        own
        | {"scores": "falconet"}
        | row(done, done.suspects, spoilt, places)
        | {"seconds of training": round(seconds)}
    ]
    for high, low in ((0.95, 0.5), (0.6, 0.3)) if options.cleanlab else ():
        title = f"cleanlab, thresholds {high:g}, {low:g}"
        found.append(own | {"scores": title} | row(done, cleanlab(done, high, low), spoilt, places))
    return found


def main() -> None:
    """Spoil, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("copies", nargs="+", help="bccd or fruit, a colon, and the seed by which labels are spoilt")
    parser.add_argument("--data", type=Path, required=True, help="folder with bccd and fruit")
    parser.add_argument("--work", type=Path, default=Path("runs/suspects"))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--cleanlab", action="store_true", help="compare with it")
    options = parser.parse_args()
    told: list[dict[str, Any]] = []
    for copy in options.copies:
        name, _, seed = copy.partition(":")
        told += rows(name, int(seed), options)
        print(json.dumps(told, indent=2), flush=True)
    note = (__doc__ or "").partition("\n\n")[2].strip()
    write(
        "suspects",
        "Spoilt labels that are found",
        " ".join(["python benchmarks/suspects.py", *options.copies, "--cleanlab" * options.cleanlab]).strip(),
        told,
        note,
    )


if __name__ == "__main__":
    main()
