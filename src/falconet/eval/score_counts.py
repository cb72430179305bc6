"""Detections of all classes by their score, and the objects that there are to find, picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from falconet.eval.matching import ClassMatches

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Detections by descending score, those in crowds apart.

    Attributes:
        scores, right, images, labels: [D]; whether they find an object, their picture and class.
        objects: [C, N] of each class in each picture.
    """

    scores: Floats
    right: NDArray[np.bool_]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    objects: Floats

    @classmethod
    def of(cls, matches: Sequence[ClassMatches]) -> "Counts":
        kept = [~one.ignored[0] for one in matches]
        pairs = list(zip(matches, kept, strict=True))
        scores = np.concatenate([np.zeros(0), *(one.scores[keep] for one, keep in pairs)])
        order = np.argsort(-scores, kind="stable")
        right = np.concatenate([np.zeros(0, np.bool_), *(one.right[0][keep] for one, keep in pairs)])
        images = np.concatenate([np.zeros(0, np.int64), *(one.images[keep] for one, keep in pairs)])
        labels = np.repeat(np.arange(len(matches)), [int(keep.sum()) for keep in kept])
        objects = np.stack([one.objects[0] for one in matches]) if matches else np.zeros((0, 0))
        return cls(scores[order], right[order], images[order], labels[order], objects.astype(np.float64))

    def in_pictures(self, which: NDArray[np.bool_]) -> Floats:
        """[C, N] how many of some detections [D] there are of each class in each picture."""
        classes, images = self.objects.shape
        flat = np.bincount(self.labels[which] * images + self.images[which], minlength=classes * images)
        return flat.reshape(classes, images).astype(np.float64)

    def of_images(self, chosen: NDArray[np.bool_]) -> "Counts":
        """Those in some of the pictures [N]."""
        kept = chosen[self.images]
        return Counts(self.scores[kept], self.right[kept], self.images[kept], self.labels[kept], self.objects * chosen)

    def of_class(self, label: int) -> "Counts":
        """Those of one class."""
        kept, own = self.labels == label, np.zeros_like(self.objects)
        own[label] = self.objects[label]
        return Counts(self.scores[kept], self.right[kept], self.images[kept], self.labels[kept], own)
