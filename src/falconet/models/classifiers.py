"""The published classifiers by name: each backbone with the head, input size and pixel scale of its original."""

from typing import Literal

from falconet.core.manifest import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from falconet.models.backbones import (
    BackboneConfig,
    CSPResNetConfig,
    Darknet53Config,
    DenseNetConfig,
    EfficientNetConfig,
    EfficientNetLiteConfig,
    GhostNetConfig,
    LCNetConfig,
    MnasNetConfig,
    MobileNetV1Config,
    MobileNetV2Config,
    MobileNetV3Config,
    MobileNetV4Config,
    RepVGGConfig,
    ShuffleNetV2Config,
    XceptionConfig,
)
from falconet.models.backbones.efficientnet import LITE_SCALES, SCALES
from falconet.models.backbones.repvgg import SCALES as REPVGG_SCALES
from falconet.models.classifier import ClassifierConfig, ClassifierHeadConfig
from falconet.models.layers import Activation

HALF = (127.5, 127.5, 127.5)
"""Mean and scale of networks that see pixels from -1 to 1."""


def _classifier(
    backbone: BackboneConfig,
    *,
    size: int = 224,
    hidden: int | None = None,
    hidden_norm: bool = False,
    activation: Activation = "relu",
    dropout: float = 0.0,
    pixels: Literal["imagenet", "half"] = "imagenet",
) -> ClassifierConfig:
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if pixels == "imagenet" else (HALF, HALF)
    return ClassifierConfig(
        input=Preprocess(height=size, width=size, channels="rgb", mean=mean, std=std),
        backbone=backbone,
        head=ClassifierHeadConfig(
            hidden_channels=hidden, hidden_norm=hidden_norm, activation=activation, dropout=dropout
        ),
    )


CLASSIFIERS: dict[str, ClassifierConfig] = {
    **{
        f"shufflenet-v2-{width}": _classifier(
            ShuffleNetV2Config(width=width, out_stages=(4,), activation="relu", with_last_conv=True)
        )
        for width in (0.5, 1.0, 1.5, 2.0)
    },
    **{
        f"ghostnet-{width}": _classifier(GhostNetConfig(width=width, out_stages=(9,)), hidden=1280, dropout=0.2)
        for width in (0.5, 1.0, 1.3)
    },
    **{
        f"mobilenet-v1-{width}": _classifier(MobileNetV1Config(width=width, out_stages=(4,)))
        for width in (0.25, 0.5, 0.75, 1.0)
    },
    **{
        f"mobilenet-v2-{width}": _classifier(
            MobileNetV2Config(width=width, out_stages=(6,), with_last_conv=True), dropout=0.2
        )
        for width in (0.35, 0.5, 0.75, 1.0, 1.4)
    },
    "mobilenet-v3-large": _classifier(
        MobileNetV3Config(variant="large", out_stages=(5,), with_last_conv=True),
        hidden=1280,
        activation="hard-swish",
        dropout=0.2,
    ),
    "mobilenet-v3-small": _classifier(
        MobileNetV3Config(variant="small", out_stages=(4,), with_last_conv=True),
        hidden=1024,
        activation="hard-swish",
        dropout=0.2,
    ),
    "mobilenet-v4-conv-s": _classifier(
        MobileNetV4Config(out_stages=(3,), with_last_conv=True), hidden=1280, hidden_norm=True
    ),
    **{
        f"mnasnet-{width}": _classifier(MnasNetConfig(width=width, out_stages=(6,), with_last_conv=True), dropout=0.2)
        for width in (0.5, 0.75, 1.0, 1.3)
    },
    "mnasnet-a1": _classifier(MnasNetConfig(variant="a1", out_stages=(6,), with_last_conv=True), dropout=0.2),
    **{
        f"efficientnet-{variant}": _classifier(
            EfficientNetConfig(variant=variant, out_stages=(6,), with_last_conv=True),
            size=scale.resolution,
            dropout=scale.dropout,
        )
        for variant, scale in SCALES.items()
    },
    **{
        f"efficientnet-{variant}": _classifier(
            EfficientNetLiteConfig(variant=variant, out_stages=(6,), with_last_conv=True),
            size=scale.resolution,
            dropout=scale.dropout,
            pixels="half",
        )
        for variant, scale in LITE_SCALES.items()
    },
    **{
        f"lcnet-{width}": _classifier(
            LCNetConfig(width=width, out_stages=(4,)), hidden=1280, activation="hard-swish", dropout=0.2
        )
        for width in (0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
    },
    **{
        f"cspresnet-{variant}": _classifier(CSPResNetConfig(variant=variant, out_stages=(3,)), size=256)
        for variant in ("s", "m", "l", "x", "50")
    },
    **{f"repvgg-{variant}": _classifier(RepVGGConfig(variant=variant, out_stages=(3,))) for variant in REPVGG_SCALES},
    "xception": _classifier(XceptionConfig(out_stages=(3,)), size=299, dropout=0.5, pixels="half"),
    **{
        f"densenet-{variant}": _classifier(DenseNetConfig(variant=variant, out_stages=(3,)))
        for variant in (121, 161, 169, 201)
    },
    **{
        f"cspdensenet-121-{fusion}": _classifier(DenseNetConfig(fusion=fusion, out_stages=(3,)))
        for fusion in ("first", "last", "full")
    },
    "darknet53": _classifier(Darknet53Config(out_stages=(4,)), size=256),
}
"""Classifier configurations by name, in the order of the documentation."""
