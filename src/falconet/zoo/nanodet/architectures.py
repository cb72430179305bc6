"""Which of our configurations a list of foreign convolutions may be, told from their shapes."""

from collections.abc import Mapping, Sequence

from falconet.core.manifest import Preprocess
from falconet.models.backbones import ShuffleNetV2Config
from falconet.models.backbones.shufflenet_v2 import STAGE_CHANNELS
from falconet.models.nanodet import NanoDetConfig, NanoDetHeadConfig, PANConfig
from falconet.models.nanodet_plus import GhostPANConfig, NanoDetPlusConfig, NanoDetPlusHeadConfig
from falconet.zoo.formats.ncnn_files import Layer


def candidates(
    architecture: str, convolutions: Sequence[Layer], preprocess: Preprocess, *, num_classes: int, bins: int
) -> list[NanoDetConfig | NanoDetPlusConfig]:
    """Configurations worth trying; exactly one fits, or none.

    Args:
        architecture: "nanodet-plus" or "nanodet".
        convolutions: with weights, in the order of computation.
        num_classes, bins: of the output end.
    """
    outputs = num_classes + 4 * bins
    ends = [layer.weights["weight"] for layer in convolutions if layer.weights["weight"].shape[0] == outputs]
    depthwise = [w for layer in convolutions if (w := layer.weights["weight"]).shape[1] == 1 and w.shape[2] > 1]
    if not ends or not depthwise:
        return []
    channels, kernel = ends[-1].shape[1], depthwise[-1].shape[2]
    head = {"channels": channels, "kernel_size": kernel, "reg_max": bins - 1}
    neck = {"channels": channels, "kernel_size": kernel}
    return [nanodet_config(architecture, preprocess, width=width, neck=neck, head=head) for width in STAGE_CHANNELS]


def nanodet_config(
    architecture: str, preprocess: Preprocess, *, width: float, neck: Mapping[str, int], head: Mapping[str, int]
) -> NanoDetConfig | NanoDetPlusConfig:
    """NanoDet ("nanodet", whose neck has channels alone) or NanoDet-Plus on ShuffleNetV2."""
    backbone = ShuffleNetV2Config.model_validate({"width": width})
    if architecture == "nanodet":
        pan, nano_head = PANConfig(channels=neck["channels"]), NanoDetHeadConfig.model_validate(head)
        return NanoDetConfig(input=preprocess, backbone=backbone, neck=pan, head=nano_head)
    ghost_pan, plus_head = GhostPANConfig.model_validate(neck), NanoDetPlusHeadConfig.model_validate(head)
    return NanoDetPlusConfig(input=preprocess, backbone=backbone, neck=ghost_pan, head=plus_head)
