"""What travels inside an exported model or a weights file: enough to use it without any other file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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

    def __post_init__(self) -> None:
        Value.__post_init__(self)
        if not 0 < len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"classes: expected 1 to {MOST_CLASSES} names, but got {len(self.classes)}")
        check_names(self.classes)


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
