"""What travels inside an exported model or a weights file: enough to use it without any other file."""

from typing import Literal

from pydantic import Field, PositiveFloat, ValidationError

from falconet.core.errors import ModelError
from falconet.core.resize import ResizeRule
from falconet.core.strict import Config

MANIFEST_KEY = "falconet"


class Preprocess(Config):
    """From a picture's pixels to the network input.

    Defaults are those of NanoDet: stretch, blue-green-red, ImageNet mean and standard deviation.
    """

    height: int = Field(default=320, ge=32, description="network input, pixels")
    width: int = Field(default=320, ge=32, description="network input, pixels")
    resize: ResizeRule = "stretch"
    pad_value: int = Field(default=114, ge=0, le=255, description="fill of the letterbox, 0..255")
    channels: Literal["bgr", "rgb"] = Field(default="bgr", description="order in which the network sees channels")
    mean: tuple[float, float, float] = Field(
        default=(103.53, 116.28, 123.675), description="0..255, in the order of `channels`"
    )
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        default=(57.375, 57.12, 58.395), description="0..255, in the order of `channels`"
    )


class Selection(Config):
    """From scored boxes to detections; see `falconet.core.select`."""

    score_threshold: float = Field(default=0.25, ge=0, le=1, description="detections score above this")
    iou_threshold: float = Field(default=0.6, ge=0, le=1, description="of NMS within a class")
    max_candidates: int = Field(default=1000, ge=1, description="best (box, class) pairs that enter NMS")
    max_detections: int = Field(default=100, ge=1, description="per picture")


EVALUATION = Selection(score_threshold=0.05)
"""The protocol of published COCO figures of this family: score above 0.05, NMS 0.6, best 100 per picture."""


class Manifest(Config):
    """The description inside an exported model (metadata key "falconet", as JSON)."""

    format: Literal[1] = 1
    task: Literal["detect"] = "detect"
    model: str = Field(description="architecture, as in the run file")
    classes: tuple[str, ...]
    preprocess: Preprocess
    selection: Selection = Selection()
    falconet_version: str
    source: str = Field(default="", description="where the weights come from")
    licence: str = Field(default="", description="licence of the weights")


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
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ModelError(
            f"{name}: its manifest cannot be read ({where}: {problem['msg']}); "
            "it may come from another version of Falconet: export the model again"
        ) from error
