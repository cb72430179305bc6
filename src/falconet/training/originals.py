"""How the originals trained: their settings by preset, for `falconet train PRESET --recipe original`.

Sources: RangiLyu/nanodet be9b4a9 (Apache-2.0), `config/`; PaddlePaddle/PaddleDetection 666f597 (Apache-2.0),
`configs/ppyoloe/`; bubbliiiing/yolo3-pytorch 8fbb81d (MIT), `train.py` and `utils/dataloader.py`. They are meant for
COCO or VOC, a GPU and days. What is not to be had here is listed on each model's page.
"""

from typing import Any

from falconet.models import PRESETS

_IMAGENET: dict[str, Any] = {
    "weights": "imagenet",
    "backbone_rate": 1.0,
    "norms": "batch",
    "freeze": "none",
    "validate_every": 10,
}
_SGD: dict[str, Any] = {**_IMAGENET, "optimizer": "sgd", "reference_batch": None}

_NANODET_PLUS: dict[str, Any] = {
    "train": {
        **_IMAGENET,
        "epochs": 300,
        "batch_size": 96,
        "reference_batch": 96,
        "learning_rate": 0.001,
        "warmup_steps": 500,
    },
    "criterion": {"auxiliary": "keep", "detach_epoch": 10},
}


def _nanodet(*, batch_size: int, zoom: float) -> dict[str, Any]:
    return {
        "train": {
            **_SGD,
            "epochs": 280,
            "batch_size": batch_size,
            "momentum": 0.9,
            "learning_rate": 0.14,
            "weight_decay": 0.0001,
            "warmup_steps": 300,
            "final_rate": 0.001,
            "average_decay": 0.0,
        },
        "augment": {"scale": [zoom, 1.4], "stretch": [1, 1]},
    }


def _ppyoloe(*, epochs: int, static: float, rate: float, weights: str) -> dict[str, Any]:
    return {
        "train": {
            **_SGD,
            "weights": weights,
            "epochs": epochs,
            "batch_size": 64,
            "momentum": 0.9,
            "learning_rate": rate,
            "weight_decay": 0.0005,
            "warmup_steps": 9000,
            # The cosine is that of 1.2 times as many epochs: (1 + cos(pi / 1.2)) / 2 of the peak is left.
            "final_rate": 0.067,
            "clip_gradients": None,
            "multi_scale": [0.5, 1.2],
        },
        "criterion": {"static_share": static},
        "augment": {
            "scale": [0.25, 2.0],
            "stretch": [0.8, 1.25],
            "brightness": 0.25,
            "contrast": [0.5, 1.5],
            "saturation": [0.5, 1.5],
            "hue": 18.0,
        },
    }


_YOLOV3: dict[str, Any] = {
    "train": {
        **_SGD,
        "epochs": 300,
        "batch_size": 8,
        "momentum": 0.937,
        "learning_rate": 0.00125,
        "weight_decay": 0.0005,
        "final_rate": 0.01,
        "clip_gradients": None,
        "average_decay": 0.0,
    },
    "criterion": {"kind": "classic"},
    "augment": {
        "scale": [0.25, 2.0],
        "stretch": [0.75, 1.35],
        "brightness": 0.0,
        "contrast": [0.6, 1.4],
        "saturation": [0.3, 1.7],
        "hue": 36.0,
        "colour_chance": 1.0,
    },
}


def _of(preset: str) -> dict[str, Any] | None:
    if preset == "nanodet-plus-demo":
        return None
    if preset.startswith("nanodet-plus-"):
        return _NANODET_PLUS
    if preset.startswith("nanodet-m-"):
        return _nanodet(batch_size=176 if preset == "nanodet-m-1.5x" else 192, zoom=0.6 if "320" in preset else 0.5)
    if preset.startswith("ppyoloe-plus-t"):
        original = _ppyoloe(epochs=300, static=0.333, rate=0.01, weights="imagenet")
        original["criterion"] |= {"auxiliary": "keep", "close_places": True}
        return original
    if preset.startswith("ppyoloe-plus-"):
        # Its authors start from Objects365, which nobody publishes in a form of ours; COCO's weights are the nearest.
        return _ppyoloe(epochs=80, static=0.375, rate=0.001, weights=f"{preset}-coco")
    if preset.startswith("ppyoloe-"):
        return _ppyoloe(epochs=300, static=0.333, rate=0.01, weights="imagenet")
    return _YOLOV3 if preset in ("yolov3-darknet53", "yolov3-spp", "yolov3-mobilenet-v2") else None


ORIGINALS: dict[str, dict[str, Any]] = {preset: original for preset in PRESETS if (original := _of(preset)) is not None}
"""Settings of the originals, as `falconet.training.recipes.RECIPES`."""
