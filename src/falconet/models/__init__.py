"""Networks, nothing else: backbones, necks, heads. Needs torch (`pip install 'falconet[train]'`)."""

from dataclasses import replace
from typing import Annotated, Union

from pydantic import Field

from falconet.core.manifest import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from falconet.models.backbones import (
    DarknetTinyConfig,
    MobileNetV2Config,
    MobileNetV3Config,
    ShuffleNetV2Config,
)
from falconet.models.classifier import Classifier, ClassifierConfig
from falconet.models.classifiers import CLASSIFIERS
from falconet.models.detector import Detector
from falconet.models.nanodet import NanoDetConfig, NanoDetHeadConfig, PANConfig
from falconet.models.nanodet_plus import GhostPANConfig, NanoDetPlusConfig, NanoDetPlusHeadConfig
from falconet.models.ppyoloe import PPYOLOEConfig, ppyoloe, ppyoloe_tiny
from falconet.models.yolov3 import TINY_ANCHORS, YOLOv3Config, YOLOv3HeadConfig, YOLOv3NeckConfig

MODELS: dict[str, type[NanoDetPlusConfig] | type[NanoDetConfig] | type[YOLOv3Config] | type[PPYOLOEConfig]] = {
    "nanodet-plus": NanoDetPlusConfig,
    "nanodet": NanoDetConfig,
    "yolov3": YOLOv3Config,
    "ppyoloe": PPYOLOEConfig,
}
"""Configurations of detectors by name, in the order of the documentation."""

ModelConfig = Annotated[Union[*MODELS.values(), ClassifierConfig], Field(discriminator="name")]
"""What `model:` in a run file may hold, told apart by `name`."""

_WIDE = {
    "backbone": ShuffleNetV2Config(width=1.5),
    "neck": GhostPANConfig(channels=128),
    "head": NanoDetPlusHeadConfig(channels=128),
}
_PADDED_320 = Preprocess(resize="letterbox", pad_value=0)
_PADDED_416 = Preprocess(height=416, width=416, resize="letterbox", pad_value=0)

_IMAGENET_RGB = Preprocess(resize="letterbox", channels="rgb", mean=IMAGENET_MEAN, std=IMAGENET_STD)
_IMAGENET_RGB_416 = replace(_IMAGENET_RGB, height=416, width=416)
_LITE = {
    "input": _IMAGENET_RGB,
    "neck": YOLOv3NeckConfig(channels=64, depthwise=True),
    "head": YOLOv3HeadConfig(center_reach=2.0, depthwise=True),
}

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
    "yolov3-darknet53": YOLOv3Config(),
    "yolov3-mobilenet-v2": YOLOv3Config(
        input=_IMAGENET_RGB_416, backbone=MobileNetV2Config(), head=YOLOv3HeadConfig(center_reach=2.0)
    ),
    "yolov3-spp": YOLOv3Config(neck=YOLOv3NeckConfig(spp=True)),
    "yolov3-tiny": YOLOv3Config(
        backbone=DarknetTinyConfig(out_stages=(3, 4)),
        neck=YOLOv3NeckConfig(convs=1, merged_convs=0),
        head=YOLOv3HeadConfig(anchors=TINY_ANCHORS, masks=((0, 1, 2), (3, 4, 5))),
    ),
    "yolov3-lite-mobilenet-v2": YOLOv3Config(backbone=MobileNetV2Config(), **_LITE),
    "yolov3-lite-mobilenet-v3-large": YOLOv3Config(backbone=MobileNetV3Config(), **_LITE),
    "yolov3-lite-mobilenet-v3-small": YOLOv3Config(backbone=MobileNetV3Config(variant="small"), **_LITE),
    "ppyoloe-s": ppyoloe("s", plus=False),
    "ppyoloe-m": ppyoloe("m", plus=False),
    "ppyoloe-l": ppyoloe("l", plus=False),
    "ppyoloe-x": ppyoloe("x", plus=False),
    "ppyoloe-plus-t-320": ppyoloe_tiny(side=320, relu=False),
    "ppyoloe-plus-t-relu-320": ppyoloe_tiny(side=320, relu=True),
    "ppyoloe-plus-t": ppyoloe_tiny(side=640, relu=False),
    "ppyoloe-plus-t-relu": ppyoloe_tiny(side=640, relu=True),
    "ppyoloe-plus-s": ppyoloe("s", plus=True),
    "ppyoloe-plus-m": ppyoloe("m", plus=True),
    "ppyoloe-plus-l": ppyoloe("l", plus=True),
    "ppyoloe-plus-x": ppyoloe("x", plus=True),
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
