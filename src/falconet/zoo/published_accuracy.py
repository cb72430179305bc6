"""What the originals state for their own weights: ImageNet top-1 of classifiers. Not measured by us."""

from typing import NamedTuple


class Stated(NamedTuple):
    """A published figure."""

    value: float
    """a fraction"""
    source: str


_TORCHVISION = "torchvision 0.29.1"
_PAPER_LCNET = "PP-LCNet, arXiv:2109.15099, without distillation"

IMAGENET_TOP1: dict[str, Stated] = {
    "shufflenet-v2-0.5": Stated(0.60552, f"{_TORCHVISION}, V1"),
    "shufflenet-v2-1.0": Stated(0.69362, f"{_TORCHVISION}, V1"),
    "shufflenet-v2-1.5": Stated(0.72996, f"{_TORCHVISION}, V1"),
    "shufflenet-v2-2.0": Stated(0.76230, f"{_TORCHVISION}, V1"),
    "ghostnet-0.5": Stated(0.662, "GhostNet, arXiv:1911.11907"),
    "ghostnet-1.0": Stated(0.739, "GhostNet, arXiv:1911.11907"),
    "ghostnet-1.3": Stated(0.757, "GhostNet, arXiv:1911.11907"),
    "mobilenet-v2-0.5": Stated(0.660, "timm mobilenetv2_050.lamb_in1k"),
    "mobilenet-v2-1.0": Stated(0.71878, f"{_TORCHVISION}, V1"),
    "mobilenet-v2-1.4": Stated(0.765, "timm mobilenetv2_140.ra_in1k"),
    "mobilenet-v3-large": Stated(0.74042, f"{_TORCHVISION}, V1"),
    "mobilenet-v3-small": Stated(0.67668, f"{_TORCHVISION}, V1"),
    "mobilenet-v4-conv-s": Stated(0.738, "MobileNetV4, arXiv:2404.10518"),
    "mnasnet-0.5": Stated(0.67734, f"{_TORCHVISION}, V1"),
    "mnasnet-0.75": Stated(0.71180, f"{_TORCHVISION}, V1"),
    "mnasnet-1.0": Stated(0.73456, f"{_TORCHVISION}, V1"),
    "mnasnet-1.3": Stated(0.76506, f"{_TORCHVISION}, V1"),
    "efficientnet-b0": Stated(0.77692, f"{_TORCHVISION}, V1"),
    "efficientnet-b1": Stated(0.786, "timm tf_efficientnet_b1.in1k"),
    "efficientnet-b2": Stated(0.80608, f"{_TORCHVISION}, V1, at 288 pixels"),
    "efficientnet-b3": Stated(0.82008, f"{_TORCHVISION}, V1"),
    "efficientnet-b4": Stated(0.83384, f"{_TORCHVISION}, V1"),
    "efficientnet-lite0": Stated(0.751, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite1": Stated(0.767, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite2": Stated(0.776, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite3": Stated(0.798, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite4": Stated(0.815, "tensorflow/tpu, efficientnet/lite, float32"),
    "lcnet-0.25": Stated(0.519, _PAPER_LCNET),
    "lcnet-0.35": Stated(0.581, _PAPER_LCNET),
    "lcnet-0.5": Stated(0.631, _PAPER_LCNET),
    "lcnet-0.75": Stated(0.682, _PAPER_LCNET),
    "lcnet-1.0": Stated(0.713, _PAPER_LCNET),
    "lcnet-1.5": Stated(0.737, _PAPER_LCNET),
    "lcnet-2.0": Stated(0.752, _PAPER_LCNET),
    "lcnet-2.5": Stated(0.766, _PAPER_LCNET),
    "cspresnet-50": Stated(0.796, "timm cspresnet50.ra_in1k"),
    "darknet53": Stated(0.805, "timm darknet53.c2ns_in1k, at 288 pixels"),
}
"""By name of the classifier; others are published for none, or not known here."""
