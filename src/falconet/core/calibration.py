"""What the scores of a detector are told as, and above which a detection counts, class by class.

Boxes are chosen among each other by the network's own scores. What is left is told with calibrated ones: of many
detections that score 0.8, eight in ten are right. Within a class the order stays, so AP does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from falconet.core.manifest import ScoreMap, Selection
from falconet.core.types import Detections, Floats

ROUNDING = 1e-5
"""By which a threshold may miss the score that it stands for, there and back."""


NUMBER = re.compile(r"(?<![\w.])(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?![\w.])")


def calibrated(scores: Floats, labels: Sequence[int] | np.ndarray, maps: Sequence[ScoreMap]) -> Floats:
    """[N] what scores [N] of classes [N] are told as; `maps` has one for each class."""
    told = np.array(scores, np.float32)
    for label in np.unique(labels).tolist():
        own = np.asarray(labels) == label
        told[own] = np.interp(told[own], maps[label].scores, maps[label].probabilities)
    return told


def same_point(name: str) -> str:
    """The name of an operating point in one form: "Recall = 0.80" is "recall=0.8"."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.12g}", "".join(name.split()).lower())


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """Calibrated scores and thresholds for detections that were chosen by the network's own.

    Attributes:
        maps: one per class, or none.
        thresholds: [C] above which a detection counts, in calibrated scores.
        most: detections of a picture.
    """

    maps: tuple[ScoreMap, ...]
    thresholds: Floats
    most: int

    def wide(self, selection: Selection) -> Selection:
        """`selection` with a threshold on the network's own scores that lets all in which count."""
        least = self.thresholds
        if self.maps:
            pairs = zip(self.thresholds.tolist(), self.maps, strict=True)
            least = np.array([np.interp(one, row.probabilities, row.scores) for one, row in pairs])
        own = max(0.0, float(least.min()) - ROUNDING)
        return replace(selection, score_threshold=own, max_detections=selection.max_candidates)

    def apply(self, found: Detections) -> Detections:
        """The detections that count, with calibrated scores, the best first."""
        scores = calibrated(found.scores, found.labels, self.maps) if self.maps else found.scores
        kept = np.flatnonzero(scores > self.thresholds[found.labels])
        order = kept[np.argsort(-scores[kept], kind="stable")][: self.most]
        return replace(found, boxes=found.boxes[order], scores=scores[order], labels=found.labels[order])
