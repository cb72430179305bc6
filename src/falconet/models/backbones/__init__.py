"""Backbones: images to features. Each states `channels` and `strides` of what it returns."""

from typing import Annotated, Union

from pydantic import Field

from falconet.core.config import Config
from falconet.models.backbones.cspresnet import CSPResNetConfig
from falconet.models.backbones.darknet import Darknet53Config, DarknetTinyConfig
from falconet.models.backbones.densenet import DenseNetConfig
from falconet.models.backbones.efficientnet import EfficientNetConfig, EfficientNetLiteConfig
from falconet.models.backbones.ghostnet import GhostNetConfig
from falconet.models.backbones.lcnet import LCNetConfig
from falconet.models.backbones.mnasnet import MnasNetConfig
from falconet.models.backbones.mobilenet_v1 import MobileNetV1Config
from falconet.models.backbones.mobilenet_v2 import MobileNetV2Config
from falconet.models.backbones.mobilenet_v3 import MobileNetV3Config
from falconet.models.backbones.mobilenet_v4 import MobileNetV4Config
from falconet.models.backbones.repvgg import RepVGGConfig
from falconet.models.backbones.shufflenet_v2 import ShuffleNetV2, ShuffleNetV2Config
from falconet.models.backbones.xception import XceptionConfig

BACKBONES: dict[str, type[Config]] = {
    "shufflenet-v2": ShuffleNetV2Config,
    "ghostnet": GhostNetConfig,
    "mobilenet-v1": MobileNetV1Config,
    "mobilenet-v2": MobileNetV2Config,
    "mobilenet-v3": MobileNetV3Config,
    "mobilenet-v4": MobileNetV4Config,
    "mnasnet": MnasNetConfig,
    "efficientnet": EfficientNetConfig,
    "efficientnet-lite": EfficientNetLiteConfig,
    "lcnet": LCNetConfig,
    "cspresnet": CSPResNetConfig,
    "repvgg": RepVGGConfig,
    "xception": XceptionConfig,
    "densenet": DenseNetConfig,
    "darknet53": Darknet53Config,
    "darknet-tiny": DarknetTinyConfig,
}
"""Backbone configurations by name, in the order of the documentation."""

BackboneConfig = Annotated[Union[*BACKBONES.values()], Field(discriminator="name")]
"""What `backbone:` in a run file may hold, told apart by `name`."""

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "CSPResNetConfig",
    "Darknet53Config",
    "DarknetTinyConfig",
    "DenseNetConfig",
    "EfficientNetConfig",
    "EfficientNetLiteConfig",
    "GhostNetConfig",
    "LCNetConfig",
    "MnasNetConfig",
    "MobileNetV1Config",
    "MobileNetV2Config",
    "MobileNetV3Config",
    "MobileNetV4Config",
    "RepVGGConfig",
    "ShuffleNetV2",
    "ShuffleNetV2Config",
    "XceptionConfig",
]
