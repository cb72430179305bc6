"""Classifiers on the command line: `predict --task classify`, and what `eval` and `export` do with a classifier."""

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.cli.truth import Truth, is_weights, progress, require, run_folder
from falconet.core.classes import Classification
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.files import replace_file

if TYPE_CHECKING:
    from falconet.core.types import Pixels
    from falconet.eval.accuracy import Accuracy
    from falconet.export.receipt import ClassReceipt
    from falconet.runtime.classifier import ClassifierPredictor

KINDS = ("images", "csv", "json")
"""What `predict --task classify --save` may name."""

SHOWN = 10


def is_classifier(model: Path) -> bool:
    """Whether `model` (run folder, weights file, exported file) is a classifier; False for what is none of these.

    Raises:
        ModelError: a damaged or foreign file.
    """
    if is_weights(model):
        from falconet.models.weights import find_weights, read_card

        return read_card(find_weights(model)).model.name == "classifier"
    if model.suffix != ".onnx" or not model.is_file():
        return False
    from falconet.runtime.model_file import ModelFile

    return ModelFile(model, threads=1).manifest.task == "classify"


def open_classifier(model: Path, *, threads: int | None) -> "ClassifierPredictor":
    """The classifier in an exported file, or with torch in a weights file or run folder.

    Raises:
        ModelError: nothing there, not ours, or a detector.
    """
    from falconet.runtime.classifier import ClassifierPredictor, OnnxClassifier

    if not is_weights(model):
        return ClassifierPredictor(OnnxClassifier(model, threads=threads))
    require(["torch"], extra="train", purpose="running weights")
    import torch

    from falconet.export.torch_engine import TorchClassifier

    if threads is not None:
        torch.set_num_threads(threads)
    return ClassifierPredictor(TorchClassifier(model))


def predict_classes(
    sources: Sequence[str],
    *,
    model: Path | None,
    out: Path | None,
    save: Sequence[str] | None,
    top: int,
    threads: int | None,
    recursive: bool,
    as_json: bool,
) -> int:
    """Say what pictures show: a line per picture, and files where they are asked for.

    Returns:
        How many sources could not be read.

    Raises:
        ConfigError: no model, an unknown kind to save, a video or camera among the sources.
    """
    from falconet.core.images import read_image, write_image

    if model is None:
        raise ConfigError("--task classify needs --model: an exported .onnx file, or with torch a run folder")
    kinds = list(save) if save is not None else (["images", "csv"] if out is not None else [])
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigError(f"--save {unknown[0]}: a classifier saves some of {', '.join(KINDS)}")
    folder = out or Path("runs/classify")
    paths = _pictures(sources, recursive=recursive)
    predictor = open_classifier(_published(model), threads=threads)
    rows: list[dict[str, Any]] = []
    broken = 0
    names: Counter[str] = Counter()
    for path in paths:
        try:
            image, _ = read_image(path)
        except DataError as error:
            broken += 1
            print(f"falconet: {error}", file=sys.stderr)
            continue
        found = predictor.predict(image)
        best = found.top(top)
        rows.append({"picture": str(path), "classes": [{"name": name, "score": round(p, 6)} for name, p in best]})
        print(f"{path}: {_line(best)}", file=sys.stderr if as_json else sys.stdout)
        if "images" in kinds:
            name = path.stem if not names[path.stem] else f"{path.stem}~{names[path.stem]}"
            names[path.stem] += 1
            write_image(folder / f"{name}.jpg", annotate(image, found, top=min(top, 3)))
    if "csv" in kinds:
        replace_file(folder / "classes.csv", _csv(rows))
    document = json.dumps({"model": predictor.manifest.model, "pictures": rows}, indent=2, ensure_ascii=False) + "\n"
    if "json" in kinds:
        replace_file(folder / "classes.json", document)
    if as_json:
        print(document, end="")
    if kinds:
        print(f"saved {', '.join(kinds)} in {folder}", file=sys.stderr if as_json else sys.stdout)
    return broken


def annotate(image: "Pixels", found: Classification, *, top: int = 3) -> "Pixels":
    """A copy of `image` with the most probable classes written into its upper left corner."""
    import cv2
    import numpy as np

    canvas = np.ascontiguousarray(image).copy()
    unit = max(0.6, min(image.shape[:2]) / 480)
    step = round(22 * unit)
    for line, (name, score) in enumerate(found.top(top)):
        text, place = f"{name} {score:.2f}", (round(6 * unit), step * (line + 1))
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):  # readable on any ground
            cv2.putText(
                canvas,
                text,
                place,
                cv2.FONT_HERSHEY_SIMPLEX,
                0.6 * unit,
                colour,
                max(1, round(thickness * unit)),
                cv2.LINE_AA,
            )
    return canvas


