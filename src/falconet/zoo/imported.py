"""What an import hands back: a detector, its card, and an honest report."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from falconet.core.errors import ModelError
from falconet.models.detector import Detector
from falconet.models.weights import Card, save_weights
from falconet.zoo.parity import Parity


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
    card: Card
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
        save_weights(path, self.detector, self.card, extra=self.extra)

    def report(self) -> list[str]:
        """The lines to print."""
        size = self.card.model.input
        auxiliary = f", and {len(self.extra)} of the auxiliary branch" if self.extra else ""
        lines = [
            f"architecture  {self.card.model.name}, input {size.height} x {size.width}",
            f"classes       {len(self.card.classes)}: {_some(self.card.classes, 6)}",
            f"matched       {self.matched}{auxiliary}",
            f"left over     {_counted(self.left_over)}",
        ]
        if self.fresh:
            lines.append(f"not in file   {_counted(self.fresh)}")
        lines += [f"note          {note}" for note in self.notes]
        parity = "no reference that could be run" if self.parity is None else str(self.parity)
        return [*lines, f"parity        {parity}"]


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {_some(names, 4)}" if names else "nothing"


def _some(names: tuple[str, ...], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
