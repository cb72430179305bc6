"""What travels inside an exported model or a weights file: enough to use it without any other file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from falconet.core.errors import ModelError
from falconet.core.values import Value, setting

MANIFEST_KEY = "falconet"

MANIFEST_FILE = "falconet.json"
"""Its name in an archive."""

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Red, green, blue, 0..255."""

LARGEST_SIDE = 8192
"""Of a network's input, pixels; a file that says more is damaged."""

MOST_CLASSES = 100_000

ResizeRule = Literal["stretch", "letterbox"]

Target = Literal["precision", "iou"]
"""What scores are to say: the share of detections that are right; or their mean IoU, 0 for those that are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess(Value):
    """From a picture's pixels to the network input.

    Defaults are those of NanoDet: stretch, blue-green-red, ImageNet mean and standard deviation.
    """

    height: int = setting(320, ge=32, le=LARGEST_SIDE, description="network input, pixels")
    width: int = setting(320, ge=32, le=LARGEST_SIDE, description="network input, pixels")
    resize: ResizeRule = "stretch"
    pad_value: int = setting(114, ge=0, le=255, description="fill of the letterbox, 0..255")
    channels: Literal["bgr", "rgb"] = setting("bgr", description="order in which the network sees channels")
    mean: tuple[float, float, float] = setting(IMAGENET_MEAN[::-1], description="0..255, in the order of `channels`")
    std: tuple[float, float, float] = setting(
        IMAGENET_STD[::-1], description="0..255, in the order of `channels`; above 0"
    )

    def __post_init__(self) -> None:
        Value.__post_init__(self)
        if min(self.std) <= 0:
            raise ValueError(f"std: expected values above 0, but got {list(self.std)}")
        if min(self.std) < 1e-6 or max(map(abs, (*self.mean, *self.std))) > 1e6:
            raise ValueError(f"mean, std: expected values of pixels, but got {list(self.mean)}, {list(self.std)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Value):
    """From scored boxes to detections; see `falconet.core.select`."""

    score_threshold: float = setting(0.25, ge=0, le=1, description="detections score above this")
    iou_threshold: float = setting(0.6, ge=0, le=1, description="of NMS within a class")
    max_candidates: int = setting(1000, ge=1, le=100_000, description="best (box, class) pairs that enter NMS")
    max_detections: int = setting(100, ge=1, le=100_000, description="per picture")


EVALUATION = Selection(score_threshold=0.05)
"""The protocol of NanoDet's published COCO figures: score above 0.05, NMS 0.6, best 100 per picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap(Value):
    """What the scores of a class are told as: straight lines between points, from score 0 to score 1."""

    scores: tuple[float, ...] = setting(description="of the network, ascending from 0 to 1")
    probabilities: tuple[float, ...] = setting(description="what they are told as, ascending within 0 and 1")

    def __post_init__(self) -> None:
        Value.__post_init__(self)
        if len(self.scores) != len(self.probabilities) or self.scores[:1] != (0.0,) or self.scores[-1:] != (1.0,):
            raise ValueError("scores: expected those of as many probabilities, from 0 to 1")
        for values in (self.scores, self.probabilities):
            if any(high <= low for low, high in pairwise(values)):
                raise ValueError("scores, probabilities: expected ascending values, or the order of boxes would change")
        if self.probabilities[0] < 0 or self.probabilities[-1] > 1:
            raise ValueError("probabilities: expected values from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoint(Value):
    """Thresholds that do what somebody wanted; see `falconet.eval.wanted_point`."""

    name: str = setting(description='what was wanted, as in "recall=0.95"')
    thresholds: tuple[float, ...] = setting(description="one per class, 0 to 1; detections score above")

    def __post_init__(self) -> None:
        Value.__post_init__(self)
        if not all(0 <= one <= 1 for one in self.thresholds):
            raise ValueError("thresholds: expected values from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Value):
    """The description inside an exported model (metadata key "falconet", as JSON)."""

    format: Literal[1] = 1
    task: Literal["detect", "classify"] = "detect"
    model: str = setting(description="architecture, as in the run file")
    classes: tuple[str, ...]
    preprocess: Preprocess
    selection: Selection = Selection()
    falconet_version: str
    source: str = setting("", description="where the weights come from")
    licence: str = setting("", description="licence of the weights")
    calibration: tuple[ScoreMap, ...] = setting((), description="what scores are told as; one per class, or none")
    calibrated_score_threshold: float = setting(0.0, ge=0, le=1, description="that of `selection`, after calibration")
    operating_points: tuple[StoredPoint, ...] = setting((), description="of `falconet calibrate`")
    calibration_target: Literal["precision", "iou"] = setting("precision", description="what calibrated scores say")

    def __post_init__(self) -> None:
        Value.__post_init__(self)
        if not 0 < len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"classes: expected 1 to {MOST_CLASSES} names, but got {len(self.classes)}")
        check_names(self.classes)
        check_scores(self.calibration, self.operating_points, len(self.classes))

    @property
    def told_selection(self) -> Selection:
        """`selection` with the threshold of the scores that are told; the two differ where these are calibrated."""
        if not self.calibration:
            return self.selection
        return replace(self.selection, score_threshold=self.calibrated_score_threshold)

    def to_json(self) -> str:
        """JSON text; what is empty is left out, so that versions before it read the file."""
        tree = {key: value for key, value in asdict(self).items() if key not in ADDED or value != ADDED[key]}
        return json.dumps(tree, ensure_ascii=False)


ADDED: dict[str, Any] = {
    "calibration": (),
    "calibrated_score_threshold": 0.0,
    "operating_points": (),
    "calibration_target": "precision",
}
"""Keys that files of older versions have not, and what they mean there."""


def check_scores(calibration: Sequence[ScoreMap], points: Sequence[StoredPoint], classes: int) -> None:
    """Raise ValueError where score maps or thresholds are not those of so many classes."""
    if len(calibration) not in (0, classes):
        raise ValueError(f"calibration: expected a map for each of {classes} classes, but got {len(calibration)}")
    for one in points:
        if len(one.thresholds) != classes:
            raise ValueError(
                f"operating_points: expected {classes} thresholds for {one.name!r}, but got {len(one.thresholds)}"
            )


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError where a class name is none: half of a character in it, or more than one line."""
    for index, name in enumerate(names):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"classes.{index}: expected a text, but got half of a character: {name!a}")
        if name.splitlines() not in ([], [name]):
            raise ValueError(f"classes.{index}: expected a name in one line, but got {name[:60]!a}")


def read_manifest(text: str | None, name: str) -> Manifest:
    """The manifest in the metadata of the file `name`.

    Raises:
        ModelError: no manifest, or one that this version cannot read.
    """
    if not text:
        raise ModelError(
            f"{name}: carries no Falconet manifest, so its input size, classes and resize rule are unknown; "
            "expected a file written by 'falconet export'"
        )
    try:
        return Manifest.from_tree(json.loads(text))
    except (ValueError, RecursionError) as error:  # also of JSON that is none, or nests too deep
        raise ModelError(
            f"{name}: its manifest cannot be read ({error}); "
            "it may come from another version of Falconet: export the model again"
        ) from error
