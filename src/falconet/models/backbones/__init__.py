"""Backbones: images to features. Each states `channels` and `strides` of what it returns."""

from falconet.core.config import Config
from falconet.models.backbones.shufflenet_v2 import ShuffleNetV2, ShuffleNetV2Config

BACKBONES: dict[str, type[Config]] = {
    "shufflenet-v2": ShuffleNetV2Config,
}
"""Backbone configurations by name, in the order of the documentation."""

BackboneConfig = ShuffleNetV2Config
"""What `backbone:` in a run file may hold. A second family makes it a union told apart by `name`."""

__all__ = ["BACKBONES", "BackboneConfig", "ShuffleNetV2", "ShuffleNetV2Config"]
