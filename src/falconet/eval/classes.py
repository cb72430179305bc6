"""Match the classes of a data set and of a model by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from falconet.core.errors import DataError
from falconet.core.suggest import listed
from falconet.core.types import Detections, Ints


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """How labels of a model translate to labels of a data set.

    Attributes:
        names: of the data set.
        to_data: [C of the model] label in the data set; -1 where the data set does not know the class.
        note: what is worth telling; empty when both have the same classes.
    """

    names: tuple[str, ...]
    to_data: Ints
    note: str

    def apply(self, found: Detections) -> Detections:
        """Detections of the model with the data set's labels; those of other classes are left out."""
        labels = self.to_data[found.labels]
        keep = labels >= 0
        return Detections(found.boxes[keep], found.scores[keep], labels[keep], self.names)


def match(data_names: Sequence[str], model_names: Sequence[str], *, data: str, model: str) -> ClassMatch:
    """Match by name; the order may differ, and the model may know more classes than the data set.

    Args:
        data, model: what to call the two in a message.

    Raises:
        DataError: the data set has a class that the model does not know, so that its truth could never be
            found; the message names both lists.
    """
    unknown = [name for name in data_names if name not in model_names]
    if unknown:
        raise DataError(
            f"{data}: its classes do not fit the model: {listed(unknown, 100)} not known to {model}\n"
            f"  data set: {listed(data_names, 100)}\n"
            f"  model:    {listed(model_names, 100)}\n"
            "expected every class of the data set among those of the model, spelled the same: "
            "rename the classes of the data set, or evaluate a model trained on it"
        )
    position = {name: index for index, name in enumerate(data_names)}
    to_data = np.array([position.get(name, -1) for name in model_names], np.int64)
    return ClassMatch(tuple(data_names), to_data, _note(data_names, model_names))


def _note(data_names: Sequence[str], model_names: Sequence[str]) -> str:
    extra = [name for name in model_names if name not in data_names]
    if extra:
        return f"the model knows {len(extra)} classes the data set does not have; their detections are left out"
    if list(data_names) != list(model_names):
        return "the classes of data set and model come in different orders; they are matched by name"
    return ""
