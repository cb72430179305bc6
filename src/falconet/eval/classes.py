"""Match the classes of a data set and of a model by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from falconet.core.errors import DataError
from falconet.core.suggest import listed, spelling
from falconet.core.types import Detections, Ints

T = TypeVar("T")


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

    def of_data(self, values: Sequence[T]) -> list[T]:
        """Values of the model's classes [C], in the order of the data set's."""
        position = {label: index for index, label in enumerate(self.to_data.tolist())}
        return [values[position[label]] for label in range(len(self.names))]


def match(data_names: Sequence[str], model_names: Sequence[str], *, data: str, model: str) -> ClassMatch:
    """Match by name; the order may differ, and the model may know more classes than the data set.

    Names that differ in blanks and underscores only are the same: NanoDet's `traffic_light` is COCO's `traffic light`.

    Args:
        data, model: what to call the two in a message.

    Raises:
        DataError: the data set has a class that the model does not know, so that its truth could never be
            found; the message names both lists.
    """
    own, model_names = model_names, _respelt(model_names, data_names)
    unknown = [name for name in data_names if name not in model_names]
    if unknown:
        raise DataError(
            f"{data}: its classes do not fit the model: {listed(unknown, 100)} not known to {model}\n"
            f"  data set: {listed(data_names, 100)}\n"
            f"  model:    {listed(own, 100)}\n"
            "expected every class of the data set among those of the model, spelled the same: "
            "rename the classes of the data set, or evaluate a model trained on it"
        )
    position = {name: index for index, name in enumerate(data_names)}
    to_data = np.array([position.get(name, -1) for name in model_names], np.int64)
    notes = [_note(data_names, model_names)]
    if renamed := [f"{old} is {new}" for old, new in zip(own, model_names, strict=True) if old != new]:
        notes.append(f"names that differ in blanks and underscores only are taken for the same: {listed(renamed, 5)}")
    return ClassMatch(tuple(data_names), to_data, "; ".join(filter(None, notes)))


def _respelt(model_names: Sequence[str], data_names: Sequence[str]) -> list[str]:
    """The model's names, spelled as the data set does; as they are where two would become one."""
    there = {spelling(name): name for name in data_names}
    respelt = [there.get(spelling(name), name) for name in model_names]
    unique = len(there) == len(data_names) and len(set(respelt)) == len(respelt)
    return respelt if unique else list(model_names)


def _note(data_names: Sequence[str], model_names: Sequence[str]) -> str:
    extra = [name for name in model_names if name not in data_names]
    if extra:
        return f"the model knows {len(extra)} classes the data set does not have; their detections are left out"
    if list(data_names) != list(model_names):
        return "the classes of data set and model come in different orders; they are matched by name"
    return ""
