"""Classifications and truth to numbers: how often the true class is the best, or among the best five."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from falconet.core.types import Floats, Ints

KEPT = 5
"""Best classes of a picture that count."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What came out; shares are fractions.

    Attributes:
        top1, top5: share of pictures whose true class is the best, or one of the best five. With fewer than six
            classes the latter is 1.
        per_class: top-1 of each class that has pictures.
        counts: pictures of each class.
        confusions: (true class, said class, pictures), the most frequent first; wrong ones only.
        images: pictures that were counted.
    """

    top1: float
    top5: float
    per_class: dict[str, float]
    counts: dict[str, int]
    confusions: tuple[tuple[str, str, int], ...]
    images: int

    def as_dict(self) -> dict[str, float]:
        """The two figures by name."""
        return {"top1": self.top1, "top5": self.top5}


def best_classes(probabilities: Floats, *, count: int = KEPT) -> Ints:
    """Indices of the `count` most probable classes of each row [B, C], best first; of equal ones the lower first."""
    return np.argsort(-probabilities, axis=-1, kind="stable")[..., :count].astype(np.int64)


def measure_accuracy(names: Sequence[str], labels: Sequence[int], ranked: Sequence[Ints]) -> Accuracy:
    """The accuracy over pictures; without any, both figures are 0.

    Args:
        names: of the classes.
        labels: the true class of each picture.
        ranked: aligned: classes of each picture, best first, as `best_classes` gives them.
    """
    if len(labels) != len(ranked):
        raise ValueError(f"labels and ranked must be aligned, but have {len(labels)} and {len(ranked)} entries")
    first = [int(best[0]) for best in ranked]
    right = [said == label for said, label in zip(first, labels, strict=True)]
    among = [label in best[:KEPT] for best, label in zip(ranked, labels, strict=True)]
    counts, hits = Counter(labels), Counter(label for label, hit in zip(labels, right, strict=True) if hit)
    wrong = Counter((label, said) for label, said in zip(labels, first, strict=True) if label != said)
    total = max(1, len(labels))
    return Accuracy(
        top1=sum(right) / total,
        top5=sum(among) / total,
        per_class={name: hits[c] / counts[c] for c, name in enumerate(names) if counts[c]},
        counts={name: counts[c] for c, name in enumerate(names) if counts[c]},
        confusions=tuple((names[true], names[said], number) for (true, said), number in wrong.most_common()),
        images=len(labels),
    )
