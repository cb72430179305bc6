"""The images that a model is measured or compared on, with their ground truth."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from falconet.api.find import FoundModel
from falconet.api.require import require
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.figures import plural
from falconet.core.run_files import find_weights
from falconet.core.suggest import listed
from falconet.core.types import Record
from falconet.exporting.receipt import exported_from

if TYPE_CHECKING:
    from falconet.data.dataset import DataSet
    from falconet.training.run_config import Data

_log = logging.getLogger(__name__)


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
    """The data named by a user, else those that the model was validated on, as its weights or its run say.

    Where it learnt from some of these pictures, a note says so.

    Args:
        data: annotations with boxes, or of a classifier a folder of one folder of images per class.
        images, split: where the images are, and which part of the data is meant; not for a classifier.
        task: of the model.

    Raises:
        ConfigError: neither data nor weights that know theirs, or options that mean nothing.
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
        dataset, left_out = _of_chosen_classes(model, dataset, classifies=classifies)
        known = trained_on(model, dataset.records)
        return GroundTruth(dataset.names, dataset.records, dataset.source, (*known, *left_out, *map(str, problems)))
    weights = _weights_of(model)
    if weights is None and model.run is None:
        what = (
            "--data FOLDER, which holds one folder of images per class"
            if classifies
            else "--data ANNOTATIONS --images FOLDER"
        )
        raise ConfigError(f"{model.path}: belongs to no training run, so there is no default data; add {what}")
    require(["torch"], extra="train", purpose="reading a training run")
    from falconet.training.run_data import load_data

    source, settings = _data_of(model, weights)
    try:
        loaded = load_data(settings, image_level_labels=classifies)
    except DataError as error:
        raise DataError(
            f"{error}\n{source} was trained and measured on these data; where they lie elsewhere now, add --data "
            "ANNOTATIONS"
        ) from error
    return GroundTruth(loaded.names, loaded.val, f"validation data of {source}", trained_on(model, loaded.val))


def _weights_of(model: FoundModel) -> Path | None:
    """The weights file that the model is, that it was exported from, or that lies in its run's folder; None where there
    is none."""
    if model.path.suffix == ".safetensors":
        return model.path
    if model.run is None:
        return exported_from(model.path)
    try:
        return find_weights(model.run)
    except ModelError:
        return None


def _data_of(model: FoundModel, weights: Path | None) -> tuple[Path, "Data"]:
    """Whose validation data these are, and the run's data, as the weights say it themselves.

    Weights of earlier versions say nothing; for these the run file beside them does.
    """
    from falconet.core.config import validate
    from falconet.models.weights import read_card
    from falconet.training.run_config import Data
    from falconet.training.run_folder import RunFolder

    said = {} if weights is None else read_card(weights).data
    written = None if model.run is None else RunFolder(model.run).read_run().data
    if not said and written is not None:
        return model.run or model.path, written
    if not said:
        raise ConfigError(
            f"{model.path}: does not say which data it was measured on; add --data ANNOTATIONS (and --images FOLDER)"
        )
    own = validate(Data, said, name=str(weights))
    if written is not None and (written.train, written.val, written.val_fraction) != (
        own.train,
        own.val,
        own.val_fraction,
    ):
        _log.warning(
            "%s: its run.yaml names other data than these weights were trained and measured on; those of the weights "
            "are taken",
            model.run,
        )
    return model.run or weights, own


def _of_chosen_classes(model: FoundModel, dataset: "DataSet", *, classifies: bool) -> tuple["DataSet", tuple[str, ...]]:
    """The data with the classes that the model was trained for, where its run chose some of them; and a note."""
    weights = _weights_of(model)
    if weights is None or find_spec("torch") is None:
        return dataset, ()
    from falconet.models.weights import read_card

    chosen = read_card(weights).data.get("classes") or dataset.names
    known = [name for name in chosen if name in dataset.names]
    others = [name for name in dataset.names if name not in chosen]
    if not others or not known:
        return dataset, ()
    dataset, gone = dataset.only(known)
    if classifies:
        dataset = replace(dataset, records=tuple(record for record in dataset.records if len(record.labels)))
    what = plural(gone, "picture") if classifies else plural(gone, "box", "boxes")
    return dataset, (
        f"{what} of classes that data.classes of the training did not name are left out: {listed(others, 10)}",
    )


def trained_on(model: FoundModel, records: Sequence[Record]) -> tuple[str, ...]:
    """A warning where the model learnt from some of these pictures."""
    weights = _weights_of(model)
    if weights is None or find_spec("torch") is None:
        return ()
    from falconet.data.fingerprint import fingerprints
    from falconet.models.weights import load_trained_on

    learnt = load_trained_on(weights)
    if learnt is None:
        return ()
    count = int(np.isin(fingerprints(records), learnt).sum())
    if not count:
        return ()
    return (
        f"{count} of {len(records)} pictures were trained on (same file name and size): figures on them are better "
        "than on new pictures",
    )


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