@dataclass(frozen=True, slots=True)
class ClassEvaluation:
    """A finished evaluation of a classifier."""

    model: Path
    data: str
    accuracy: "Accuracy"
    milliseconds: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures for programs, as fractions, and where from."""
        return {
            **self.accuracy.as_dict(),
            "per_class": self.accuracy.per_class,
            "pictures_per_class": self.accuracy.counts,
            "confusions": [list(one) for one in self.accuracy.confusions],
            "images": self.accuracy.images,
            "milliseconds": self.milliseconds,
            "model": str(self.model),
            "data": self.data,
            "notes": list(self.notes),
        }


def evaluate_classifier(
    model: Path, data: Path | None, *, out: Path | None, threads: int | None, as_json: bool
) -> ClassEvaluation:
    """Measure a classifier on an image folder (default: the validation data of its run), print and write the figures.

    Classes are matched by name: a class the model does not know counts as wrong, and is said.
    """
    import statistics
    import time

    import numpy as np

    from falconet.eval.accuracy import best_classes, measure_accuracy

    predictor = open_classifier(model, threads=threads)
    truth = open_class_truth(model, data)
    notes = [*truth.notes, *_class_notes(truth, predictor.names)]
    # All names of both, so that an answer outside the truth's classes is an answer too.
    names = (*truth.names, *(name for name in predictor.names if name not in truth.names))
    position = np.array([names.index(name) for name in predictor.names], np.int64)
    labels, ranked, times = [], [], []
    with progress("evaluating") as bar:
        for record in bar(truth.records):
            try:
                pixels = predictor.prepare(record.path)
            except DataError as error:
                notes.append(str(error))
                continue
            start = time.perf_counter()
            probabilities = predictor.engine(pixels[None])
            times.append((time.perf_counter() - start) * 1e3)
            labels.append(int(record.labels[0]))
            ranked.append(position[best_classes(probabilities)[0]])
    for note in notes[:SHOWN]:
        print(note, file=sys.stderr)
    median = statistics.median(times) if times else 0.0
    done = ClassEvaluation(model, truth.source, measure_accuracy(names, labels, ranked), median, tuple(notes))
    if out is not None:
        replace_file(out / "metrics.json", json.dumps(done.as_dict(), indent=2, allow_nan=False) + "\n")
    if as_json:
        print(json.dumps(done.as_dict(), indent=2, allow_nan=False))
    else:
        _print_accuracy(done)
    return done


def open_class_truth(model: Path, data: Path | None) -> Truth:
    """The image folder named on the command line, else the validation pictures of the run that `model` belongs to."""
    if data is not None:
        from falconet.data.folders import open_image_folder

        dataset, problems = open_image_folder(data)
        return Truth(dataset.names, dataset.records, dataset.source, tuple(str(problem) for problem in problems))
    folder = run_folder(model)
    if folder is None:
        raise ConfigError(
            f"{model}: belongs to no training run, so there is no default data; add --data FOLDER, which holds one "
            "folder of pictures per class"
        )
    require(["torch", "pytorch_lightning"], extra="train", purpose="reading a training run")
    from falconet.train.run_data import load_data
    from falconet.train.run_folder import RunFolder

    loaded = load_data(RunFolder(folder).read_run().data, whole_pictures=True)
    return Truth(loaded.names, loaded.val, f"validation data of {folder}", ())


def compare_classifier(model: Path, draft: Path, truth: Truth, *, pictures: int) -> "ClassReceipt":
    """The receipt of an exported classifier.

    Args:
        model: weights file or run folder.
        draft: the exported file, under a name for the time being.
        truth: pictures to compare on, with or without their classes.
    """
    from falconet.export.verify_classifier import verify_classifier
    from falconet.models.weights import find_weights

    step = max(1, len(truth.records) // pictures)
    with progress("comparing with torch") as bar:
        return verify_classifier(
            find_weights(model), draft, truth.records[::step][:pictures], names=truth.names or None, progress=bar
        )


def _published(model: Path) -> Path:
    """`model`; where it is the name of published ImageNet weights, these as a weights file."""
    if model.exists() or model.suffix:
        return model
    from falconet.zoo import imagenet

    if str(model) not in imagenet.IMAGENET:
        return model
    require(["torch"], extra="train", purpose="converting published weights")
    from falconet.zoo.pretrained import fetch_classifier

    return fetch_classifier(str(model))


def _pictures(sources: Sequence[str], *, recursive: bool) -> list[Path]:
    from falconet.runtime.stream import PictureFile, find_sources

    found = []
    for source in find_sources(sources, recursive=recursive):
        if not isinstance(source, PictureFile):
            raise ConfigError(f"{source}: is no picture; --task classify takes pictures, folders and globs")
        found.append(source.path)
    return found


def _line(best: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {score:.3f}" for name, score in best)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["picture", "rank", "class", "score"])
    for row in rows:
        for rank, one in enumerate(row["classes"], start=1):
            writer.writerow([row["picture"], rank, one["name"], one["score"]])
    return stream.getvalue()


def _class_notes(truth: Truth, names: Sequence[str]) -> list[str]:
    unknown = [name for name in truth.names if name not in names]
    if len(unknown) == len(truth.names):
        raise ModelError(
            f"{truth.source}: the model knows none of its classes\n  data:  {', '.join(truth.names[:20])}\n"
            f"  model: {', '.join(names[:20])}"
        )
    return [f"{truth.source}: the model does not know {', '.join(unknown)}; all of these count as wrong"] * bool(
        unknown
    )


def _print_accuracy(done: ClassEvaluation) -> None:
    accuracy = done.accuracy
    print(f"top-1  {100 * accuracy.top1:6.2f}\ntop-5  {100 * accuracy.top5:6.2f}")
    print(f"{accuracy.images} pictures of {done.data}, {done.milliseconds:.2f} ms each (median)\n")
    width = max((len(name) for name in accuracy.per_class), default=0)
    print(f"{'class':<{width}}  {'pictures':>8}  {'top-1':>6}")
    for name, value in accuracy.per_class.items():
        print(f"{name:<{width}}  {accuracy.counts[name]:>8}  {100 * value:>6.2f}")
    for true, said, number in accuracy.confusions[:SHOWN]:
        print(f"{number} x {true} taken for {said}")
