"""What an import hands back: a detector, its card, and an honest report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess, Selection
from falconet.core.suggest import listed
from falconet.core.terminal import one_line
from falconet.models import ModelConfig
from falconet.models.detector import Detector
from falconet.models.weights import ModelCard, save_weights
from falconet.zoo.parity import Parity

ModelT = TypeVar("ModelT", bound=ModelConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What foreign files may not say of themselves.

    Attributes:
        preprocess: input size and normalisation; of formats that state the one or know the other, the rest counts.
        config: of the model where it is known (from the original's YAML), for checkpoints; None tells it from the file.
        classes: names in the order of training; None is right for the 80 of COCO only, of YOLOv3 also the 20 of VOC.
        source: where the weights come from; empty takes the file's name.
        licence: of the weights.
    """

    preprocess: Preprocess | None = None
    config: ModelConfig | None = None
    classes: Sequence[str] | None = None
    source: str = ""
    licence: str = ""

    def card(self, model: ModelConfig, names: tuple[str, ...], file: str) -> ModelCard:
        """What the weights file will say about itself."""
        selection = getattr(model, "selection", Selection())
        return ModelCard(
            model=model, classes=names, selection=selection, source=self.source or file, licence=self.licence
        )

    def resized(self, model: ModelT) -> ModelT:
        """`model` with the input size that was asked for."""
        if self.preprocess is None:
            return model
        size = replace(model.input, height=self.preprocess.height, width=self.preprocess.width)
        return model.model_copy(update={"input": size})


NO_OPTIONS = ImportOptions()


@dataclass(frozen=True)
class Imported:
    """Foreign weights in our form.

    Attributes:
        detector: in eval mode.
        card: its configuration, class names, source and licence.
        extra: tensors of the criterion's auxiliary branch, by name; may be empty.
        matched: tensors (or convolutions with their norms) that found their place.
        left_over: names in the file that have no place, with why.
        fresh: of ours, not in the file.
        notes: what else is worth telling, such as the choice of averaged weights.
        parity: against the file itself where it can be run.
    """

    detector: Detector
    card: ModelCard
    matched: int
    extra: dict[str, Tensor] = field(default_factory=dict)
    left_over: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parity: Parity | None = None

    def save(self, path: Path) -> None:
        """Write the weights file; its folder is created. Raises ModelError as `save_weights` does."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"{path.parent}: cannot be created: {error.strerror}") from error
        card = self.card.model_copy(update={"trained": "backbone"}) if self.fresh else self.card
        save_weights(path, self.detector, card, extra=self.extra)

    def report(self) -> list[str]:
        """The lines to print."""
        size = self.card.model.input
        auxiliary = f", and {len(self.extra)} of the auxiliary branch" if self.extra else ""
        lines = [
            f"architecture  {self.card.model.name}, input {size.height} x {size.width}",
            f"classes       {len(self.card.classes)}: {one_line(listed(self.card.classes, 6), longest=400)}",
            f"matched       {self.matched}{auxiliary}",
            f"left over     {_counted(self.left_over)}",
        ]
        if self.fresh:
            lines.append(f"not in file   {_counted(self.fresh)}")
        lines += [f"note          {note}" for note in self.notes]
        parity = "no reference that could be run" if self.parity is None else str(self.parity)
        return [*lines, f"parity        {parity}"]


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {one_line(listed(names, 4), longest=400)}" if names else "nothing"
