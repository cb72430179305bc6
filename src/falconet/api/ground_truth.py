"""The images that a model is measured or compared on, with their ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from falconet.api.find import FoundModel
from falconet.api.require import require
from falconet.core.errors import ConfigError, DataError
from falconet.core.types import Record


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Images with their ground truth.

    Attributes:
        names: class names; empty where there is no ground truth.
        records: what can be used of the data.
        source: where they come from, for messages.
        notes: what was left out, and why.
    """

    names: tuple[str, ...]
    records: tuple[Record, ...]
    source: str
    notes: tuple[str, ...]

    def spread(self, count: int) -> Sequence[Record]:
        """At most `count` records, spread over all: images of one kind often lie side by side."""
        return self.records[:: max(1, len(self.records) // count)][:count]


def open_ground_truth(
    model: FoundModel, data: Path | None, images: Path | None, split: str | None, *, task: str
) -> GroundTruth:
    """The data named by a user, else the validation data of the run that `model` belongs to.

    Args:
        data: annotations with boxes, or of a classifier a folder of one folder of images per class.
        images, split: where the images are, and which part of the data is meant; not for a classifier.
        task: of the model.

    Raises:
        ConfigError: neither data nor a run, or options that mean nothing.
        DataError: the data cannot be read, or nothing of them can be used.
    """
    classifies = task == "classify"
    if images is not None or split is not None:
        option = "--images" if images is not None else "--split"
        if classifies:
            raise ConfigError(f"{option} belongs to data with boxes; of a classifier name one folder: --data FOLDER")
        if data is None:
            raise ConfigError(f"{option} needs --data ANNOTATIONS beside it")
    if data is not None:
        from falconet.data.folders import open_image_folder
        from falconet.data.formats import open_dataset
        from falconet.data.records import drop_invalid

        dataset, problems = (
            open_image_folder(data) if classifies else drop_invalid(open_dataset(data, images, split=split))
        )
        return GroundTruth(dataset.names, dataset.records, dataset.source, tuple(map(str, problems)))
    if model.run is None:
        what = (
            "--data FOLDER, which holds one folder of images per class"
            if classifies
            else "--data ANNOTATIONS --images FOLDER"
        )
        raise ConfigError(f"{model.path}: belongs to no training run, so there is no default data; add {what}")
    require(["torch"], extra="train", purpose="reading a training run")
    from falconet.train.run_data import load_data
    from falconet.train.run_folder import RunFolder

    loaded = load_data(RunFolder(model.run).read_run().data, image_level_labels=classifies)
    return GroundTruth(loaded.names, loaded.val, f"validation data of {model.run}", ())


def open_images(folder: Path) -> GroundTruth:
    """All images below a folder, without ground truth.

    Raises:
        DataError: there is none.
    """
    from falconet.core.images import is_picture
    from falconet.data.listing import unused, walk

    files = walk(folder)
    paths = [path for path in files if is_picture(path)]
    if not paths:
        raise DataError(f"{folder}: holds no images; expected a folder of JPEG or PNG files to compare on")
    boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    records = tuple(Record(str(path), path, None, None, boxes, labels, crowd) for path in paths)
    notes = unused(folder, (path for path in files if not is_picture(path)))
    return GroundTruth((), records, str(folder), tuple(map(str, notes)))
