"""Networks, nothing else: backbones, necks, heads. Needs torch (`pip install 'falconet[train]'`)."""

from typing import Annotated

from pydantic import Field

from falconet.core.manifest import Preprocess
from falconet.models.backbones import ShuffleNetV2Config
from falconet.models.classifier import Classifier, ClassifierConfig
from falconet.models.classifiers import CLASSIFIERS
from falconet.models.detector import Detector
from falconet.models.nanodet import NanoDetConfig, NanoDetHeadConfig, PANConfig
from falconet.models.nanodet_plus import GhostPANConfig, NanoDetPlusConfig, NanoDetPlusHeadConfig

ModelConfig = Annotated[NanoDetPlusConfig | NanoDetConfig | ClassifierConfig, Field(discriminator="name")]
"""What `model:` in a run file may hold, told apart by `name`."""

MODELS: dict[str, type[NanoDetPlusConfig] | type[NanoDetConfig]] = {
    "nanodet-plus": NanoDetPlusConfig,
    "nanodet": NanoDetConfig,
}
"""Configurations of detectors by name, in the order of the documentation."""

_WIDE = {
    "backbone": ShuffleNetV2Config(width=1.5),
    "neck": GhostPANConfig(channels=128),
    "head": NanoDetPlusHeadConfig(channels=128),
}
_PADDED_320 = Preprocess(resize="letterbox", pad_value=0)
_PADDED_416 = Preprocess(height=416, width=416, resize="letterbox", pad_value=0)

PRESETS: dict[str, ModelConfig] = {
    "nanodet-plus-m-320": NanoDetPlusConfig(),
    "nanodet-plus-m-416": NanoDetPlusConfig(input=Preprocess(height=416, width=416)),
    "nanodet-plus-m-1.5x-320": NanoDetPlusConfig(**_WIDE),
    "nanodet-plus-m-1.5x-416": NanoDetPlusConfig(input=Preprocess(height=416, width=416), **_WIDE),
    "nanodet-plus-demo": NanoDetPlusConfig(
        input=Preprocess(height=224, width=224),
        backbone=ShuffleNetV2Config(width=0.5),
        neck=GhostPANConfig(channels=64, kernel_size=3),
        head=NanoDetPlusHeadConfig(channels=64, kernel_size=3),
    ),
    "nanodet-m-320": NanoDetConfig(input=_PADDED_320),
    "nanodet-m-416": NanoDetConfig(input=_PADDED_416),
    "nanodet-m-1.5x": NanoDetConfig(
        input=_PADDED_416,
        backbone=ShuffleNetV2Config(width=1.5),
        neck=PANConfig(channels=128),
        head=NanoDetHeadConfig(channels=128),
    ),
}
"""Ready-made detectors by name; the classifiers are in `CLASSIFIERS`."""


Network = Detector | Classifier


def build(config: ModelConfig, num_classes: int) -> Network:
    """The detector or classifier that `config` describes, for `num_classes` classes, with fresh weights in
    training mode.

    Weights are drawn from torch's global generator: seed it for equal weights.
    """
    return config.build(num_classes)


__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "PRESETS",
    "Classifier",
    "ClassifierConfig",
    "Detector",
    "ModelConfig",
    "Network",
    "build",
]
